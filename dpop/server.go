package dpop

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"
)

// maxServers is how many servers are remembered.
const maxServers = 1000

// maxNonce is the longest nonce that is taken: a header has to carry it in every proof.
const maxNonce = 2048

// A place is whose nonces are shared: an origin, as an API or as an authorization server,
// which give nonces of their own (RFC 9449, section 9).
type place struct {
	scheme, host string
	resource     bool
}

func (p *prover) placeOf(req *http.Request) place {
	scheme, host := serverOf(req.URL)
	return place{scheme, host, p.resource}
}

// name is what a Cache knows a place by.
func (at place) name() string {
	role := "server"
	if at.resource {
		role = "api"
	}
	hash := sha256.Sum256([]byte(at.scheme + "://" + at.host + " " + role))
	return "dpop:" + base64.RawURLEncoding.EncodeToString(hash[:])
}

// A server is what is known of a place. It never changes.
type server struct {
	nonce string
	ahead time.Duration // of this machine's clock
	told  time.Time     // when the Cache was told last
}

func (s *server) nonceOf() string {
	if s == nil {
		return ""
	}
	return s.nonce
}

func (s *server) offset() time.Duration {
	if s == nil {
		return 0
	}
	return s.ahead
}

// servers are those that are known. The zero value is empty.
type servers struct {
	mu  sync.RWMutex
	all map[place]*server
}

func (s *servers) get(at place) *server {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all[at]
}

// change puts what f makes of a server in its place, and returns both.
func (s *servers) change(at place, f func(server) server) (before, after server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.all[at]; old != nil {
		before = *old
	}
	after = f(before)
	if s.all == nil {
		s.all = make(map[place]*server)
	}
	for other := range s.all {
		if len(s.all) < maxServers || s.all[at] != nil {
			break
		}
		delete(s.all, other)
	}
	s.all[at] = &after
	return before, after
}

// nonceFrom returns the nonce of an answer; "" if there is none, or none that can be used:
// RFC 9449, section 8.1, has its characters.
func nonceFrom(h http.Header) string {
	values := h["Dpop-Nonce"]
	if len(values) != 1 || len(values[0]) > maxNonce {
		return ""
	}
	for i := range len(values[0]) {
		if c := values[0][i]; c < '!' || c > '~' || c == '"' || c == '\\' {
			return ""
		}
	}
	return values[0]
}

const (
	// cacheTime is what a Cache may take.
	cacheTime = 250 * time.Millisecond
	// cacheEvery is how often a Cache is told of a server's nonce, and cacheLife for how
	// long it keeps it.
	cacheEvery = 10 * time.Second
	cacheLife  = time.Hour
)

// learn takes a nonce of an answer to a request that was sent with another. An answer that
// comes late, to a nonce that has been replaced since, says nothing new: taken for the
// newest, it would have the server ask each request again.
func (k *Keys) learn(at place, sent, nonce string) {
	now := time.Now()
	before, after := k.servers.change(at, func(s server) server {
		if s.nonce != "" && s.nonce != sent {
			return s
		}
		s.nonce = nonce
		if k.Cache != nil && now.Sub(s.told) >= cacheEvery {
			s.told = now
		}
		return s
	})
	if before.told.Equal(after.told) {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*cacheTime)
		defer cancel()
		_ = k.Cache.Set(ctx, at.name(), []byte(nonce), cacheLife)
	}()
}

// recall asks the Cache for the nonce of a server that is new to this process.
func (k *Keys) recall(ctx context.Context, at place) *server {
	own, cancel := context.WithTimeout(ctx, cacheTime)
	defer cancel()
	b, err := k.Cache.Get(own, at.name())
	nonce := ""
	if err != nil && ctx.Err() != nil {
		return nil // the next one asks again
	}
	if err == nil {
		nonce = nonceFrom(http.Header{"Dpop-Nonce": {string(b)}})
	}
	_, now := k.servers.change(at, func(s server) server {
		if s.nonce == "" {
			s.nonce = nonce
		}
		return s
	})
	return &now
}

const (
	// tolerance is by how much two clocks may differ: Date has whole seconds, and the
	// answer took its time.
	tolerance = 5 * time.Second
	// maxOffset is how wrong a clock is believed to be.
	maxOffset = 7 * 24 * time.Hour
)

// adjust takes the server's clock from an answer to a proof that was made at iat. It reports
// whether that was wrong.
func (k *Keys) adjust(at place, h http.Header, iat time.Time) bool {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	offset := time.Until(date)
	if offset.Abs() > maxOffset {
		return false
	}
	wrong := date.Sub(iat).Abs() > tolerance
	if wrong {
		k.servers.change(at, func(s server) server {
			s.ahead = offset
			return s
		})
	}
	return wrong
}
