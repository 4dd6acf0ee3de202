package authtriptest_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// badExpirer is a store whose SaveFor has one mistake, named by bug; without one
// it is right.
type badExpirer struct {
	bug   string
	mu    sync.Mutex
	store *authtrip.MemoryStore
	ends  map[string]time.Time
	alias map[string][]byte
}

func newBadExpirer(bug string) *badExpirer {
	return &badExpirer{
		bug: bug, store: new(authtrip.MemoryStore),
		ends: map[string]time.Time{}, alias: map[string][]byte{},
	}
}

func (s *badExpirer) Load(ctx context.Context, key string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, version, err := s.store.Load(ctx, key)
	if err == nil && s.bug == "keeps the given slice" {
		value = append([]byte{}, s.alias[key]...)
	}
	return value, version, err
}

func (s *badExpirer) Delete(ctx context.Context, key, version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.Delete(ctx, key, version)
}

func (s *badExpirer) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startAnew(version)
	if end, ok := s.ends[key]; ok && s.bug == "drops what was saved since" {
		return s.store.SaveFor(ctx, key, value, version, time.Until(end))
	}
	return s.store.Save(ctx, key, value, version)
}

// startAnew is the mistake of a counter that is kept in the row.
func (s *badExpirer) startAnew(version string) {
	if s.bug == "versions start anew" && version == "" {
		s.store = new(authtrip.MemoryStore)
	}
}

func (s *badExpirer) SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startAnew(version)
	switch {
	case s.bug == "does not compare":
		_, version, _ = s.store.Load(ctx, key)
	case s.bug == "drops early":
		ttl /= 2
	case s.bug == "overflows" && ttl == math.MaxInt64:
		ttl = 1
	case s.bug == "takes any ttl" && ttl <= 0:
		return s.store.Save(ctx, key, value, version)
	case s.bug == "ignores the context":
		ctx = context.WithoutCancel(ctx)
	case s.bug == "keeps the first end":
		if end, ok := s.ends[key]; ok {
			ttl = time.Until(end)
		}
	case s.bug == "saves before it looks at the ttl" && ttl <= 0:
		_, _ = s.store.Save(ctx, key, value, version)
	}
	s.ends[key], s.alias[key] = time.Now().Add(ttl), value
	return s.store.SaveFor(ctx, key, value, version, ttl)
}

func TestStoreFindsMistakesOfSaveFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ bug, check string }{
		{"does not compare", "SaveFor/Saves"},
		{"does not compare", "SaveFor/OneOfManyCreates"},
		{"drops early", "SaveFor/KeepsForItsTTL"},
		{"drops what was saved since", "SaveFor/LastSaveCounts"},
		{"keeps the first end", "SaveFor/LastSaveCounts"},
		{"overflows", "SaveFor/LastSaveCounts"},
		{"versions start anew", "SaveFor/VersionsNeverComeBack"},
		{"takes any ttl", "SaveFor/TTLIsRequired"},
		{"saves before it looks at the ttl", "SaveFor/TTLIsRequired"},
		{"keeps the given slice", "SaveFor/ValuesAreCopied"},
		{"ignores the context", "SaveFor/CancelledContext"},
	} {
		t.Run(tt.bug+"/"+tt.check, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if fails(t, func(tb testing.TB) { authtriptest.CheckStore(tb, tt.check, newBadExpirer("")) }) {
					t.Error("a store without a mistake fails")
				}
				if !fails(t, func(tb testing.TB) { authtriptest.CheckStore(tb, tt.check, newBadExpirer(tt.bug)) }) {
					t.Error("the mistake was not found")
				}
			})
		})
	}
}

// unable is a store around one that cannot do more than a Store.
type unable struct{ authtrip.MemoryStore }

func (*unable) SaveFor(context.Context, string, []byte, string, time.Duration) (string, error) {
	return "", errors.ErrUnsupported
}

// TestStoreNeedNotExpire: one that says that it cannot, or may keep a record for
// longer, is right.
func TestStoreNeedNotExpire(t *testing.T) {
	t.Parallel()
	authtriptest.TestStore(t, func(*testing.T) authtrip.Store { return new(unable) })
	synctest.Test(t, func(t *testing.T) {
		authtriptest.CheckStore(t, "SaveFor/VersionsNeverComeBack", &keeper{})
		authtriptest.CheckStore(t, "SaveFor/KeepsForItsTTL", &keeper{})
	})
}

// keeper drops records an hour late.
type keeper struct{ authtrip.MemoryStore }

func (k *keeper) SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	return k.MemoryStore.SaveFor(ctx, key, value, version, ttl+time.Hour)
}
