package authtriptest_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestMemoryStoreConforms(t *testing.T) {
	t.Parallel()
	authtriptest.TestStore(t, func(*testing.T) authtrip.Store { return new(authtrip.MemoryStore) })
}

func TestMemoryCacheConforms(t *testing.T) {
	t.Parallel()
	newCache := func(t *testing.T) authtrip.Cache {
		c := new(authtrip.MemoryCache)
		t.Cleanup(func() { c.Close() })
		return c
	}
	authtriptest.TestCache(t, newCache, nil)
}

// TestCacheWaitsWithTheCache checks a cache that has a clock of its own.
func TestCacheWaitsWithTheCache(t *testing.T) {
	t.Parallel()
	c := &badCache{}
	authtriptest.TestCache(t, func(*testing.T) authtrip.Cache { *c = badCache{}; return c },
		func(d time.Duration) { c.mu.Lock(); c.now += d; c.mu.Unlock() })
}

// verdict is a testing.TB that notes whether a check failed.
type verdict struct {
	testing.TB

	mu     sync.Mutex // guards failed
	failed bool
}

func (v *verdict) Helper() {}

func (v *verdict) Errorf(string, ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = true
}

func (v *verdict) Fatalf(format string, args ...any) {
	v.Errorf(format, args...)
	runtime.Goexit()
}

// fails reports whether the check finds fault.
func fails(t *testing.T, check func(tb testing.TB)) bool {
	v := &verdict{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(v)
	}()
	<-done
	return v.failed
}

// badStore is a store with one mistake, named by bug; without one it is right.
type badStore struct {
	bug     string
	mu      sync.Mutex
	values  map[string][]byte
	version map[string]string
	last    int
}

func (s *badStore) key(k string) string {
	if s.bug == "folds keys" {
		return strings.ToLower(k)
	}
	return k
}

func (s *badStore) err(ctx context.Context) error {
	if s.bug == "ignores the context" {
		return nil
	}
	return ctx.Err()
}

func (s *badStore) Load(ctx context.Context, k string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.err(ctx); err != nil {
		return nil, "", err
	}
	v, ok := s.values[s.key(k)]
	switch {
	case !ok && s.bug == "finds what is missing":
		return nil, "", nil
	case !ok:
		return nil, "", authtrip.ErrNotFound
	case s.bug == "returns its own slice":
		return v, s.version[s.key(k)], nil
	}
	return append([]byte{}, v...), s.version[s.key(k)], nil
}

func (s *badStore) Save(ctx context.Context, k string, value []byte, version string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.err(ctx); err != nil {
		return "", err
	}
	k = s.key(k)
	at, ok := s.version[k]
	ignore := s.bug == "overwrites" || s.bug == "creates over a record" && version == ""
	if at != version && !ignore {
		return "", authtrip.ErrConflict
	}
	if s.values == nil {
		s.values, s.version = map[string][]byte{}, map[string]string{}
	}
	if s.bug != "keeps the given slice" {
		value = append([]byte{}, value...)
	}
	if s.bug == "cuts values" && len(value) > 1<<16 {
		value = value[:1<<16]
	}
	s.last++
	next := strconv.Itoa(s.last)
	switch {
	case s.bug == "versions from values":
		next = fmt.Sprintf("%x", sha256.Sum256(value))
	case s.bug == "versions start anew" && ok:
		n, _ := strconv.Atoi(at)
		next = strconv.Itoa(n + 1)
	case s.bug == "versions start anew":
		next = "1"
	}
	s.values[k], s.version[k] = value, next
	return next, nil
}

func (s *badStore) Delete(ctx context.Context, k, version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.err(ctx); err != nil {
		return err
	}
	k = s.key(k)
	at, ok := s.version[k]
	switch {
	case !ok && s.bug == "deletes what is missing":
		return nil
	case !ok:
		return authtrip.ErrNotFound
	case at != version && s.bug != "deletes newer records":
		return authtrip.ErrConflict
	}
	delete(s.values, k)
	delete(s.version, k)
	return nil
}

func TestStoreFindsMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ bug, check string }{
		{"finds what is missing", "LoadMissing"},
		{"creates over a record", "CreateConflict"},
		{"creates over a record", "OneOfManyCreates"},
		{"overwrites", "SaveWithAnotherVersion"},
		{"overwrites", "NoUpdateIsLost"},
		{"deletes newer records", "DeleteWithAnotherVersion"},
		{"deletes what is missing", "DeleteMissing"},
		{"deletes what is missing", "OneOfManyDeletes"},
		{"versions from values", "VersionsNeverComeBack"},
		{"versions start anew", "VersionsNeverComeBack"},
		{"returns its own slice", "ValuesAreCopied"},
		{"keeps the given slice", "ValuesAreCopied"},
		{"folds keys", "Keys"},
		{"cuts values", "Values"},
		{"ignores the context", "CancelledContext"},
	} {
		t.Run(tt.bug+"/"+tt.check, func(t *testing.T) {
			t.Parallel()
			if fails(t, func(tb testing.TB) { authtriptest.CheckStore(tb, tt.check, &badStore{}) }) {
				t.Error("a store without a mistake fails")
			}
			bad := authtrip.Store(&badStore{bug: tt.bug})
			if tt.check == "NoUpdateIsLost" {
				bad = &slowStore{Store: bad}
			}
			if !fails(t, func(tb testing.TB) { authtriptest.CheckStore(tb, tt.check, bad) }) {
				t.Error("the mistake was not found")
			}
		})
	}
}

// slowStore lets the first two readers meet, so that a lost update is certain.
type slowStore struct {
	authtrip.Store

	once sync.Once
	mu   sync.Mutex // guards n
	n    int
	met  chan struct{}
}

func (s *slowStore) Load(ctx context.Context, k string) ([]byte, string, error) {
	value, version, err := s.Store.Load(ctx, k)
	s.once.Do(func() { s.met = make(chan struct{}) })
	s.mu.Lock()
	s.n++
	if s.n == 2 {
		close(s.met)
	}
	s.mu.Unlock()
	<-s.met
	return value, version, err
}

// badCache is a cache with one mistake, and a clock that wait moves if it is
// not in a bubble.
type badCache struct {
	bug    string
	mu     sync.Mutex
	now    time.Duration // passed by hand
	values map[string][]byte
	ends   map[string]time.Time
}

func (c *badCache) clock() time.Time { return time.Now().Add(c.now) }

func (c *badCache) Get(ctx context.Context, k string) ([]byte, error) {
	if c.bug != "ignores the context" && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[k]
	switch {
	case !ok && c.bug == "finds what is missing":
		return nil, nil
	case !ok, c.bug != "never ends" && !c.clock().Before(c.ends[k]):
		return nil, authtrip.ErrNotFound
	case c.bug == "returns its own slice":
		return v, nil
	}
	return append([]byte{}, v...), nil
}

func (c *badCache) Take(ctx context.Context, k string) ([]byte, error) {
	v, err := c.Get(ctx, k)
	if c.bug == "takes in two steps" {
		<-time.After(time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.bug != "takes in two steps" {
		if _, ok := c.values[k]; !ok {
			return nil, authtrip.ErrNotFound
		}
	}
	delete(c.values, k)
	return v, err
}

func (c *badCache) Set(ctx context.Context, k string, value []byte, ttl time.Duration) error {
	if c.bug != "ignores the context" && ctx.Err() != nil {
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values, c.ends = map[string][]byte{}, map[string]time.Time{}
	}
	if c.bug != "keeps the given slice" {
		value = append([]byte{}, value...)
	}
	_, ok := c.values[k]
	if ok && c.bug == "keeps the first value" {
		return nil
	}
	if !ok || c.bug != "keeps the first end" {
		c.ends[k] = c.clock().Add(ttl)
	}
	if ttl <= 0 && c.bug == "no ttl is for ever" {
		c.ends[k] = c.clock().Add(24 * time.Hour)
	}
	if c.bug == "ends early" {
		c.ends[k] = c.ends[k].Add(-ttl / 2)
	}
	c.values[k] = value
	return nil
}

func TestCacheFindsMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ bug, check string }{
		{"finds what is missing", "Missing"},
		{"keeps the first value", "SetReplaces"},
		{"never ends", "ValuesEnd"},
		{"ends early", "ValuesEnd"},
		{"keeps the first end", "SetReplacesTheEnd"},
		{"no ttl is for ever", "NoTTLRemoves"},
		{"takes in two steps", "OneOfManyTakes"},
		{"returns its own slice", "ValuesAreCopied"},
		{"keeps the given slice", "ValuesAreCopied"},
		{"ignores the context", "CancelledContext"},
	} {
		t.Run(tt.bug, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if fails(t, func(tb testing.TB) { authtriptest.CheckCache(tb, tt.check, &badCache{}) }) {
					t.Error("a cache without a mistake fails")
				}
				if !fails(t, func(tb testing.TB) { authtriptest.CheckCache(tb, tt.check, &badCache{bug: tt.bug}) }) {
					t.Error("the mistake was not found")
				}
			})
		})
	}
}

var _ authtrip.ContextTokenSource = (*authtriptest.Source)(nil)
