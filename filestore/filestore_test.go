package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/filestore"
)

var (
	_ authtrip.Store   = (*filestore.Store)(nil)
	_ authtrip.Leaser  = (*filestore.Store)(nil)
	_ authtrip.Expirer = (*filestore.Store)(nil)
)

// newStore returns a store in a directory that is not there yet.
func newStore(t testing.TB) *filestore.Store {
	return &filestore.Store{Dir: filepath.Join(t.TempDir(), "config", "tokens")}
}

func save(t testing.TB, s *filestore.Store, key, value, version string) string {
	t.Helper()
	next, err := s.Save(t.Context(), key, []byte(value), version)
	if err != nil {
		t.Fatalf("Save: %v", err)
	}
	return next
}

func load(t testing.TB, s *filestore.Store, key string) (value, version string) {
	t.Helper()
	b, version, err := s.Load(t.Context(), key)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return string(b), version
}

// files returns the names of the files in the store's directory that end so.
func files(t testing.TB, s *filestore.Store, end string) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), end) {
			names = append(names, filepath.Join(s.Dir, e.Name()))
		}
	}
	return names
}

func TestStore(t *testing.T) {
	t.Parallel()
	authtriptest.TestStore(t, func(t *testing.T) authtrip.Store { return newStore(t) })
}

func TestLeaser(t *testing.T) {
	t.Parallel()
	authtriptest.TestLeaser(t, func(t *testing.T) authtrip.Store { return newStore(t) })
}

func TestDirIsRequired(t *testing.T) {
	t.Parallel()
	var s filestore.Store
	_, _, err := s.Load(t.Context(), "key")
	_, err2 := s.Save(t.Context(), "key", nil, "")
	_, err3 := s.Lease(t.Context(), "key", time.Second)
	for _, err := range []error{err, err2, err3, s.Delete(t.Context(), "key", "")} {
		if err == nil || !strings.Contains(err.Error(), "Store.Dir") {
			t.Errorf("error = %v, want one that names Store.Dir", err)
		}
	}
}

func TestReadingMakesNoDirectory(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if _, _, err := s.Load(t.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
		t.Errorf("Load: %v, want ErrNotFound", err)
	}
	if err := s.Delete(t.Context(), "key", "version"); !errors.Is(err, authtrip.ErrNotFound) {
		t.Errorf("Delete: %v, want ErrNotFound", err)
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of Dir: %v, want that it is not there", err)
	}
}

func TestTwoStoresOnOneDirectory(t *testing.T) {
	t.Parallel()
	a := newStore(t)
	b := &filestore.Store{Dir: a.Dir}
	version := save(t, a, "key", "from a", "")
	if value, at := load(t, b, "key"); value != "from a" || at != version {
		t.Errorf("Load = %q, %q, want a's", value, at)
	}
	save(t, b, "key", "from b", version)
	if _, err := a.Save(t.Context(), "key", []byte("late"), version); !errors.Is(err, authtrip.ErrConflict) {
		t.Errorf("Save with the old version: %v, want ErrConflict", err)
	}
}

func TestNamesSayNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	save(t, s, "alice@example.com", "value", "")
	if _, err := s.Lease(t.Context(), "alice@example.com", time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, s, "") {
		if strings.Contains(name, "alice") {
			t.Errorf("the file %s names a user", name)
		}
		b, err := os.ReadFile(name)
		if err != nil || bytes.Contains(b, []byte("alice")) {
			t.Errorf("the file %s names a user inside, or %v", name, err)
		}
	}
}

// TestFormat: files that were written by the first version stay readable.
func TestFormat(t *testing.T) {
	t.Parallel()
	const (
		name    = "a12ac5c7c48336156fccb02b2aca988c92421e0ce21560c9e9801791e35f9098.record"
		content = "authtrip file 1\n" +
			"ABCDEFGHIJKLMNOPQRSTUVWXYZ\n" +
			"8d5d920a394311ccb380d3c8d3587189c23f1b2a9208937cf84710aeaacf98d7\n" +
			`{"format":1}`
	)
	s := &filestore.Store{Dir: t.TempDir()}
	if err := errors.Join(os.Chmod(s.Dir, 0o700), os.WriteFile(filepath.Join(s.Dir, name), []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
	if value, version := load(t, s, "key"); value != `{"format":1}` || version != "ABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t.Errorf("Load = %q, %q, want what is in the file", value, version)
	}
	if got := filestore.Encode(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", []byte(`{"format":1}`)); string(got) != content {
		t.Errorf("file = %q, want %q", got, content)
	}
}

func TestCorruptFileIsNamedAndKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"cut in the header", func(b []byte) []byte { return b[:30] }},
		{"cut in the value", func(b []byte) []byte { return b[:len(b)-1] }},
		{"value changed", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"version changed", func(b []byte) []byte { b[20] ^= 1; return b }},
		{"something added", func(b []byte) []byte { return append(b, '\n') }},
		{"another format", func(b []byte) []byte { return bytes.Replace(b, []byte(" 1\n"), []byte(" 2\n"), 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			version := save(t, s, "key", "the secret value", "")
			other := save(t, s, "other", "fine", "")
			file := recordOf(t, s, "the secret value")
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			broken := tt.damage(b)
			if err := os.WriteFile(file, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			wantCorrupt(t, s, file, version)
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, broken) {
				t.Errorf("the corrupt file was changed to %q, %v", got, err)
			}
			if value, at := load(t, s, "other"); value != "fine" || at != other {
				t.Errorf("Load of another key = %q, %q, want what was saved", value, at)
			}
		})
	}
}

func recordOf(t *testing.T, s *filestore.Store, value string) string {
	t.Helper()
	for _, name := range files(t, s, ".record") {
		if b, err := os.ReadFile(name); err == nil && strings.HasSuffix(string(b), value) {
			return name
		}
	}
	t.Fatal("no file has the value")
	return ""
}

func wantCorrupt(t *testing.T, s *filestore.Store, file, version string) {
	t.Helper()
	_, _, err := s.Load(t.Context(), "key")
	_, err2 := s.Save(t.Context(), "key", []byte("new"), "")
	_, err3 := s.Save(t.Context(), "key", []byte("new"), version)
	for _, err := range []error{err, err2, err3, s.Delete(t.Context(), "key", version)} {
		var corrupt *filestore.CorruptError
		switch {
		case !errors.As(err, &corrupt):
			t.Errorf("error = %v, want a *CorruptError", err)
		case corrupt.File != file || !strings.Contains(err.Error(), file):
			t.Errorf("error %q is about %s, want %s", err, corrupt.File, file)
		case strings.Contains(err.Error(), "secret"):
			t.Errorf("error %q shows the value", err)
		}
	}
}

// TestCopiedRecordIsNoticed: a file that is put in the place of another one.
func TestCopiedRecordIsNoticed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	save(t, s, "mallory", "her value", "")
	from := recordOf(t, s, "her value")
	save(t, s, "key", "value", "")
	to := recordOf(t, s, "\nvalue")
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	wantCorrupt(t, s, to, "")
}

// TestLeftoverOfACrashIsRemoved: it holds a token, which a log-out is to remove.
func TestLeftoverOfACrashIsRemoved(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	version := save(t, s, "key", "value", "")
	temp := filepath.Join(s.Dir, "temp")
	leave := func() {
		t.Helper()
		if err := os.WriteFile(temp, []byte("half of a tok"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(after string) {
		t.Helper()
		if _, err := os.Stat(temp); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after %s the leftover is still there (%v)", after, err)
		}
	}
	leave()
	version = save(t, s, "key", "value 2", version)
	gone("Save")
	leave()
	if err := s.Delete(t.Context(), "key", version); err != nil {
		t.Fatal(err)
	}
	gone("Delete")
	if left := files(t, s, ".record"); len(left) != 0 {
		t.Errorf("records after Delete = %q, want none", left)
	}
}

// TestFailedSaveKeepsTheRecord: a directory is in the way of the new file.
func TestFailedSaveKeepsTheRecord(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	version := save(t, s, "key", "value", "")
	if err := os.MkdirAll(filepath.Join(s.Dir, "temp", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if next, err := s.Save(t.Context(), "key", []byte("new"), version); err == nil || next != "" {
		t.Errorf("Save = %q, %v, want an error", next, err)
	}
	if value, at := load(t, s, "key"); value != "value" || at != version {
		t.Errorf("Load = %q, %q, want what was there", value, at)
	}
}

func TestLeaseIsExclusive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newStore(t)
		b := &filestore.Store{Dir: a.Dir} // as another process
		release := lease(t, a, "key", time.Minute)
		begin := time.Now()
		for _, s := range []*filestore.Store{a, b} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := s.Lease(ctx, "key", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Lease of a key that is held: %v, want that it waits", err)
			}
			cancel()
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("two attempts took %v, want 2s", took)
		}
		_ = lease(t, b, "another key", time.Minute)(t.Context())
		if err := release(t.Context()); err != nil {
			t.Error(err)
		}
		_ = lease(t, b, "key", time.Minute)(t.Context())
		if left := files(t, a, ".lease"); len(left) != 0 {
			t.Errorf("files of leases after their release = %q, want none", left)
		}
	})
}

// lease takes a lease that nobody has.
func lease(t testing.TB, s *filestore.Store, key string, ttl time.Duration) func(context.Context) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	release, err := s.Lease(ctx, key, ttl)
	if err != nil {
		t.Fatalf("Lease: %v", err)
	}
	return release
}

func TestLeaseEndsAfterItsTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newStore(t)
		b := &filestore.Store{Dir: a.Dir}
		late := lease(t, a, "key", 3*time.Second)
		begin := time.Now()
		release := lease(t, b, "key", time.Hour)
		if took := time.Since(begin); took < 3*time.Second || took > 3200*time.Millisecond {
			t.Errorf("the lease ended after %v, want 3s", took)
		}
		// The first holder gives back what is no longer its own, twice.
		_, _ = late(t.Context()), late(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Lease(ctx, "key", time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lease after a late release: %v, want that the second one still holds it", err)
		}
		_ = release(t.Context())
	})
}

// TestReleaseWithAnEndedContext: it must not keep others waiting.
func TestReleaseWithAnEndedContext(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	release := lease(t, s, "key", time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := release(ctx); err != nil {
		t.Errorf("release: %v", err)
	}
	_ = lease(t, s, "key", time.Hour)(t.Context())
}

func FuzzFormat(f *testing.F) {
	f.Add("name", "version", []byte("value"), []byte("authtrip file 1\nV\nS\nvalue"))
	f.Fuzz(func(t *testing.T, name, version string, value, content []byte) {
		if v, at, err := filestore.Decode(name, content); err == nil && !bytes.Equal(filestore.Encode(name, at, v), content) {
			t.Errorf("Decode(%q) = %q, %q, which Encode makes another file of", content, v, at)
		}
		if version == "" || strings.Contains(version, "\n") {
			return
		}
		v, at, err := filestore.Decode(name, filestore.Encode(name, version, value))
		if err != nil || at != version || !bytes.Equal(v, value) {
			t.Errorf("Decode(Encode(%q, %q)) = %q, %q, %v", version, value, at, v, err)
		}
	})
}

func BenchmarkStore(b *testing.B) {
	value := bytes.Repeat([]byte("x"), 2000)
	b.Run("load", func(b *testing.B) {
		s := newStore(b)
		save(b, s, "key", string(value), "")
		b.ReportAllocs()
		for b.Loop() {
			load(b, s, "key")
		}
	})
	b.Run("save", func(b *testing.B) {
		s := newStore(b)
		version := ""
		b.ReportAllocs()
		for b.Loop() {
			version = save(b, s, "key", string(value), version)
		}
	})
	b.Run("lease", func(b *testing.B) {
		s := newStore(b)
		b.ReportAllocs()
		for b.Loop() {
			if err := lease(b, s, "key", time.Minute)(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func ExampleStore() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	src := &authtrip.Source{
		Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			return &oauth2.Token{AccessToken: "secret", RefreshToken: "too"}, nil
		}),
		Store: &filestore.Store{Dir: filepath.Join(dir, "tokens")},
		Key:   "alice",
	}
	tok, err := src.Token()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tok.Type())
	// Output: Bearer
}
