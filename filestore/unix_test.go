//go:build unix

package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/authtrip/filestore"
)

func TestModes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	save(t, s, "key", "value", "")
	defer func() { _ = lease(t, s, "key", time.Minute)(t.Context()) }()
	for name, want := range map[string]os.FileMode{
		s.Dir: 0o700, filepath.Dir(s.Dir): 0o700, files(t, s, ".record")[0]: 0o600, files(t, s, "lock")[0]: 0o600,
	} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != want {
			t.Errorf("mode of %s = %v, %v, want %v", name, fi.Mode().Perm(), err, want)
		}
	}
}

func TestRefusesWhatOthersCanReach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		mode os.FileMode
		say  string
		file func(s *filestore.Store) string
	}{
		{"directory read by all", 0o755, "chmod 700 ", func(s *filestore.Store) string { return s.Dir }},
		{"directory written by the group", 0o720, "chmod 700 ", func(s *filestore.Store) string { return s.Dir }},
		{"record", 0o640, "chmod 600 ", func(s *filestore.Store) string { return files(t, s, ".record")[0] }},
		{"lock", 0o602, "chmod 600 ", func(s *filestore.Store) string { return files(t, s, "lock")[0] }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			version := save(t, s, "key", "value", "")
			name := tt.file(s)
			if err := os.Chmod(name, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := s.Save(t.Context(), "key", []byte("new"), version)
			if err == nil || !strings.Contains(err.Error(), tt.say+name) {
				t.Errorf("Save: %v, want an error with %q", err, tt.say+name)
			}
			open := &filestore.Store{Dir: s.Dir, InsecureAllowOthers: true}
			if value, at := load(t, open, "key"); value != "value" || at != version {
				t.Errorf("Load with InsecureAllowOthers = %q, %q, want the record", value, at)
			}
		})
	}
}

func TestRefusesTheDirectoryOfAnotherUser(t *testing.T) {
	t.Parallel()
	s := &filestore.Store{Dir: "/"}
	if os.Geteuid() == 0 {
		s.Dir = t.TempDir()
		if err := errors.Join(os.Chmod(s.Dir, 0o700), os.Chown(s.Dir, 12345, 12345)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Load(t.Context(), "key"); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("Load: %v, want that the directory belongs to another user", err)
	}
}

// TestLinksAreNotFollowed: neither to read what they point to, nor to write it.
func TestLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, which := range []string{".record", "lock"} {
		s := newStore(t)
		save(t, s, "key", "value", "")
		name := files(t, s, which)[0]
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(s.Dir, "target")
		if err := errors.Join(os.Rename(name, target), os.Symlink("target", name)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Save(t.Context(), "key", []byte("new"), ""); err == nil || !strings.Contains(err.Error(), "regular file") {
			t.Errorf("Save over a link: %v, want that it is no regular file", err)
		}
		if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, content) {
			t.Errorf("the target of the link was changed to %q, %v", got, err)
		}
	}
}

// TestLeftoverLinkIsReplaced: the temporary file is made anew, whatever is there.
func TestLeftoverLinkIsReplaced(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	version := save(t, s, "key", "value", "")
	target := filepath.Join(t.TempDir(), "target")
	if err := errors.Join(os.WriteFile(target, []byte("kept"), 0o600), os.Symlink(target, filepath.Join(s.Dir, "temp"))); err != nil {
		t.Fatal(err)
	}
	save(t, s, "key", "new", version)
	if got, err := os.ReadFile(target); err != nil || string(got) != "kept" {
		t.Errorf("the target of the link was changed to %q, %v", got, err)
	}
}

// TestPipeDoesNotBlock: opening one waits until somebody writes.
func TestPipeDoesNotBlock(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	save(t, s, "key", "value", "")
	name := files(t, s, ".record")[0]
	if err := errors.Join(os.Remove(name), syscall.Mkfifo(name, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Load(t.Context(), "key"); err == nil {
		t.Error("Load of a pipe succeeded")
	}
}

// TestWaitingForTheLockHonoursContext: another process holds it and is stopped.
func TestWaitingForTheLockHonoursContext(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	version := save(t, s, "key", "value", "")
	f, err := os.OpenFile(filepath.Join(s.Dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = s.Save(ctx, "key", []byte("new"), version)
	_, err2 := s.Lease(ctx, "key", time.Minute)
	for _, err := range []error{err, err2, s.Delete(ctx, "key", version)} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want context.DeadlineExceeded", err)
		}
	}
	if value, _ := load(t, s, "key"); value != "value" {
		t.Errorf("Load while the lock is held = %q, want value", value)
	}
	_ = f.Close()
	save(t, s, "key", "new", version)
}

// TestRemovedLockFile: those who lock the old one and the new one must not both
// think that they are alone.
func TestRemovedLockFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	version := save(t, s, "key", "value", "")
	if err := os.Remove(filepath.Join(s.Dir, "lock")); err != nil {
		t.Fatal(err)
	}
	save(t, s, "key", "new", version)
}

// TestStoppedHolderLosesItsLease after the ttl, and takes nobody else's when it
// goes on.
func TestStoppedHolderLosesItsLease(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := start(t, s, "hold", envTTL+"=300ms")
	p.Line(t)
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	release := lease(t, s, "key", time.Minute)
	if err := p.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	other := &filestore.Store{Dir: s.Dir}
	if _, err := other.Lease(ctx, "key", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lease after the stopped holder went on: %v, want that it is held", err)
	}
	_ = release(t.Context())
	_ = lease(t, other, "key", time.Minute)(t.Context())
}
