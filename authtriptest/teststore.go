package authtriptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/authtrip"
)

// TestStore checks, in subtests, that a store keeps the promises of
// [authtrip.Store], and those of [authtrip.Expirer] if it implements that.
// newStore is called once for each subtest and returns an empty store, which it
// may let t clean up. [TestLeaser] and [TestWatcher] take the same newStore.
//
// The suite makes a hundred goroutines compete for one record; a store over a
// network answers some ten thousand calls.
func TestStore(t *testing.T, newStore func(t *testing.T) authtrip.Store) {
	t.Helper()
	for _, c := range storeChecks() {
		t.Run(c.name, func(t *testing.T) { c.run(t, newStore(t)) })
	}
}

// storeCheck is one subtest of TestStore.
type storeCheck struct {
	name string
	run  func(tb testing.TB, s authtrip.Store)
}

func storeChecks() []storeCheck {
	return []storeCheck{
		{"LoadMissing", storeLoadMissing},
		{"Create", storeCreate},
		{"CreateConflict", storeCreateConflict},
		{"SaveWithTheVersion", storeSave},
		{"SaveWithAnotherVersion", storeSaveConflict},
		{"Delete", storeDelete},
		{"DeleteWithAnotherVersion", storeDeleteConflict},
		{"DeleteMissing", storeDeleteMissing},
		{"VersionsNeverComeBack", storeVersions},
		{"ValuesAreCopied", storeCopies},
		{"Keys", storeKeys},
		{"Values", storeValues},
		{"CancelledContext", storeCancelled},
		{"OneOfManyCreates", storeCreateRace},
		{"OneOfManyDeletes", storeDeleteRace},
		{"NoUpdateIsLost", storeUpdateRace},
		{"SaveFor/Saves", expiring(expirerSave)},
		{"SaveFor/KeepsForItsTTL", expiring(expirerKeeps)},
		{"SaveFor/LastSaveCounts", expiring(expirerReplaces)},
		{"SaveFor/VersionsNeverComeBack", expiring(expirerVersions)},
		{"SaveFor/TTLIsRequired", expiring(expirerTTL)},
		{"SaveFor/ValuesAreCopied", expiring(expirerCopies)},
		{"SaveFor/CancelledContext", expiring(expirerCancelled)},
		{"SaveFor/OneOfManyCreates", expiring(expirerRace)},
	}
}

func storeLoadMissing(tb testing.TB, s authtrip.Store) {
	value, version, err := s.Load(tb.Context(), "key")
	if !errors.Is(err, authtrip.ErrNotFound) || value != nil || version != "" {
		tb.Errorf("Load = %q, %q, %v, want nothing and ErrNotFound", value, version, err)
	}
}

func storeCreate(tb testing.TB, s authtrip.Store) {
	version := mustSave(tb, s, "key", "one", "")
	wantRecord(tb, s, "key", "one", version)
	if _, _, err := s.Load(tb.Context(), "key2"); !errors.Is(err, authtrip.ErrNotFound) {
		tb.Errorf("Load of another key: %v, want ErrNotFound", err)
	}
}

func storeCreateConflict(tb testing.TB, s authtrip.Store) {
	version := mustSave(tb, s, "key", "one", "")
	wantConflict(tb, s, "")
	wantRecord(tb, s, "key", "one", version)
}

func storeSave(tb testing.TB, s authtrip.Store) {
	version := mustSave(tb, s, "key", "one", "")
	version = mustSave(tb, s, "key", "two", version)
	wantRecord(tb, s, "key", "two", version)
}

func storeSaveConflict(tb testing.TB, s authtrip.Store) {
	wantConflict(tb, s, "no such version")
	if _, _, err := s.Load(tb.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
		tb.Errorf("Load after a lost Save: %v, want ErrNotFound", err)
	}
	first := mustSave(tb, s, "key", "one", "")
	second := mustSave(tb, s, "key", "two", first)
	wantConflict(tb, s, first)
	wantConflict(tb, s, "no such version")
	wantConflict(tb, s, second+"0")
	wantRecord(tb, s, "key", "two", second)
}

func storeDelete(tb testing.TB, s authtrip.Store) {
	version := mustSave(tb, s, "key", "one", "")
	other := mustSave(tb, s, "key2", "other", "")
	mustDelete(tb, s, "key", version)
	if _, _, err := s.Load(tb.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
		tb.Errorf("Load after Delete: %v, want ErrNotFound", err)
	}
	wantConflict(tb, s, version)
	wantRecord(tb, s, "key2", "other", other)
}

func storeDeleteConflict(tb testing.TB, s authtrip.Store) {
	first := mustSave(tb, s, "key", "one", "")
	second := mustSave(tb, s, "key", "two", first)
	for _, version := range []string{"", first, "no such version"} {
		if err := s.Delete(tb.Context(), "key", version); !errors.Is(err, authtrip.ErrConflict) {
			tb.Errorf("Delete with version %q: %v, want ErrConflict", version, err)
		}
	}
	wantRecord(tb, s, "key", "two", second)
}

func storeDeleteMissing(tb testing.TB, s authtrip.Store) {
	version := mustSave(tb, s, "key2", "one", "")
	mustDelete(tb, s, "key2", version)
	for _, key := range []string{"key", "key2"} {
		for _, v := range []string{"", version} {
			if err := s.Delete(tb.Context(), key, v); !errors.Is(err, authtrip.ErrNotFound) {
				tb.Errorf("Delete of a missing record: %v, want ErrNotFound", err)
			}
		}
	}
}

// storeVersions saves the same value again and again: a version that is made of
// the value, or that starts anew with the record, lets a slow writer win.
func storeVersions(tb testing.TB, s authtrip.Store) {
	seen := map[string]bool{}
	for range 5 {
		version := ""
		for range 3 {
			version = mustSave(tb, s, "key", "same", version)
			if seen[version] {
				tb.Fatalf("version %q came back", version)
			}
			for old := range seen {
				wantConflict(tb, s, old)
				if err := s.Delete(tb.Context(), "key", old); !errors.Is(err, authtrip.ErrConflict) {
					tb.Fatalf("Delete with the old version %q: %v, want ErrConflict", old, err)
				}
			}
			seen[version] = true
		}
		mustDelete(tb, s, "key", version)
	}
}

func storeCopies(tb testing.TB, s authtrip.Store) {
	given := []byte("value")
	version, err := s.Save(tb.Context(), "key", given, "")
	if err != nil {
		tb.Fatalf("Save: %v", err)
	}
	given[0] = 'X'
	wantRecord(tb, s, "key", "value", version)
	got, _, err := s.Load(tb.Context(), "key")
	if err != nil {
		tb.Fatalf("Load: %v", err)
	}
	got[0] = 'X'
	wantRecord(tb, s, "key", "value", version)
}

func storeKeys(tb testing.TB, s authtrip.Store) {
	versions := map[string]string{}
	for i, key := range oddKeys() {
		versions[key] = mustSave(tb, s, key, strconv.Itoa(i), "")
	}
	for i, key := range oddKeys() {
		wantRecord(tb, s, key, strconv.Itoa(i), versions[key])
	}
	for _, key := range oddKeys() {
		mustDelete(tb, s, key, versions[key])
	}
}

func storeValues(tb testing.TB, s authtrip.Store) {
	version := ""
	for _, value := range oddValues() {
		version = mustSave(tb, s, "key", value, version)
		wantRecord(tb, s, "key", value, version)
	}
}

func storeCancelled(tb testing.TB, s authtrip.Store) {
	version := mustSave(tb, s, "key", "one", "")
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	_, _, err := s.Load(ctx, "key")
	wantCancelled(tb, "Load", err)
	_, err = s.Save(ctx, "key", []byte("two"), version)
	wantCancelled(tb, "Save", err)
	wantCancelled(tb, "Delete", s.Delete(ctx, "key", version))
}

func storeCreateRace(tb testing.TB, s authtrip.Store) {
	won := race(tb, func(i int) error {
		_, err := s.Save(tb.Context(), "key", []byte(strconv.Itoa(i)), "")
		return err
	}, authtrip.ErrConflict)
	if len(won) != 1 {
		tb.Fatalf("%d goroutines created the record, want 1", len(won))
	}
	value, _, err := s.Load(tb.Context(), "key")
	if err != nil || string(value) != strconv.Itoa(won[0]) {
		tb.Errorf("Load = %q, %v, want the winner's %d", value, err, won[0])
	}
}

func storeDeleteRace(tb testing.TB, s authtrip.Store) {
	version := mustSave(tb, s, "key", "one", "")
	won := race(tb, func(int) error {
		return s.Delete(tb.Context(), "key", version)
	}, authtrip.ErrNotFound)
	if len(won) != 1 {
		tb.Errorf("%d goroutines deleted the record, want 1", len(won))
	}
}

func storeUpdateRace(tb testing.TB, s authtrip.Store) {
	mustSave(tb, s, "key", "0", "")
	won := race(tb, func(int) error { return increment(tb.Context(), s) }, authtrip.ErrConflict)
	value, _, err := s.Load(tb.Context(), "key")
	if err != nil || string(value) != strconv.Itoa(racers) || len(won) != racers {
		tb.Errorf("%d updates succeeded and left %q, %v, want %d", len(won), value, err, racers)
	}
}

// increment adds one to the record, however often it takes.
func increment(ctx context.Context, s authtrip.Store) error {
	for {
		value, version, err := s.Load(ctx, "key")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(value))
		if err != nil {
			return err
		}
		_, err = s.Save(ctx, "key", []byte(strconv.Itoa(n+1)), version)
		if !errors.Is(err, authtrip.ErrConflict) {
			return err
		}
	}
}

// racers is how many goroutines compete.
const racers = 100

// race calls f in many goroutines at once and returns the numbers of those that
// succeeded. The others must fail with the error lost.
func race(tb testing.TB, f func(i int) error, lost error) []int {
	tb.Helper()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex // guards won
		won []int
	)
	begin := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-begin
			err := f(i)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, i)
			case !errors.Is(err, lost):
				tb.Errorf("goroutine %d: %v, want success or %q", i, err, lost)
			}
		})
	}
	close(begin)
	wg.Wait()
	return won
}

func mustSave(tb testing.TB, s authtrip.Store, key, value, version string) string {
	tb.Helper()
	next, err := s.Save(tb.Context(), key, []byte(value), version)
	if err != nil {
		tb.Fatalf("Save under %s with version %q: %v", short(key), version, err)
	}
	if next == "" {
		tb.Fatalf("Save under %s returned the version that means no record", short(key))
	}
	return next
}

func mustDelete(tb testing.TB, s authtrip.Store, key, version string) {
	tb.Helper()
	if err := s.Delete(tb.Context(), key, version); err != nil {
		tb.Fatalf("Delete of %s with version %q: %v", short(key), version, err)
	}
}

func wantConflict(tb testing.TB, s authtrip.Store, version string) {
	tb.Helper()
	if _, err := s.Save(tb.Context(), "key", []byte("lost"), version); !errors.Is(err, authtrip.ErrConflict) {
		tb.Fatalf("Save with version %q: %v, want ErrConflict", version, err)
	}
}

func wantRecord(tb testing.TB, s authtrip.Store, key, value, version string) {
	tb.Helper()
	got, at, err := s.Load(tb.Context(), key)
	switch {
	case err != nil:
		tb.Fatalf("Load of %s: %v", short(key), err)
	case !bytes.Equal(got, []byte(value)):
		tb.Errorf("Load of %s = %s, want %s", short(key), short(string(got)), short(value))
	case at != version:
		tb.Errorf("Load of %s has version %q, want %q", short(key), at, version)
	}
}

func wantCancelled(tb testing.TB, method string, err error) {
	tb.Helper()
	if !errors.Is(err, context.Canceled) {
		tb.Errorf("%s with a cancelled context: %v, want context.Canceled", method, err)
	}
}

// oddKeys are different keys that a careless store takes for the same, or for
// something else than a name.
func oddKeys() []string {
	return []string{
		"", " ", ".", "..", "a", "A", "a ", "a/b", "a/", "/a", "a//b", "a_b", "a%2Fb", "a\\b", "a:b",
		"../../a", "a*", "a?", "{a}", "a\x00b", "a\nb", "\xff", "\xfe", "%", "CON", "nul.txt", ".lock",
		"é", "e\u0301", "日本語", "https://issuer.example/|alice@example.com",
		strings.Repeat("k", 4000), strings.Repeat("k", 4001),
	}
}

// oddValues are an empty value, all bytes, and a large value.
func oddValues() []string {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return []string{"x", "", string(all), strings.Repeat("0123456789abcdef", 1<<16), "\r\n"}
}

// short quotes a key or a value, cut if it is long.
func short(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%.60q… (%d bytes)", s, len(s))
	}
	return strconv.Quote(s)
}
