package authtrip_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// secret returns a key of 32 bytes.
func secret(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// tapped is a Store that remembers under which key it was asked for, and what it
// was last given.
type tapped struct {
	authtrip.MemoryStore
	key   string
	value []byte
}

func (s *tapped) Load(ctx context.Context, key string) ([]byte, string, error) {
	s.key = key
	return s.MemoryStore.Load(ctx, key)
}

func (s *tapped) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	s.key, s.value = key, bytes.Clone(value)
	return s.MemoryStore.Save(ctx, key, value, version)
}

func (s *tapped) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	s.key = key
	return s.MemoryStore.Lease(ctx, key, ttl)
}

func (s *tapped) Watch(_ context.Context, key string) (<-chan struct{}, error) {
	s.key = key
	return make(chan struct{}), nil
}

func mustSeal(t *testing.T, s *authtrip.Sealed, key, value, version string) string {
	t.Helper()
	next, err := s.Save(t.Context(), key, []byte(value), version)
	if err != nil {
		t.Fatalf("Save: %v", err)
	}
	return next
}

func wantOpen(t *testing.T, s *authtrip.Sealed, key, value, version string) {
	t.Helper()
	got, at, err := s.Load(t.Context(), key)
	if err != nil || string(got) != value || at != version {
		t.Errorf("Load(%q) = %q, %q, %v, want %q, %q", key, got, at, err, value, version)
	}
}

func TestSealedStore(t *testing.T) {
	t.Parallel()
	for name, nameKey := range map[string][]byte{"plain names": nil, "secret names": secret(9)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newStore := func(*testing.T) authtrip.Store {
				return &authtrip.Sealed{Store: new(authtrip.MemoryStore), Keys: [][]byte{secret(1)}, NameKey: nameKey}
			}
			t.Run("Store", func(t *testing.T) { authtriptest.TestStore(t, newStore) })
			t.Run("Leaser", func(t *testing.T) { authtriptest.TestLeaser(t, newStore) })
			t.Run("Watcher", func(t *testing.T) { authtriptest.TestWatcher(t, newStore) })
		})
	}
}

func TestSealedCache(t *testing.T) {
	t.Parallel()
	authtriptest.TestCache(t, func(*testing.T) authtrip.Cache {
		return &authtrip.SealedCache{Cache: new(authtrip.MemoryCache), Keys: [][]byte{secret(1)}, NameKey: secret(9)}
	}, nil)
}

func TestSealedConfiguration(t *testing.T) {
	t.Parallel()
	store, cache := new(authtrip.MemoryStore), new(authtrip.MemoryCache)
	good, short := [][]byte{secret(1)}, [][]byte{secret(1), []byte("short")}
	for _, tt := range []struct {
		name string
		say  string
		s    authtrip.Sealed
		c    authtrip.SealedCache
	}{
		{"nothing to keep values in", " is nil", authtrip.Sealed{Keys: good}, authtrip.SealedCache{Keys: good}},
		{"no keys", "Keys is empty", authtrip.Sealed{Store: store}, authtrip.SealedCache{Cache: cache}},
		{"short key", "Keys[1] has 5 bytes, want 32", authtrip.Sealed{Store: store, Keys: short}, authtrip.SealedCache{Cache: cache, Keys: short}},
		{
			"short name key", "NameKey has 1 bytes, want 32",
			authtrip.Sealed{Store: store, Keys: good, NameKey: []byte("x")},
			authtrip.SealedCache{Cache: cache, Keys: good, NameKey: []byte("x")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := tt.s.Load(t.Context(), "key")
			_, err2 := tt.s.Save(t.Context(), "key", nil, "")
			_, err3 := tt.s.Lease(t.Context(), "key", time.Second)
			_, err4 := tt.s.Watch(t.Context(), "key")
			_, err5 := tt.c.Get(t.Context(), "key")
			_, err6 := tt.c.Take(t.Context(), "key")
			for _, err := range []error{
				err, err2, err3, err4, err5, err6,
				tt.s.Delete(t.Context(), "key", ""), tt.c.Set(t.Context(), "key", nil, time.Second),
			} {
				if err == nil || !strings.Contains(err.Error(), tt.say) || !strings.HasPrefix(err.Error(), "authtrip: Sealed") {
					t.Errorf("error = %v, want one with %q", err, tt.say)
				}
			}
		})
	}
}

// TestPain25SealedShowsNothing: neither values nor keys are in the store.
func TestPain25SealedShowsNothing(t *testing.T) {
	t.Parallel()
	inner := new(tapped)
	s := &authtrip.Sealed{Store: inner, Keys: [][]byte{secret(1)}}
	first := mustSeal(t, s, "alice", "the token", "")
	one := inner.value
	mustSeal(t, s, "alice", "the token", first)
	for what, b := range map[string]string{"key": inner.key, "value": string(inner.value)} {
		if strings.Contains(b, "alice") || strings.Contains(b, "token") {
			t.Errorf("%s = %q, want nothing readable", what, b)
		}
	}
	if bytes.Equal(one, inner.value) {
		t.Error("one value was sealed twice with the same result")
	}
	plain := inner.key
	s = &authtrip.Sealed{Store: inner, Keys: s.Keys, NameKey: secret(9)}
	mustSeal(t, s, "alice", "the token", "")
	if inner.key == plain {
		t.Error("the key of a record does not depend on NameKey")
	}
}

func TestSealedKeysRotate(t *testing.T) {
	t.Parallel()
	inner := new(tapped)
	with := func(keys ...byte) *authtrip.Sealed {
		s := &authtrip.Sealed{Store: inner, NameKey: secret(9)}
		for _, k := range keys {
			s.Keys = append(s.Keys, secret(k))
		}
		return s
	}
	version := mustSeal(t, with(1), "key", "one", "")
	wantOpen(t, with(1, 2), "key", "one", version)
	wantOpen(t, with(2, 1), "key", "one", version)
	if _, _, err := with(2).Load(t.Context(), "key"); !errors.Is(err, authtrip.ErrSealed) {
		t.Errorf("Load without the key: %v, want ErrSealed", err)
	}
	version = mustSeal(t, with(2, 1), "key", "two", version)
	wantOpen(t, with(2), "key", "two", version)
	if _, _, err := with(1).Load(t.Context(), "key"); !errors.Is(err, authtrip.ErrSealed) {
		t.Errorf("Load with the old key after a Save: %v, want ErrSealed", err)
	}
}

// TestSealedKeepsWhatDoesNotOpen: a wrong key is a mistake that can be mended.
func TestSealedKeepsWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	inner := new(tapped)
	right := &authtrip.Sealed{Store: inner, Keys: [][]byte{secret(1)}}
	wrong := &authtrip.Sealed{Store: inner, Keys: [][]byte{secret(2)}}
	version := mustSeal(t, right, "key", "value", "")
	value, at, err := wrong.Load(t.Context(), "key")
	if !errors.Is(err, authtrip.ErrSealed) || errors.Is(err, authtrip.ErrNotFound) || value != nil || at != version {
		t.Errorf("Load = %q, %q, %v, want no value, the version and ErrSealed", value, at, err)
	}
	if _, err := wrong.Save(t.Context(), "key", []byte("new"), ""); !errors.Is(err, authtrip.ErrConflict) {
		t.Errorf("Save: %v, want ErrConflict", err)
	}
	wantOpen(t, right, "key", "value", version)
}

func TestSealedNoticesChanges(t *testing.T) {
	t.Parallel()
	inner := new(tapped)
	s := &authtrip.Sealed{Store: inner, Keys: [][]byte{secret(1)}}
	version := mustSeal(t, s, "mallory", "her token", "")
	hers := inner.value
	version2 := mustSeal(t, s, "alice", "the token", "")
	name, value := inner.key, inner.value
	put := func(what string, b []byte) {
		t.Helper()
		var err error
		if version2, err = inner.MemoryStore.Save(t.Context(), name, b, version2); err != nil {
			t.Fatal(err)
		}
		if got, _, err := s.Load(t.Context(), "alice"); !errors.Is(err, authtrip.ErrSealed) {
			t.Errorf("Load of a value with %s = %q, %v, want ErrSealed", what, got, err)
		}
	}
	for i := range value {
		b := bytes.Clone(value)
		b[i] ^= 1
		put(fmt.Sprintf("byte %d changed", i), b)
		put(fmt.Sprintf("only %d bytes", i), value[:i])
	}
	put("something added", append(bytes.Clone(value), 0))
	put("another user's content", hers)
	put("content that is not sealed", []byte(`{"format":1}`))
	wantOpen(t, s, "mallory", "her token", version)
}

// TestSealedCacheIsNotAStore: what is in one does not open in the other.
func TestSealedCacheIsNotAStore(t *testing.T) {
	t.Parallel()
	inner := new(tapped)
	s := &authtrip.Sealed{Store: inner, Keys: [][]byte{secret(1)}}
	mustSeal(t, s, "key", "value", "")
	c := &authtrip.SealedCache{Cache: only(inner.value), Keys: s.Keys}
	if _, err := c.Get(t.Context(), "key"); !errors.Is(err, authtrip.ErrSealed) {
		t.Errorf("Get of a record: %v, want ErrSealed", err)
	}
}

// only is a Cache that has one value under each key.
type only []byte

func (o only) Get(context.Context, string) ([]byte, error)            { return o, nil }
func (o only) Take(context.Context, string) ([]byte, error)           { return o, nil }
func (only) Set(context.Context, string, []byte, time.Duration) error { return nil }

func TestSealedPassesOnWhatItsStoreCan(t *testing.T) {
	t.Parallel()
	inner := new(tapped)
	s := &authtrip.Sealed{Store: inner, Keys: [][]byte{secret(1)}}
	mustSeal(t, s, "key", "value", "")
	name := inner.key
	inner.key = ""
	release, err := s.Lease(t.Context(), "key", time.Minute)
	if err != nil || inner.key != name {
		t.Fatalf("Lease of %q: %v, want that of %q", inner.key, err, name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Lease(ctx, "key", time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("Lease with a cancelled context: %v, want context.Canceled", err)
	}
	if err := release(t.Context()); err != nil {
		t.Error(err)
	}
	inner.key = ""
	if _, err := s.Watch(t.Context(), "key"); err != nil || inner.key != name {
		t.Errorf("Watch of %q: %v, want that of %q", inner.key, err, name)
	}
}

// TestSealedStoreOfOneThatCanNoMore says so, and is a Store.
func TestSealedStoreOfOneThatCanNoMore(t *testing.T) {
	t.Parallel()
	s := &authtrip.Sealed{Store: leaseless{new(authtrip.MemoryStore)}, Keys: [][]byte{secret(1)}}
	if _, err := s.Lease(t.Context(), "key", time.Minute); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Lease: %v, want errors.ErrUnsupported", err)
	}
	if _, err := s.Watch(t.Context(), "key"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Watch: %v, want errors.ErrUnsupported", err)
	}
	if _, _, err := s.WatchKeys(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("WatchKeys: %v, want errors.ErrUnsupported", err)
	}
	if _, err := s.SaveFor(t.Context(), "key", nil, "", time.Hour); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SaveFor: %v, want errors.ErrUnsupported", err)
	}
	authtriptest.TestStore(t, func(*testing.T) authtrip.Store {
		return &authtrip.Sealed{Store: leaseless{new(authtrip.MemoryStore)}, Keys: [][]byte{secret(1)}}
	})
}

// TestSealedFormat: what the first version sealed stays readable, under the same
// names.
func TestSealedFormat(t *testing.T) {
	t.Parallel()
	const (
		plainName  = "_VC0p9kcO5RpjQKRD3e4gU07nAVKkv9KJ3ES4juuXNM"
		hiddenName = "SFi74yZcQZNSpsuyoiASMf5NRy4FdFU0jjWKmh6jM80"
		sealed     = "61747301ea9919f58bf20fbb000102030405060708090a0b8c22b27b26587268e1d81f48709d363648d9cdf517"
	)
	b, err := hex.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for name, nameKey := range map[string][]byte{plainName: nil, hiddenName: secret(9)} {
		inner := new(authtrip.MemoryStore)
		version, err := inner.Save(t.Context(), name, b, "")
		if err != nil {
			t.Fatal(err)
		}
		wantOpen(t, &authtrip.Sealed{Store: inner, Keys: [][]byte{secret(1)}, NameKey: nameKey}, "key", "value", version)
	}
}

func BenchmarkSealed(b *testing.B) {
	value := bytes.Repeat([]byte("x"), 2000)
	for _, bb := range []struct {
		name  string
		store authtrip.Store
	}{
		{"base", new(authtrip.MemoryStore)},
		{"sealed", &authtrip.Sealed{Store: new(authtrip.MemoryStore), Keys: [][]byte{secret(1)}, NameKey: secret(9)}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			version := ""
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if version, err = bb.store.Save(b.Context(), "key", value, version); err != nil {
					b.Fatal(err)
				}
				if _, _, err = bb.store.Load(b.Context(), "key"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
