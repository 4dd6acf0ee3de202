package login_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

func (o *op) publishesNothing() {
	down := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handle["/.well-known/openid-configuration"] = down
	o.handle["/.well-known/oauth-authorization-server"] = down
	o.handle["/keys"] = down
}

// A program that starts again while the server's metadata and keys cannot be had goes on
// with those that it had before, and asks for nothing.
func TestMetadataAndKeysAreCarriedOverARestart(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]authtrip.Cache{
		"as they are": new(authtrip.MemoryCache),
		"sealed":      &authtrip.SealedCache{Cache: new(authtrip.MemoryCache), Keys: [][]byte{make([]byte, 32)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			start := func() *login.Client {
				c := o.client()
				c.Provider.Cache = cache
				return c
			}
			if _, err := o.run(t, start(), nil); err != nil {
				t.Fatal(err)
			}
			o.publishesNothing()
			if s, err := o.run(t, start(), nil); err != nil || s.IDToken.Subject != "alice" {
				t.Errorf("after the restart: %v", err)
			}
			if n := o.count("/keys"); n != 1 {
				t.Errorf("the keys were asked for %d times, want once", n)
			}
			c := o.client()
			if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil {
				t.Error("without a Cache the server is not missed, which this test is about")
			}
		})
	}
}

// What comes from the Cache is as old as it is: a key that was withdrawn while the program
// was away does not verify when it is back.
func TestKeysOfBeforeTheRestartAreNotNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, cache := newOP(t), new(authtrip.MemoryCache)
		c := o.client()
		c.Provider.Cache = cache
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		withdrawn := o.keys[0]
		o.sign = func(claims map[string]any) string { return o.signedBy(withdrawn, claims) }
		o.keys = []opKey{newKey(t, "k2")}
		wait(3 * time.Hour)
		c = o.client()
		c.Provider.Cache = cache
		if _, err := o.run(t, c, nil); err == nil {
			t.Error("a key that was withdrawn verifies")
		}
	})
}

// oddCache has what nobody has put there, or fails.
type oddCache struct {
	value []byte
	err   error
}

func (c oddCache) Get(context.Context, string) ([]byte, error) { return c.value, c.err }

func (c oddCache) Set(context.Context, string, []byte, time.Duration) error {
	return c.err
}

func (c oddCache) Take(context.Context, string) ([]byte, error) { return c.value, c.err }

// stuckCache answers when it is told to give up.
type stuckCache struct{}

func (stuckCache) Get(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (c stuckCache) Set(ctx context.Context, key string, _ []byte, _ time.Duration) error {
	_, err := c.Get(ctx, key)
	return err
}

func (c stuckCache) Take(ctx context.Context, key string) ([]byte, error) { return c.Get(ctx, key) }

// A Cache that fails, hangs or holds something else is as good as none.
func TestBrokenCacheOfAProvider(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]authtrip.Cache{
		"fails":          oddCache{err: errors.New("down")},
		"nonsense":       oddCache{value: []byte("{")},
		"another issuer": oddCache{value: []byte(`{"at":"2000-01-01T00:00:00Z","body":"eyJpc3N1ZXIiOiJodHRwczovL2V2aWwuZXhhbXBsZSJ9"}`)},
		"the future":     oddCache{value: []byte(`{"at":"2999-01-01T00:00:00Z","body":"e30="}`)},
		"hangs":          stuckCache{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				c := o.client()
				c.Provider.Cache = cache
				if _, err := o.run(t, c, nil); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
