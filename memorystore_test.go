package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

var (
	_ authtrip.Leaser      = (*authtrip.MemoryStore)(nil)
	_ authtrip.Expirer     = (*authtrip.MemoryStore)(nil)
	_ authtrip.Watcher     = (*authtrip.MemoryStore)(nil)
	_ authtrip.KeysWatcher = (*authtrip.MemoryStore)(nil)
)

func TestMemoryStore(t *testing.T) {
	newStore := func(*testing.T) authtrip.Store { return new(authtrip.MemoryStore) }
	t.Run("Store", func(t *testing.T) { authtriptest.TestStore(t, newStore) })
	t.Run("Leaser", func(t *testing.T) { authtriptest.TestLeaser(t, newStore) })
	t.Run("Watcher", func(t *testing.T) { authtriptest.TestWatcher(t, newStore) })
}

// saveFor saves a tombstone.
func saveFor(tb testing.TB, s authtrip.Expirer, key, version string, ttl time.Duration) string {
	tb.Helper()
	next, err := s.SaveFor(tb.Context(), key, []byte("tombstone"), version, ttl)
	if err != nil {
		tb.Fatal(err)
	}
	return next
}

// touch calls a method that has nothing to do with any record, n times.
func touch(tb testing.TB, s authtrip.Store, n int) {
	tb.Helper()
	for range n {
		if _, _, err := s.Load(tb.Context(), "nobody's"); !errors.Is(err, authtrip.ErrNotFound) {
			tb.Fatal(err)
		}
	}
}

// TestMemoryStoreForgetsAMillionLogouts: each left a tombstone under a random name
// that nobody ever asks for again, and the process grew for ever.
func TestMemoryStoreForgetsAMillionLogouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logouts := 1_000_000
		if raceEnabled { // it makes of three seconds thirty
			logouts = 100_000
		}
		s := new(authtrip.MemoryStore)
		kept, err := s.Save(t.Context(), "kept", []byte("token"), "")
		if err != nil {
			t.Fatal(err)
		}
		before, begin := heap(), time.Now()
		for i := range logouts {
			saveFor(t, s, strconv.Itoa(i), "", 24*time.Hour)
		}
		if grown := heap() - before; grown < int64(logouts)*50 {
			t.Fatalf("the heap has grown by %d bytes: the test measures something else", grown)
		}
		wait(24*time.Hour - time.Since(begin) - 1)
		touch(t, s, logouts/100)
		if _, _, err := s.Load(t.Context(), "0"); err != nil {
			t.Errorf("Load before the end of the ttl: %v", err)
		}
		wait(1)
		touch(t, s, logouts/7)
		if grown := heap() - before; grown > 1<<20 {
			t.Errorf("after a day the heap has grown by %d bytes", grown)
		}
		if _, at, err := s.Load(t.Context(), "kept"); err != nil || at != kept {
			t.Errorf("Load of a record without a ttl: %v", err)
		}
	})
}

// TestMemoryStoreStaysSmallUnderLogouts: of mixed ttls, with records that are saved
// and deleted in between, there are never many more than those that are alive.
func TestMemoryStoreStaysSmallUnderLogouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(authtrip.MemoryStore)
		before := heap()
		const alive = 1000
		for i := range 100 * alive {
			key := strconv.Itoa(i)
			version := saveFor(t, s, key, "", time.Duration(1+i%3)*alive/2*time.Second)
			if i%2 == 0 {
				version = saveFor(t, s, key, version, time.Hour)
				if err := s.Delete(t.Context(), key, version); err != nil {
					t.Fatal(err)
				}
			}
			wait(time.Second)
		}
		if grown := heap() - before; grown > alive*1000 {
			t.Errorf("the heap has grown by %d bytes for %d records", grown, alive)
		}
		runtime.KeepAlive(s)
	})
}

// TestMemoryStoreForgetsSavesThatDoNotCount: a record that is saved again and again
// is one record.
func TestMemoryStoreForgetsSavesThatDoNotCount(t *testing.T) {
	s := new(authtrip.MemoryStore)
	before, version := heap(), ""
	for range 100_000 {
		version = saveFor(t, s, "key", version, time.Hour)
	}
	if grown := heap() - before; grown > 1<<19 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	runtime.KeepAlive(s)
}

// TestMemoryStoreTTLEndsOnTime, and what is dropped is like what was deleted.
func TestMemoryStoreTTLEndsOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(authtrip.MemoryStore)
		version := saveFor(t, s, "key", "", time.Hour)
		wait(time.Hour - 1)
		if _, at, err := s.Load(t.Context(), "key"); err != nil || at != version {
			t.Errorf("Load before the end = %q, %v, want %q", at, err, version)
		}
		wait(1)
		_, _, err := s.Load(t.Context(), "key")
		wantIs(t, err, authtrip.ErrNotFound)
		_, err = s.Save(t.Context(), "key", nil, version)
		wantIs(t, err, authtrip.ErrConflict)
		wantIs(t, s.Delete(t.Context(), "key", version), authtrip.ErrNotFound)
		if next := saveFor(t, s, "key", "", time.Hour); next == version {
			t.Errorf("version %q came back", next)
		}
	})
}

// TestMemoryStoreLeavesNoWatcherBehind when its context has ended.
func TestMemoryStoreLeavesNoWatcherBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(authtrip.MemoryStore)
		before := heap()
		for i := range 20_000 {
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := s.Watch(ctx, strconv.Itoa(i)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.WatchKeys(ctx); err != nil {
				t.Fatal(err)
			}
			cancel()
			synctest.Wait()
		}
		if grown := heap() - before; grown > 2<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
		runtime.KeepAlive(s)
	})
}

// BenchmarkMemoryStoreSaveFor: a save for a while costs the same, however many
// there are.
func BenchmarkMemoryStoreSaveFor(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := new(authtrip.MemoryStore)
			for i := range n {
				saveFor(b, s, strconv.Itoa(i), "", time.Hour)
			}
			b.ReportAllocs()
			version := ""
			for b.Loop() {
				version = saveFor(b, s, "key", version, time.Hour)
			}
		})
	}
}

func TestMemoryStoreForgetsItsLeases(t *testing.T) {
	s := new(authtrip.MemoryStore)
	before := heap()
	for i := range 50_000 {
		release, err := s.Lease(t.Context(), strconv.Itoa(i), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := heap() - before; got > 2<<20 {
		t.Errorf("the heap has grown by %d bytes", got)
	}
	runtime.KeepAlive(s)
}

func TestLeaseIsExclusiveAndEndsWithItsTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(authtrip.MemoryStore)
		var holders, most atomic.Int32
		crowd(100, func(int) {
			release, err := s.Lease(t.Context(), "key", time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			most.Store(max(most.Load(), holders.Add(1)))
			wait(time.Second)
			holders.Add(-1)
			_, _ = release(t.Context()), release(t.Context())
		})
		if n := most.Load(); n != 1 {
			t.Errorf("%d held it at once", n)
		}
		late, err := s.Lease(t.Context(), "key", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := s.Lease(t.Context(), "key", time.Hour); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Lease() = %v after %v, want the first one's end after 1m", err, time.Since(start))
		}
		if err := late(t.Context()); err != nil { // is not the second one's
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Lease(ctx, "key", time.Hour)
		wantIs(t, err, context.DeadlineExceeded)
		_, err = s.Lease(ctx, "another", time.Hour)
		wantIs(t, err, context.DeadlineExceeded)
		wait(time.Hour) // the timers of the leases end
	})
}
