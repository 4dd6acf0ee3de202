package authtriptest

import (
	"context"
	"errors"
	"math"
	"strconv"
	"testing"
	"time"

	"example.com/authtrip"
)

// expirer is a store under test that can drop records by itself.
type expirer interface {
	authtrip.Store
	authtrip.Expirer
}

// expiring runs a check where the store is an Expirer, as a Store around another
// one says with its first SaveFor.
func expiring(check func(tb testing.TB, s expirer)) func(testing.TB, authtrip.Store) {
	return func(tb testing.TB, s authtrip.Store) {
		tb.Helper()
		e, ok := s.(expirer)
		if !ok {
			return
		}
		_, err := e.SaveFor(tb.Context(), "probe", nil, "", keep)
		switch {
		case err == nil:
			check(tb, e)
		case !errors.Is(err, errors.ErrUnsupported):
			tb.Errorf("SaveFor: %v", err)
		}
	}
}

func expirerSave(tb testing.TB, s expirer) {
	first := mustSaveFor(tb, s, "key", "one", "", keep)
	wantRecord(tb, s, "key", "one", first)
	second := mustSaveFor(tb, s, "key", "two", first, keep)
	wantRecord(tb, s, "key", "two", second)
	third := mustSave(tb, s, "key", "three", second)
	fourth := mustSaveFor(tb, s, "key", "four", third, keep)
	seen := map[string]bool{"": true, first: true, second: true, third: true}
	if len(seen) != 4 || seen[fourth] {
		tb.Errorf("versions %q, %q, %q, %q: one came back", first, second, third, fourth)
	}
	for _, version := range []string{"", first, second, third, "no such version"} {
		if _, err := s.SaveFor(tb.Context(), "key", []byte("lost"), version, keep); !errors.Is(err, authtrip.ErrConflict) {
			tb.Errorf("SaveFor with version %q: %v, want ErrConflict", version, err)
		}
	}
	wantRecord(tb, s, "key", "four", fourth)
	mustDelete(tb, s, "key", fourth)
	if _, err := s.SaveFor(tb.Context(), "key", []byte("lost"), fourth, keep); !errors.Is(err, authtrip.ErrConflict) {
		tb.Errorf("SaveFor over a deleted record: %v, want ErrConflict", err)
	}
}

// expirerKeeps loads a record until it is dropped, or should have been.
func expirerKeeps(tb testing.TB, s expirer) {
	const ttl = 10 * tick
	begin := time.Now()
	version := mustSaveFor(tb, s, "key", "one", "", ttl)
	until(tb, 2*ttl, func() bool {
		value, at, err := s.Load(tb.Context(), "key")
		// Stores count in milliseconds.
		soon := time.Since(begin) < ttl-time.Millisecond
		switch {
		case errors.Is(err, authtrip.ErrNotFound):
			if soon {
				tb.Errorf("a record for %v was dropped after %v", ttl, time.Since(begin))
			}
			return true
		case err != nil || string(value) != "one" || at != version:
			tb.Errorf("Load = %q, %q, %v, want one, %q", value, at, err, version)
			return true
		}
		return false
	})
}

// expirerReplaces: what counts is how the record was saved last.
func expirerReplaces(tb testing.TB, s expirer) {
	ever := mustSaveFor(tb, s, "ever", "one", "", math.MaxInt64)
	saved := saveInTime(tb, s, "saved", func(version string) (string, error) {
		return s.Save(tb.Context(), "saved", []byte("two"), version)
	})
	longer := saveInTime(tb, s, "longer", func(version string) (string, error) {
		return s.SaveFor(tb.Context(), "longer", []byte("two"), version, keep)
	})
	wantRecord(tb, s, "saved", "two", saved)
	wantRecord(tb, s, "longer", "two", longer)
	wantRecord(tb, s, "ever", "one", ever)
}

// saveInTime saves a record for a short while, calls save before that is over,
// and returns when it is.
func saveInTime(tb testing.TB, s expirer, key string, save func(version string) (string, error)) string {
	tb.Helper()
	for ttl := tick; ; ttl *= 4 {
		begin := time.Now()
		version := mustSaveFor(tb, s, key, "one", "", ttl)
		next, err := save(version)
		late := time.Since(begin) >= ttl
		switch {
		case err == nil:
			pass(ttl + tick)
			return next
		case !late:
			tb.Fatalf("save over a record that is kept for %v: %v", ttl, err)
		}
	}
}

// expirerVersions: a record that was dropped is like one that was deleted.
func expirerVersions(tb testing.TB, s expirer) {
	seen := map[string]bool{}
	for range 3 {
		old := mustSaveFor(tb, s, "key", "same", "", tick)
		pass(2 * tick)
		if _, at, err := s.Load(tb.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
			if err != nil || at != old {
				tb.Errorf("Load after the ttl: version %q, %v, want ErrNotFound or version %q", at, err, old)
			}
			return // it may be kept for longer
		}
		seen[old] = true
		for v := range seen {
			wantConflict(tb, s, v)
			if err := s.Delete(tb.Context(), "key", v); !errors.Is(err, authtrip.ErrNotFound) {
				tb.Errorf("Delete of a dropped record: %v, want ErrNotFound", err)
			}
		}
		version := mustSave(tb, s, "key", "same", "")
		if seen[version] {
			tb.Errorf("version %q came back", version)
		}
		for v := range seen {
			wantConflict(tb, s, v)
		}
		seen[version] = true
		mustDelete(tb, s, "key", version)
	}
}

func expirerTTL(tb testing.TB, s expirer) {
	version := mustSave(tb, s, "key", "one", "")
	for _, ttl := range []time.Duration{0, -1, -time.Hour} {
		_, err := s.SaveFor(tb.Context(), "key", []byte("two"), version, ttl)
		_, err2 := s.SaveFor(tb.Context(), "key2", []byte("two"), "", ttl)
		for _, err := range []error{err, err2} {
			if err == nil || errors.Is(err, authtrip.ErrConflict) || errors.Is(err, authtrip.ErrNotFound) {
				tb.Errorf("SaveFor with a ttl of %v: %v, want an error that says so", ttl, err)
			}
		}
	}
	wantRecord(tb, s, "key", "one", version)
	if _, _, err := s.Load(tb.Context(), "key2"); !errors.Is(err, authtrip.ErrNotFound) {
		tb.Errorf("Load after a SaveFor that failed: %v, want ErrNotFound", err)
	}
	mustSaveFor(tb, s, "short", "one", "", 1)
}

func expirerCopies(tb testing.TB, s expirer) {
	given := []byte("value")
	version, err := s.SaveFor(tb.Context(), "key", given, "", keep)
	if err != nil {
		tb.Fatalf("SaveFor: %v", err)
	}
	given[0] = 'X'
	wantRecord(tb, s, "key", "value", version)
}

func expirerCancelled(tb testing.TB, s expirer) {
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	_, err := s.SaveFor(ctx, "key", []byte("one"), "", keep)
	wantCancelled(tb, "SaveFor", err)
}

func expirerRace(tb testing.TB, s expirer) {
	won := race(tb, func(i int) error {
		_, err := s.SaveFor(tb.Context(), "key", []byte(strconv.Itoa(i)), "", keep)
		return err
	}, authtrip.ErrConflict)
	if len(won) != 1 {
		tb.Errorf("%d goroutines created the record, want 1", len(won))
	}
}

func mustSaveFor(tb testing.TB, s expirer, key, value, version string, ttl time.Duration) string {
	tb.Helper()
	next, err := s.SaveFor(tb.Context(), key, []byte(value), version, ttl)
	if err != nil {
		tb.Fatalf("SaveFor under %s with version %q for %v: %v", short(key), version, ttl, err)
	}
	if next == "" {
		tb.Fatalf("SaveFor under %s returned the version that means no record", short(key))
	}
	return next
}

// pass blocks until d has passed.
func pass(d time.Duration) { <-time.After(d) }

// until calls f until it returns true, at most for as long as limit.
func until(tb testing.TB, limit time.Duration, f func() bool) bool {
	tb.Helper()
	ticker := time.NewTicker(tick / 10)
	defer ticker.Stop()
	for begin := time.Now(); !f(); <-ticker.C {
		if time.Since(begin) > limit {
			return false
		}
	}
	return true
}
