package authtriptest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestMemoryStoreLeases(t *testing.T) {
	t.Parallel()
	authtriptest.TestLeaser(t, func(*testing.T) authtrip.Store { return new(authtrip.MemoryStore) })
}

// badLeaser is a store whose leases have one mistake, named by bug; without one it
// is right.
type badLeaser struct {
	authtrip.MemoryStore

	bug   string
	mu    sync.Mutex           // guards ends
	ends  map[string]time.Time // of the leases
	owner map[string]int
	last  int
}

func (l *badLeaser) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	for l.bug == "locks the record" && l.held(key) {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return l.MemoryStore.Save(ctx, key, value, version)
}

func (l *badLeaser) held(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.ends[key])
}

// take returns the number of a new owner, or 0 if there is one.
func (l *badLeaser) take(key string, ttl time.Duration) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.ends[key]) && l.bug != "excludes nobody" {
		return 0
	}
	if l.ends == nil {
		l.ends, l.owner = map[string]time.Time{}, map[string]int{}
	}
	switch l.bug {
	case "never expires":
		ttl = 1000 * time.Hour
	case "expires early":
		ttl /= 2
	}
	l.last++
	l.ends[key], l.owner[key] = time.Now().Add(ttl), l.last
	return l.last
}

func (l *badLeaser) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	if ctx.Err() != nil && l.bug != "ignores a context that has ended" {
		return nil, ctx.Err()
	}
	switch l.bug {
	case "folds keys":
		key = strings.ToLower(key)
	case "one lease for all":
		key = ""
	}
	owner, waits := l.take(key, ttl), 0
	for ; owner == 0; owner = l.take(key, ttl) {
		done := ctx.Done()
		switch waits++; {
		case waits > 5 && l.bug == "fails instead of waiting":
			return nil, authtrip.ErrConflict
		case waits > 20 && l.bug == "forgets who waits":
			<-done
		case waits < 20_000 && l.bug == "waits on":
			done = nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-done:
			if l.bug == "takes it for one who has left" {
				go func() {
					for n := 0; n < 1000 && l.take(key, ttl) == 0; n++ {
						<-time.After(time.Millisecond)
					}
				}()
			}
			return nil, ctx.Err()
		}
	}
	if l.bug == "ends with its context" {
		context.AfterFunc(ctx, func() { _ = l.release(key, owner) })
	}
	return func(release context.Context) error {
		if l.bug == "release needs the first context" && ctx.Err() != nil {
			return ctx.Err()
		}
		return errors.Join(release.Err(), l.release(key, owner))
	}, nil
}

func (l *badLeaser) release(key string, owner int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.bug == "release does nothing":
	case l.owner[key] == owner, l.bug == "release frees anybody's":
		delete(l.ends, key)
		delete(l.owner, key)
	case l.bug == "a late release fails":
		return authtrip.ErrNotFound
	}
	return nil
}

func TestLeaserFindsMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ bug, check string }{
		{"release does nothing", "ReleaseFrees"},
		{"excludes nobody", "Exclusive"},
		{"fails instead of waiting", "Exclusive"},
		{"excludes nobody", "EveryWaiterGetsIt"},
		{"forgets who waits", "EveryWaiterGetsIt"},
		{"never expires", "Expires"},
		{"expires early", "Expires"},
		{"release frees anybody's", "LateReleaseFreesNobodyElses"},
		{"release frees anybody's", "ReleaseTwice"},
		{"a late release fails", "LateReleaseFreesNobodyElses"},
		{"a late release fails", "ReleaseTwice"},
		{"folds keys", "Keys"},
		{"one lease for all", "Keys"},
		{"ends with its context", "OutlivesItsContext"},
		{"release needs the first context", "OutlivesItsContext"},
		{"ignores a context that has ended", "CancelledContext"},
		{"waits on", "CancelledWait"},
		{"takes it for one who has left", "CancelledWait"},
		{"locks the record", "RecordIsNotLocked"},
	} {
		t.Run(tt.bug+"/"+tt.check, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if fails(t, func(tb testing.TB) { authtriptest.CheckLeaser(tb, tt.check, &badLeaser{}) }) {
					t.Error("a store without a mistake fails")
				}
				if !fails(t, func(tb testing.TB) { authtriptest.CheckLeaser(tb, tt.check, &badLeaser{bug: tt.bug}) }) {
					t.Error("the mistake was not found")
				}
				<-time.After(time.Minute) // whoever waits still, leaves
			})
		})
	}
}
