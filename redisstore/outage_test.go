package redisstore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
	"example.com/authtrip/redisstore"
)

// wantUnknown checks that an error says that the store could not say.
func wantUnknown(t testing.TB, method string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, authtrip.ErrNotFound) || errors.Is(err, authtrip.ErrConflict) {
		t.Errorf("%s: %v, want an error that is neither ErrNotFound nor ErrConflict", method, err)
	}
}

// wantAllUnknown checks that each method fails, and soon.
func wantAllUnknown(t testing.TB, s *redisstore.Store, version string) {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, _, err := s.Load(ctx, "key")
	wantUnknown(t, "Load", err)
	_, err = s.Save(ctx, "key", []byte("lost"), version)
	wantUnknown(t, "Save", err)
	wantUnknown(t, "Delete", s.Delete(ctx, "key", version))
	_, err = s.Lease(ctx, "key", time.Minute)
	wantUnknown(t, "Lease", err)
	_, err = s.Watch(ctx, "key")
	wantUnknown(t, "Watch", err)
	c := &redisstore.Cache{Client: s.Client}
	_, err = c.Get(ctx, "key")
	wantUnknown(t, "Cache.Get", err)
	wantUnknown(t, "Cache.Set", c.Set(ctx, "key", nil, time.Minute))
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the calls took %v, want that they fail soon", took)
	}
}

// wantBack waits until the server answers again. The client tries to connect once
// a second.
func wantBack(t testing.TB, s *redisstore.Store) {
	t.Helper()
	err := until(func() error {
		_, _, err := s.Load(t.Context(), "key")
		if errors.Is(err, authtrip.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatalf("the server is not back: %v", err)
	}
}

// TestServerComesBackWithItsData: what was saved is there, for the same Store.
func TestServerComesBackWithItsData(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	s := &redisstore.Store{Client: srv.connect(t, redis.Options{MaxRetries: 1})}
	version := save(t, s, "key", "value", "")
	srv.kill()
	wantAllUnknown(t, s, version)
	srv.mustRun(t)
	wantBack(t, s)
	if value, at := load(t, s); value != "value" || at != version {
		t.Errorf("Load after the restart = %q, %q, want value, %q", value, at, version)
	}
	save(t, s, "key", "new", version)
	_ = lease(t, s, "key", time.Minute)(t.Context())
}

// TestServerComesBackEmpty: nobody's version is good for the new records, and no
// old lease frees a new one.
func TestServerComesBackEmpty(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	s := &redisstore.Store{Client: srv.connect(t, redis.Options{})}
	version := save(t, s, "key", "value", "")
	late := lease(t, s, "key", time.Hour)
	srv.kill()
	wantAllUnknown(t, s, version)
	srv.mustRun(t)
	wantBack(t, s)
	if _, _, err := s.Load(t.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
		t.Errorf("Load: %v, want ErrNotFound", err)
	}
	if _, err := s.Save(t.Context(), "key", []byte("late"), version); !errors.Is(err, authtrip.ErrConflict) {
		t.Errorf("Save with the version of a lost record: %v, want ErrConflict", err)
	}
	if next := save(t, s, "key", "value", ""); next == version {
		t.Errorf("the version %q came back", version)
	}
	lease(t, s, "key", time.Hour)
	if err := late(t.Context()); err != nil {
		t.Errorf("release of a lost lease: %v", err)
	}
	wantHeld(t, s)
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "--requirepass", "open sesame")
	for _, password := range []string{"", "swordfish"} {
		s := &redisstore.Store{Client: srv.connect(t, redis.Options{Password: password})}
		wantAllUnknown(t, s, "version")
		if _, _, err := s.Load(t.Context(), "key"); password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("the error %q shows the password", err)
		}
	}
	s := &redisstore.Store{Client: srv.connect(t, redis.Options{Password: "open sesame"})}
	save(t, s, "key", "value", "")
}

// TestUserWhoMayNotPublish: changes are saved, and nobody is told.
func TestUserWhoMayNotPublish(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	admin := srv.connect(t, redis.Options{})
	err := admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">pw", "~authtrip:*", "resetchannels", "+@all", "-publish").Err()
	if err != nil {
		t.Fatal(err)
	}
	s := &redisstore.Store{Client: srv.connect(t, redis.Options{Username: "app", Password: "pw"})}
	version := save(t, s, "key", "one", "")
	version = save(t, s, "key", "two", version)
	if err := s.Delete(t.Context(), "key", version); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

// lossy is a connection that loses an answer when it is told to.
type lossy struct {
	net.Conn
	lose *atomic.Bool
}

func (l *lossy) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err == nil && l.lose.CompareAndSwap(true, false) {
		_ = l.Close()
		return 0, io.EOF
	}
	return n, err
}

// TestLostAnswer: the server did what it was asked to, and the connection broke
// before the answer came. The client asks again.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	var lose atomic.Bool
	s := newStore(t)
	s = &redisstore.Store{Prefix: s.Prefix, Client: shared.connect(t, redis.Options{
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "unix", shared.addr)
			return &lossy{c, &lose}, err
		},
	})}
	version := save(t, s, "key", "one", "")
	_ = lease(t, s, "key", time.Minute)(t.Context())
	lose.Store(true)
	version = save(t, s, "key", "two", version)
	if value, at := load(t, s); value != "two" || at != version {
		t.Errorf("Load = %q, %q, want two, %q", value, at, version)
	}
	lose.Store(true)
	release := lease(t, s, "key", time.Minute)
	lose.Store(true)
	if err := release(t.Context()); err != nil {
		t.Errorf("release: %v", err)
	}
	lose.Store(true)
	if err := s.Delete(t.Context(), "key", version); err != nil && !errors.Is(err, authtrip.ErrNotFound) {
		t.Errorf("Delete: %v", err)
	}
	if lose.Load() {
		t.Error("no answer was lost")
	}
	if _, _, err := s.Load(t.Context(), "key"); !errors.Is(err, authtrip.ErrNotFound) {
		t.Errorf("Load after Delete: %v, want ErrNotFound", err)
	}
}

// TestFullMemory: a record that does not fit is an error, and the old one stays.
func TestFullMemory(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	client := srv.connect(t, redis.Options{})
	s := &redisstore.Store{Client: client}
	version := save(t, s, "key", "value", "")
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Save(t.Context(), "key", []byte("new"), version)
	wantUnknown(t, "Save", err)
	if value, at := load(t, s); value != "value" || at != version {
		t.Errorf("Load = %q, %q, want value, %q", value, at, version)
	}
	if err := s.Delete(t.Context(), "key", version); err != nil {
		t.Errorf("Delete: %v", err)
	}
}
