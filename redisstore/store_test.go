package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/redisstore"
)

var (
	_ authtrip.Store       = (*redisstore.Store)(nil)
	_ authtrip.Leaser      = (*redisstore.Store)(nil)
	_ authtrip.Expirer     = (*redisstore.Store)(nil)
	_ authtrip.Watcher     = (*redisstore.Store)(nil)
	_ authtrip.KeysWatcher = (*redisstore.Store)(nil)
	_ authtrip.Cache       = (*redisstore.Cache)(nil)
)

func save(t testing.TB, s *redisstore.Store, key, value, version string) string {
	t.Helper()
	next, err := s.Save(t.Context(), key, []byte(value), version)
	if err != nil {
		t.Fatalf("Save: %v", err)
	}
	return next
}

func load(t testing.TB, s *redisstore.Store) (value, version string) {
	t.Helper()
	b, version, err := s.Load(t.Context(), "key")
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return string(b), version
}

// lease takes a lease that is free, or is to be soon.
func lease(t testing.TB, s *redisstore.Store, key string, ttl time.Duration) func(context.Context) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	release, err := s.Lease(ctx, key, ttl)
	if err != nil {
		t.Fatalf("Lease: %v", err)
	}
	return release
}

// wantHeld checks that somebody holds the lease of key.
func wantHeld(t testing.TB, s *redisstore.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Lease(ctx, "key", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lease: %v, want that it waits", err)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	authtriptest.TestStore(t, func(t *testing.T) authtrip.Store { return newStore(t) })
}

func TestLeaser(t *testing.T) {
	t.Parallel()
	authtriptest.TestLeaser(t, func(t *testing.T) authtrip.Store { return newStore(t) })
}

func TestWatcher(t *testing.T) {
	t.Parallel()
	authtriptest.TestWatcher(t, func(t *testing.T) authtrip.Store { return newStore(t) })
}

// TestTTLOfSaveFor: the server has it, so that it drops what nobody asks for again,
// and a Save takes it away.
func TestTTLOfSaveFor(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ttl := func(s *redisstore.Store, save func() (string, error)) (version string, left time.Duration) {
		t.Helper()
		version, err := save()
		if err != nil {
			t.Fatal(err)
		}
		key := s.Client.Keys(t.Context(), s.Prefix+"*").Val()[0]
		return version, s.Client.PTTL(t.Context(), key).Val()
	}
	version, left := ttl(s, func() (string, error) { return s.SaveFor(t.Context(), "key", nil, "", time.Hour) })
	if left < 59*time.Minute || left > time.Hour {
		t.Errorf("ttl after SaveFor = %v, want 1h", left)
	}
	version, left = ttl(s, func() (string, error) { return s.Save(t.Context(), "key", nil, version) })
	if left != -1 {
		t.Errorf("ttl after Save = %v, want none", left)
	}
	s = &redisstore.Store{Client: s.Client, Prefix: s.Prefix, TTL: time.Minute}
	version, left = ttl(s, func() (string, error) { return s.SaveFor(t.Context(), "key", nil, version, time.Hour) })
	if left < 59*time.Minute {
		t.Errorf("ttl after SaveFor with a Store.TTL = %v, want its own of 1h", left)
	}
	_, left = ttl(s, func() (string, error) { return s.Save(t.Context(), "key", nil, version) })
	if left > time.Minute {
		t.Errorf("ttl after Save with a Store.TTL = %v, want 1m", left)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	authtriptest.TestCache(t, func(t *testing.T) authtrip.Cache {
		s := newStore(t)
		return &redisstore.Cache{Client: s.Client, Prefix: s.Prefix}
	}, func(d time.Duration) { <-time.After(d) })
}

func TestClientIsRequired(t *testing.T) {
	t.Parallel()
	var (
		s redisstore.Store
		c redisstore.Cache
	)
	_, _, err := s.Load(t.Context(), "key")
	_, err2 := s.Lease(t.Context(), "key", time.Second)
	_, err3 := s.Watch(t.Context(), "key")
	for _, err := range []error{err, err2, err3} {
		if err == nil || !strings.Contains(err.Error(), "Store.Client") {
			t.Errorf("error = %v, want one that names Store.Client", err)
		}
	}
	if _, err := c.Get(t.Context(), "key"); err == nil || !strings.Contains(err.Error(), "Cache.Client") {
		t.Errorf("error = %v, want one that names Cache.Client", err)
	}
}

// counter counts the commands that go to a server.
type counter struct{ n int }

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n++
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestRoundTrips: what a refresh costs is a sum of these.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c := &redisstore.Cache{Client: s.Client, Prefix: s.Prefix}
	version := ""
	var release func(context.Context) error
	steps := []struct {
		name string
		f    func() error
	}{
		{"Save", func() (err error) { version, err = s.Save(t.Context(), "key", []byte("value"), version); return err }},
		{"Load", func() error { _, _, err := s.Load(t.Context(), "key"); return err }},
		{"Lease", func() (err error) { release, err = s.Lease(t.Context(), "key", time.Minute); return err }},
		{"release", func() error { return release(t.Context()) }},
		{"Delete", func() (err error) { err = s.Delete(t.Context(), "key", version); version = ""; return err }},
		{"Cache.Set", func() error { return c.Set(t.Context(), "key", []byte("value"), time.Minute) }},
		{"Cache.Get", func() error { _, err := c.Get(t.Context(), "key"); return err }},
		{"Cache.Take", func() error { _, err := c.Take(t.Context(), "key"); return err }},
	}
	for _, step := range steps { // the server gets to know the scripts
		if err := step.f(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	var count counter
	s.Client.AddHook(&count)
	for _, step := range steps {
		count.n = 0
		if err := step.f(); err != nil || count.n != 1 {
			t.Errorf("%s took %d round trips (%v), want 1", step.name, count.n, err)
		}
	}
}

// TestForgottenScripts: a server that was restarted, or another one.
func TestForgottenScripts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	version := save(t, s, "key", "one", "")
	if err := s.Client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	version = save(t, s, "key", "two", version)
	if value, at := load(t, s); value != "two" || at != version {
		t.Errorf("Load = %q, %q, want two, %q", value, at, version)
	}
}

func TestKeysSayNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c := &redisstore.Cache{Client: s.Client, Prefix: s.Prefix}
	const user = "alice@example.com"
	save(t, s, user, "value", "")
	defer func() { _ = lease(t, s, user, time.Minute)(t.Context()) }()
	if err := c.Set(t.Context(), user, []byte("value"), time.Minute); err != nil {
		t.Fatal(err)
	}
	keys, err := s.Client.Keys(t.Context(), s.Prefix+"*").Result()
	if err != nil || len(keys) != 2 {
		t.Fatalf("keys = %q, %v, want two", keys, err)
	}
	for _, key := range keys {
		if strings.Contains(key, "alice") {
			t.Errorf("the key %s names a user", key)
		}
		tag, _, ok := strings.Cut(strings.TrimPrefix(key, s.Prefix+"{"), "}:")
		if !ok || !strings.Contains(keys[0], "{"+tag+"}") {
			t.Errorf("the keys %q are not in one slot", keys)
		}
	}
}

func TestTTLOfRecords(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ttl := func() time.Duration {
		t.Helper()
		keys, err := s.Client.Keys(t.Context(), s.Prefix+"*").Result()
		if err != nil || len(keys) != 1 {
			t.Fatalf("keys = %q, %v, want one", keys, err)
		}
		return s.Client.PTTL(t.Context(), keys[0]).Val()
	}
	version := save(t, s, "key", "one", "")
	if got := ttl(); got != -1 {
		t.Errorf("ttl of a record = %v, want none", got)
	}
	s = &redisstore.Store{Client: s.Client, Prefix: s.Prefix, TTL: time.Hour}
	version = save(t, s, "key", "two", version)
	if got := ttl(); got < 59*time.Minute || got > time.Hour {
		t.Errorf("ttl of a record = %v, want 1h", got)
	}
	s = &redisstore.Store{Client: s.Client, Prefix: s.Prefix, TTL: 1}
	version = save(t, s, "key", "three", version)
	err := until(func() error {
		if _, _, err := s.Load(t.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
			return fmt.Errorf("Load after the ttl: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := s.Save(t.Context(), "key", nil, version); !errors.Is(err, authtrip.ErrConflict) {
		t.Errorf("Save over a record that has ended: %v, want ErrConflict", err)
	}
}

// TestForeignValue: somebody else's value under the key is not a record.
func TestForeignValue(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	save(t, s, "key", "value", "")
	key := s.Client.Keys(t.Context(), s.Prefix+"*").Val()[0]
	if err := s.Client.Set(t.Context(), key, "short", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Load(t.Context(), "key"); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("Load: %v, want an error that names %s", err, key)
	}
	if _, err := s.Save(t.Context(), "key", nil, ""); !errors.Is(err, authtrip.ErrConflict) {
		t.Errorf("Save: %v, want ErrConflict", err)
	}
}

func TestLease(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	release := lease(t, s, "key", time.Hour)
	wantHeld(t, s)
	_ = lease(t, s, "another key", time.Hour)(t.Context())
	for range 2 {
		if err := release(t.Context()); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	_ = lease(t, s, "key", time.Hour)(t.Context())
}

// TestPain05LateReleaseFreesNobodyElsesLease: a holder was stopped for longer
// than its lease.
func TestPain05LateReleaseFreesNobodyElsesLease(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	late := lease(t, s, "key", 20*time.Millisecond)
	release := lease(t, s, "key", time.Hour)
	if err := late(t.Context()); err != nil {
		t.Errorf("late release: %v", err)
	}
	wantHeld(t, s)
	_ = release(t.Context())
	_ = lease(t, s, "key", time.Hour)(t.Context())
}

// TestLeaseEnds: the wait is not longer than what is left.
func TestLeaseEnds(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, ttl := range []time.Duration{0, time.Nanosecond, 30 * time.Millisecond} {
		lease(t, s, "key", ttl)
	}
	begin := time.Now()
	lease(t, s, "key", time.Hour)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a lease of 30ms was waited for %v", took)
	}
}

func BenchmarkStore(b *testing.B) {
	value := strings.Repeat("x", 2000)
	b.Run("load", func(b *testing.B) {
		s := newStore(b)
		save(b, s, "key", value, "")
		b.ReportAllocs()
		for b.Loop() {
			load(b, s)
		}
	})
	b.Run("save", func(b *testing.B) {
		s := newStore(b)
		version := ""
		b.ReportAllocs()
		for b.Loop() {
			version = save(b, s, "key", value, version)
		}
	})
	b.Run("lease", func(b *testing.B) {
		s := newStore(b)
		b.ReportAllocs()
		for b.Loop() {
			_ = lease(b, s, "key", time.Minute)(b.Context())
		}
	})
	b.Run("base", func(b *testing.B) { // one round trip of the client
		s := newStore(b)
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Client.Ping(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
