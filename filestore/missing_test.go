package filestore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/filestore"
)

// wantNoStore checks that each method says that the directory is not the right one,
// and that none takes it for a store without this record.
func wantNoStore(t *testing.T, s *filestore.Store, version, say string) {
	t.Helper()
	_, _, err := s.Load(t.Context(), "key")
	errs := map[string]error{"Load": err, "Delete": s.Delete(t.Context(), "key", version)}
	_, errs["Save"] = s.Save(t.Context(), "key", []byte("new"), version)
	_, errs["create"] = s.Save(t.Context(), "key", []byte("new"), "")
	_, errs["SaveFor"] = s.SaveFor(t.Context(), "key", []byte("new"), "", time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, errs["Lease"] = s.Lease(ctx, "key", time.Minute)
	for method, err := range errs {
		if err == nil || errors.Is(err, authtrip.ErrNotFound) || errors.Is(err, authtrip.ErrConflict) ||
			!strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), s.Dir) {
			t.Errorf("%s: %v, want an error that names the directory and says %q", method, err, say)
		}
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestMissingDirectoryIsNoLogout: a file system that was unmounted under a running
// program read as an empty store, so that everybody was logged out, and the next
// login was saved in a new directory in its place.
func TestMissingDirectoryIsNoLogout(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	version := save(t, s, "key", "value", "")
	rename(t, s.Dir, s.Dir+".away")
	wantNoStore(t, s, version, "gone")
	if _, err := os.Stat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of Dir: %v, want that it was not made", err)
	}
	rename(t, s.Dir+".away", s.Dir)
	if value, at := load(t, s, "key"); value != "value" || at != version {
		t.Errorf("Load when it is back = %q, %q, want value, %q", value, at, version)
	}
}

// TestAnotherDirectoryIsNotUsed: a mount point without its file system is there, and
// empty. A copy is there, and full of refresh tokens that were used since.
func TestAnotherDirectoryIsNotUsed(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(dir, original string) error{
		"mount point": func(dir, _ string) error { return os.Mkdir(dir, 0o700) },
		"copy": func(dir, original string) error {
			return errors.Join(os.CopyFS(dir, os.DirFS(original)), os.Chmod(dir, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			version := save(t, s, "key", "value", "")
			away := s.Dir + ".away"
			rename(t, s.Dir, away)
			if err := put(s.Dir, away); err != nil {
				t.Fatal(err)
			}
			before := files(t, s, "")
			wantNoStore(t, s, version, "another directory")
			if after := files(t, s, ""); len(after) != len(before) {
				t.Errorf("the other directory has %q now, had %q", after, before)
			}
			rename(t, s.Dir, s.Dir+".other")
			rename(t, away, s.Dir)
			save(t, s, "key", "new", version)
		})
	}
}

// TestDirectoryThatComesLaterIsFine: it was not there at first use.
func TestDirectoryThatComesLaterIsFine(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if _, _, err := s.Load(t.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
		t.Fatalf("Load: %v, want ErrNotFound", err)
	}
	other := &filestore.Store{Dir: s.Dir}
	version := save(t, other, "key", "value", "")
	if _, at := load(t, s, "key"); at != version {
		t.Errorf("Load: version %q, want %q", at, version)
	}
}

func TestMustExist(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.MustExist = true
	wantNoStore(t, s, "version", "Store.MustExist")
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	save(t, s, "key", "value", "")
}
