package authtrip_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestUserInfoIsSharedThroughACache(t *testing.T) {
	cache := &spyCache{}
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache = cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		wait(time.Minute)
		second := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Cache = cache })
		wantUser(t, second, "alice")
		r.wantFetches(t, 1)
		// It does not live longer for being shared.
		wait(4*time.Minute + time.Second)
		wantUser(t, second, "alice")
		r.wantFetches(t, 2)
	})
}

func TestCachedUserInfoIsNotOlderThanTheReadersTTL(t *testing.T) {
	cache := &spyCache{}
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = cache, time.Hour }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		wait(10 * time.Minute)
		wantUser(t, newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = cache, time.Minute }), "alice")
		r.wantFetches(t, 2)
	})
}

func TestUserInfoInACacheEndsWithTheToken(t *testing.T) {
	cache := &spyCache{}
	inBubble(t, rotating(time.Minute), nil, func(t *testing.T, r *rig) {
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = cache, time.Hour })
		wantUser(t, info, "alice")
		if ttl := cache.longest(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("ttl in the Cache = %v, want the token's minute at most", ttl)
		}
	})
}

func TestPain24KeysInTheCacheSayNothing(t *testing.T) {
	cache := &spyCache{}
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache, u.Issuer = cache, asURL }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		keys := cache.keys()
		if len(keys) != 1 {
			t.Fatalf("%d keys, want 1", len(keys))
		}
		for _, secret := range []string{r.src.Initial.AccessToken, "alice", "as.example"} {
			if strings.Contains(keys[0], secret) {
				t.Errorf("the key %q holds %q", keys[0], secret)
			}
		}
		for _, doc := range cache.values() {
			if strings.Contains(doc, r.src.Initial.AccessToken) {
				t.Error("the value holds the access token")
			}
		}
	})
}

func TestUserInfoDoesWithoutACacheThatFails(t *testing.T) {
	down := errors.New("connection refused")
	for name, c := range map[string]struct {
		cache authtrip.Cache
		took  time.Duration // at most
		says  bool
	}{
		"fails":           {&oddCache{err: down}, 0, true},
		"hangs":           {&oddCache{hang: true}, 2 * time.Second, true},
		"holds nonsense":  {&oddCache{value: "\x00\x01"}, 0, false},
		"holds nothing":   {&oddCache{value: ""}, 0, false},
		"later format":    {&oddCache{value: `{"format":99,"iss":"https://as.example","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`}, 0, false},
		"no claims":       {&oddCache{value: `{"format":1,"iss":"https://as.example","sub":"alice","fetched_at":"2000-01-01T00:00:00Z"}`}, 0, false},
		"another user":    {&oddCache{value: `{"format":1,"iss":"https://as.example","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"mallory"}}`}, 0, false},
		"the whole past":  {&oddCache{value: `{"format":1,"iss":"https://as.example","sub":"alice","fetched_at":"1999-01-01T00:00:00Z","claims":{"sub":"alice"}}`}, 0, false},
		"in capitals":     {&oddCache{value: `{"format":1,"iss":"https://as.example","SUB":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`}, 0, false},
		"two subjects":    {&oddCache{value: `{"format":1,"iss":"https://as.example","sub":"mallory","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`}, 0, false},
		"two claims":      {&oddCache{value: `{"format":1,"iss":"https://as.example","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"mallory"},"claims":{"sub":"alice"}}`}, 0, false},
		"from the future": {&oddCache{value: `{"format":1,"iss":"https://as.example","sub":"alice","fetched_at":"2999-01-01T00:00:00Z","claims":{"sub":"alice"}}`}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = c.cache, 24*time.Hour }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				start := time.Now() // midnight of the first of January 2000
				wantUser(t, info, "alice")
				if d := time.Since(start); d > c.took {
					t.Errorf("it took %v, want %v at most", d, c.took)
				}
				r.wantFetches(t, 1)
				wantUser(t, info, "alice")
				r.wantFetches(t, 1)
				said := r.events.count(authtrip.EventUserInfoCacheFailed) > 0
				if said != c.says {
					t.Errorf("operators were told: %v, want %v (%v)", said, c.says, r.events.kinds())
				}
			})
		})
	}
}

func TestGoodDocumentInACacheIsUsed(t *testing.T) {
	// What the test above holds against: the same document with nothing wrong.
	cache := &oddCache{value: `{"format":1,"iss":"https://as.example","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`}
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache = cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		r.wantFetches(t, 0)
	})
}

// spyCache is a Cache that a test can look into.
type spyCache struct {
	authtrip.MemoryCache

	mu  sync.Mutex
	all map[string]string
	ttl time.Duration // the longest
}

func (s *spyCache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[string]string)
	}
	s.all[key] = string(value)
	s.ttl = max(s.ttl, ttl)
	return s.MemoryCache.Set(ctx, key, value, ttl)
}

func (s *spyCache) len() int { return len(s.keys()) }

func (s *spyCache) keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for k := range s.all {
		keys = append(keys, k)
	}
	return keys
}

func (s *spyCache) values() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var values []string
	for _, v := range s.all {
		if !json.Valid([]byte(v)) {
			v = "not JSON: " + v
		}
		values = append(values, v)
	}
	return values
}

func (s *spyCache) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ttl
}

// oddCache fails, hangs, or holds one value under every key.
type oddCache struct {
	err   error
	hang  bool
	value string
}

func (o *oddCache) do(ctx context.Context) error {
	if o.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return o.err
}

func (o *oddCache) Get(ctx context.Context, _ string) ([]byte, error) {
	return []byte(o.value), o.do(ctx)
}

func (o *oddCache) Set(ctx context.Context, _ string, _ []byte, _ time.Duration) error {
	return o.do(ctx)
}

func (o *oddCache) Take(ctx context.Context, _ string) ([]byte, error) {
	return []byte(o.value), o.do(ctx)
}

// TestCachedUserInfoIsOfTheEndpointThatWasFound: the key held URL, which is empty where
// FindURL is set, so that one endpoint's answer was taken for another's.
func TestCachedUserInfoIsOfTheEndpointThatWasFound(t *testing.T) {
	cache := &spyCache{}
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		const other = "https://other.example"
		r.net.Handle(other, r.srv)
		for i, c := range []struct {
			url   string // that is set
			found string // by FindURL
			want  int    // fetches of all so far
		}{
			{"", userInfoURL, 1},
			{"", userInfoURL, 1},
			{"", other + authtriptest.UserInfoPath, 2},
			{userInfoURL, "", 2}, // it is the first one, however it is known
		} {
			info := newInfo(t, r, func(u *authtrip.UserInfoSource) {
				u.Cache, u.URL = cache, c.url
				if c.found != "" {
					u.FindURL = func(context.Context) (string, error) { return c.found, nil }
				}
			})
			wantUser(t, info, "alice")
			if got := r.srv.Counts().UserInfo; got != c.want {
				t.Errorf("%d: user info requests = %d, want %d", i, got, c.want)
			}
		}
	})
}
