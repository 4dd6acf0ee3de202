package authtriptest

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
)

// TestCache checks, in subtests, that a cache keeps the promises of
// [authtrip.Cache]. newCache is called once for each subtest and returns an
// empty cache, which it may let t clean up. A cache may lose what it holds, but
// the suite expects that it has room for fifty values and two megabytes.
//
// wait lets at least d pass for the cache, a tenth of a second each time:
// [time.Sleep], or what makes the clock of a fake server advance. If nil, the
// subtests run in [synctest.Test] bubbles, where time passes by itself: that is
// for caches in memory, and lets the suite check the end of a value exactly.
func TestCache(t *testing.T, newCache func(t *testing.T) authtrip.Cache, wait func(d time.Duration)) {
	t.Helper()
	for _, c := range cacheChecks() {
		t.Run(c.name, func(t *testing.T) {
			if wait != nil {
				c.run(t, cacheSubject{newCache(t), wait, false})
				return
			}
			synctest.Test(t, func(t *testing.T) {
				c.run(t, cacheSubject{newCache(t), time.Sleep, true})
			})
		})
	}
}

// cacheSubject is the cache under test.
type cacheSubject struct {
	authtrip.Cache
	wait  func(d time.Duration)
	exact bool // time passes only in wait
}

// cacheCheck is one subtest of TestCache.
type cacheCheck struct {
	name string
	run  func(tb testing.TB, c cacheSubject)
}

func cacheChecks() []cacheCheck {
	return []cacheCheck{
		{"Missing", cacheMissing},
		{"SetAndGet", cacheSet},
		{"SetReplaces", cacheReplace},
		{"ValuesEnd", cacheExpiry},
		{"SetReplacesTheEnd", cacheNewExpiry},
		{"NoTTLRemoves", cacheNoTTL},
		{"Take", cacheTake},
		{"OneOfManyTakes", cacheTakeRace},
		{"ValuesAreCopied", cacheCopies},
		{"Keys", cacheKeys},
		{"Values", cacheValues},
		{"CancelledContext", cacheCancelled},
	}
}

// tick is a ttl that passes soon. A test that needs a value to be there gives
// it keep instead.
const (
	tick = 50 * time.Millisecond
	keep = time.Hour
)

func cacheMissing(tb testing.TB, c cacheSubject) {
	wantNothing(tb, c, "key")
	if _, err := c.Take(tb.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
		tb.Errorf("Take: %v, want ErrNotFound", err)
	}
}

func cacheSet(tb testing.TB, c cacheSubject) {
	mustSet(tb, c, "key", "one", keep)
	for range 2 {
		wantValue(tb, c, "key", "one")
	}
	wantNothing(tb, c, "key2")
}

func cacheReplace(tb testing.TB, c cacheSubject) {
	mustSet(tb, c, "key", "one", keep)
	mustSet(tb, c, "key", "two", keep)
	wantValue(tb, c, "key", "two")
}

func cacheExpiry(tb testing.TB, c cacheSubject) {
	mustSet(tb, c, "key", "one", tick)
	mustSet(tb, c, "key2", "two", tick)
	mustSet(tb, c, "key3", "three", keep)
	if c.exact {
		c.wait(tick - time.Millisecond)
		wantValue(tb, c, "key", "one")
		c.wait(2 * time.Millisecond)
	} else {
		c.wait(2 * tick)
	}
	wantNothing(tb, c, "key")
	if _, err := c.Take(tb.Context(), "key2"); !errors.Is(err, authtrip.ErrNotFound) {
		tb.Errorf("Take after the end: %v, want ErrNotFound", err)
	}
	wantValue(tb, c, "key3", "three")
}

func cacheNewExpiry(tb testing.TB, c cacheSubject) {
	mustSet(tb, c, "longer", "one", tick)
	mustSet(tb, c, "longer", "two", keep)
	mustSet(tb, c, "shorter", "one", keep)
	mustSet(tb, c, "shorter", "two", tick)
	c.wait(2 * tick)
	wantValue(tb, c, "longer", "two")
	wantNothing(tb, c, "shorter")
	mustSet(tb, c, "shorter", "three", keep)
	wantValue(tb, c, "shorter", "three")
}

func cacheNoTTL(tb testing.TB, c cacheSubject) {
	for _, ttl := range []time.Duration{0, -1, -time.Hour} {
		mustSet(tb, c, "key", "one", keep)
		mustSet(tb, c, "key", "two", ttl)
		wantNothing(tb, c, "key")
		mustSet(tb, c, "missing", "two", ttl)
		wantNothing(tb, c, "missing")
	}
}

func cacheTake(tb testing.TB, c cacheSubject) {
	mustSet(tb, c, "key", "one", keep)
	mustSet(tb, c, "key2", "two", keep)
	got, err := c.Take(tb.Context(), "key")
	if err != nil || string(got) != "one" {
		tb.Errorf("Take = %q, %v, want one", got, err)
	}
	if _, err := c.Take(tb.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
		tb.Errorf("second Take: %v, want ErrNotFound", err)
	}
	wantNothing(tb, c, "key")
	wantValue(tb, c, "key2", "two")
	mustSet(tb, c, "key", "again", keep)
	wantValue(tb, c, "key", "again")
}

func cacheTakeRace(tb testing.TB, c cacheSubject) {
	for range 5 {
		mustSet(tb, c, "key", "one", keep)
		won := race(tb, func(int) error {
			got, err := c.Take(tb.Context(), "key")
			if err == nil && string(got) != "one" {
				return errors.New("value of Take is another one")
			}
			return err
		}, authtrip.ErrNotFound)
		if len(won) != 1 {
			tb.Errorf("%d goroutines took the value, want 1", len(won))
		}
	}
}

func cacheCopies(tb testing.TB, c cacheSubject) {
	given := []byte("value")
	if err := c.Set(tb.Context(), "key", given, keep); err != nil {
		tb.Fatalf("Set: %v", err)
	}
	given[0] = 'X'
	wantValue(tb, c, "key", "value")
	got, err := c.Get(tb.Context(), "key")
	if err != nil {
		tb.Fatalf("Get: %v", err)
	}
	got[0] = 'X'
	wantValue(tb, c, "key", "value")
}

func cacheKeys(tb testing.TB, c cacheSubject) {
	for i, key := range oddKeys() {
		mustSet(tb, c, key, strconv.Itoa(i), keep)
	}
	for i, key := range oddKeys() {
		wantValue(tb, c, key, strconv.Itoa(i))
	}
}

func cacheValues(tb testing.TB, c cacheSubject) {
	for _, value := range oddValues() {
		mustSet(tb, c, "key", value, keep)
		wantValue(tb, c, "key", value)
	}
}

func cacheCancelled(tb testing.TB, c cacheSubject) {
	mustSet(tb, c, "key", "one", keep)
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	_, err := c.Get(ctx, "key")
	wantCancelled(tb, "Get", err)
	_, err = c.Take(ctx, "key")
	wantCancelled(tb, "Take", err)
	wantCancelled(tb, "Set", c.Set(ctx, "key", []byte("two"), keep))
}

func mustSet(tb testing.TB, c cacheSubject, key, value string, ttl time.Duration) {
	tb.Helper()
	if err := c.Set(tb.Context(), key, []byte(value), ttl); err != nil {
		tb.Fatalf("Set of %s for %v: %v", short(key), ttl, err)
	}
}

func wantValue(tb testing.TB, c cacheSubject, key, value string) {
	tb.Helper()
	got, err := c.Get(tb.Context(), key)
	switch {
	case err != nil:
		tb.Fatalf("Get of %s: %v", short(key), err)
	case string(got) != value:
		tb.Errorf("Get of %s = %s, want %s", short(key), short(string(got)), short(value))
	}
}

func wantNothing(tb testing.TB, c cacheSubject, key string) {
	tb.Helper()
	if got, err := c.Get(tb.Context(), key); !errors.Is(err, authtrip.ErrNotFound) {
		tb.Errorf("Get of %s = %s, %v, want ErrNotFound", short(key), short(string(got)), err)
	}
}
