package filestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/filestore"
)

func saveFor(t testing.TB, s *filestore.Store, key, value, version string, ttl time.Duration) string {
	t.Helper()
	next, err := s.SaveFor(t.Context(), key, []byte(value), version, ttl)
	if err != nil {
		t.Fatalf("SaveFor: %v", err)
	}
	return next
}

// notes returns how many entries there are for records with a ttl, and for how many
// hours.
func notes(t testing.TB, s *filestore.Store) (records, hours int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.Dir, "expiring"), func(_ string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			hours++
		default:
			records++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, hours - 1 // without "expiring"
}

// TestLogoutsLeaveNothingBehind: each left a file under a random name that nobody
// ever asks for again, and the directory grew for ever.
func TestLogoutsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const logouts = 64
		s := newStore(t)
		kept := save(t, s, "kept", "token", "")
		revived := saveFor(t, s, "revived", "tombstone", "", time.Hour)
		revived = save(t, s, "revived", "token", revived)
		longer := saveFor(t, s, "longer", "tombstone", saveFor(t, s, "longer", "tombstone", "", time.Hour), 1000*time.Hour)
		for i := range logouts {
			saveFor(t, s, fmt.Sprintf("session %d", i), "tombstone", "", time.Duration(1+i%24)*time.Hour)
		}
		<-time.After(24 * time.Hour)
		if _, _, err := s.Load(t.Context(), "session 23"); !errors.Is(err, authtrip.ErrNotFound) {
			t.Errorf("Load after the ttl: %v, want ErrNotFound", err)
		}
		<-time.After(time.Hour)
		if n := len(files(t, s, ".record")); n != logouts+3 {
			t.Errorf("files = %d, want %d: reading removes none", n, logouts+3)
		}
		other := &filestore.Store{Dir: s.Dir} // as another process
		for range logouts/8 + 24 {
			kept = save(t, other, "kept", "token", kept)
		}
		if n := len(files(t, s, ".record")); n != 3 {
			t.Errorf("files after a day = %d, want the 3 that are alive", n)
		}
		if records, hours := notes(t, s); records != 1 || hours != 1 {
			t.Errorf("entries for %d records in %d hours, want that of the one that is alive", records, hours)
		}
		for key, want := range map[string]string{"kept": kept, "revived": revived, "longer": longer} {
			if _, at := load(t, s, key); at != want {
				t.Errorf("Load of %s: version %q, want %q", key, at, want)
			}
		}
	})
}

// TestSweepingIsAShare: a call that comes after a million logouts does not remove
// them all.
func TestSweepingIsAShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		for i := range 30 {
			saveFor(t, s, fmt.Sprintf("session %d", i), "tombstone", "", time.Second)
		}
		<-time.After(2 * time.Hour)
		save(t, s, "key", "token", "")
		if n := len(files(t, s, ".record")); n != 30-8+1 {
			t.Errorf("files = %d, want that 8 were removed", n)
		}
	})
}

// TestSweepingKeepsWhatIsCorrupt: it might be the only copy of a token.
func TestSweepingKeepsWhatIsCorrupt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		saveFor(t, s, "key", "value", "", time.Second)
		file := files(t, s, ".record")[0]
		if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		save(t, s, "other", "value", "")
		if b, err := os.ReadFile(file); err != nil || string(b) != "something else" {
			t.Errorf("the corrupt file is %q, %v", b, err)
		}
		if records, hours := notes(t, s); records != 0 || hours != 0 {
			t.Errorf("entries for %d records in %d hours, want none", records, hours)
		}
	})
}

// TestExpiredRecordIsLikeADeletedOne, also while its file is there.
func TestExpiredRecordIsLikeADeletedOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		version := saveFor(t, s, "key", "value", "", time.Minute)
		<-time.After(time.Minute - 1)
		if _, at := load(t, s, "key"); at != version {
			t.Errorf("Load before the end: version %q, want %q", at, version)
		}
		<-time.After(1)
		if _, _, err := s.Load(t.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
			t.Errorf("Load: %v, want ErrNotFound", err)
		}
		if _, err := s.Save(t.Context(), "key", nil, version); !errors.Is(err, authtrip.ErrConflict) {
			t.Errorf("Save: %v, want ErrConflict", err)
		}
		if err := s.Delete(t.Context(), "key", version); !errors.Is(err, authtrip.ErrNotFound) {
			t.Errorf("Delete: %v, want ErrNotFound", err)
		}
		save(t, s, "key", "new", "")
	})
}

// TestFormatWithATTL: the format is the one without, so that a program of an earlier
// version beside this one reads it, and keeps it for good.
func TestFormatWithATTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		version := saveFor(t, s, "key", "value", "", time.Hour)
		b, err := os.ReadFile(files(t, s, ".record")[0])
		if err != nil {
			t.Fatal(err)
		}
		text, end, _ := strings.Cut(version, " ")
		if want := "2000-01-01T01:00:00Z"; len(text) != 26 || end != want {
			t.Errorf("version = %q, want 26 letters and digits, and %s", version, want)
		}
		if !bytes.HasPrefix(b, []byte("authtrip file 1\n"+version+"\n")) {
			t.Errorf("file = %q, want the version %q in its second line", b, version)
		}
	})
}
