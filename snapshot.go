package authtrip

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/wire"
)

// A snapshot is one token as it was published. It never changes, but for what
// servers said of it.
type snapshot struct {
	source    *Source // whose it is; nil if a Transport made it of a foreign token
	token     *oauth2.Token
	header    []string // the Authorization header's value; shared, cap 1
	err       error    // why there is no header
	version   string
	forgotten bool   // stands for no token: nothing but a login helps
	login     string // the record's: the same until another user may have logged in; "": not known

	generation uint64 // of the record

	born     time.Time     // with a monotonic reading: steps of the clock do no harm
	ageing   time.Duration // from born, when to renew it
	lifetime time.Duration // from born, when it ends

	refused atomic.Bool // by a server, and to be replaced

	// Of a token that replaced a refused one:
	verdict  atomic.Int32  // what its first use came to
	refusals int           // how many in a row were refused when they were new
	patience time.Duration // from born, how long it is kept if it is one of them
}

const (
	verdictUnknown int32 = iota
	verdictAccepted
	verdictRefused
)

func (s *snapshot) fresh() bool {
	return s != nil && !s.refused.Load() && time.Since(s.born) < s.ageing
}

func (s *snapshot) usable() bool {
	return s != nil && !s.refused.Load() && time.Since(s.born) < s.lifetime
}

// record returns what of the Store's record is in memory.
func (s *snapshot) record() *record {
	if s == nil {
		return nil
	}
	rec := (*record)(nil).with(s.token, s.born)
	rec.Login, rec.Generation = s.login, s.generation
	return rec
}

// judge records what the first use of a new token came to. One that was accepted
// once is a good one, whatever happens to it later.
func (snap *snapshot) judge(ok bool) {
	v := verdictRefused
	if ok {
		v = verdictAccepted
	}
	snap.verdict.CompareAndSwap(verdictUnknown, v)
}

// newSnapshot makes of a record what a request needs.
func (s *Source) newSnapshot(rec *record, version string) *snapshot {
	now := time.Now()
	snap := &snapshot{source: s, token: rec.token(), version: version, login: rec.Login, generation: rec.Generation, born: now}
	if snap.header, snap.err = authorization(snap.token); snap.err == nil {
		// The token is the header's tail: among many users, half the memory.
		snap.token.AccessToken = snap.header[0][len(bearer):]
	}
	switch {
	case rec.AccessToken == "":
	case rec.Expiry.IsZero():
		snap.ageing, snap.lifetime = math.MaxInt64, math.MaxInt64
	default:
		total := rec.Expiry.Sub(rec.ObtainedAt)
		left := rec.Expiry.Sub(now)
		// What is on its way when a token ends is refused, so it ends a little
		// before its end.
		snap.lifetime = left - min(total/20, 10*time.Second)
		snap.ageing = min(left-s.early(total), snap.lifetime)
	}
	return snap
}

// early is how long before its end a token of this lifetime is renewed.
func (s *Source) early(total time.Duration) time.Duration {
	d := min(s.EarlyRefresh, total/2)
	switch {
	case d < 0:
		return 0
	case d == 0:
		d = min(total/5, 5*time.Minute)
	}
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}

const bearer = "Bearer "

// authorization is the value of the Authorization header, built once for all
// requests. Its capacity is 1, so that nobody can append to it in place.
func authorization(tok *oauth2.Token) ([]string, error) {
	switch {
	case tok.TokenType != "" && !strings.EqualFold(tok.TokenType, "bearer"):
		return nil, fmt.Errorf("authtrip: token has type %q, want Bearer", wire.Clean(tok.TokenType))
	case tok.AccessToken == "":
		return nil, errors.New("authtrip: token has no access token")
	}
	for i := range tok.AccessToken {
		if c := tok.AccessToken[i]; c <= ' ' || c > '~' {
			return nil, fmt.Errorf("authtrip: access token has a character at position %d that no header can carry", i)
		}
	}
	return append(make([]string, 0, 1), bearer+tok.AccessToken), nil
}
