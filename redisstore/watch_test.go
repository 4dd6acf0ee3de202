package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip/redisstore"
)

// watch is a watcher of a key, and a function that ends it.
func watch(t testing.TB, s *redisstore.Store, key string) (changed <-chan struct{}, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := s.Watch(ctx, key)
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	return changed, cancel
}

// wantTold waits for a value.
func wantTold(t testing.TB, changed <-chan struct{}, of string) {
	t.Helper()
	select {
	case _, ok := <-changed:
		if !ok {
			t.Fatalf("channel is closed, want that it tells of %s", of)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("channel does not tell of %s", of)
	}
}

// TestWatchTellsOfChanges of another process too, and of no other key.
func TestWatchTellsOfChanges(t *testing.T) {
	t.Parallel()
	a := newStore(t)
	b := newStore(t)
	b.Prefix = a.Prefix // as another process
	changed, end := watch(t, a, "key")
	own, _ := watch(t, b, "key")
	other, _ := watch(t, a, "another key")
	version := save(t, b, "key", "one", "")
	wantTold(t, changed, "a new record")
	wantTold(t, own, "its own change")
	version = save(t, b, "key", "two", version)
	wantTold(t, changed, "a change")
	if err := b.Delete(t.Context(), "key", version); err != nil {
		t.Fatal(err)
	}
	wantTold(t, changed, "a deletion")
	save(t, b, "another key", "value", "")
	wantTold(t, other, "a change")
	select {
	case <-changed:
		t.Error("channel tells of a change of another key")
	default:
	}
	end()
	if _, ok := <-changed; ok {
		t.Error("channel tells of something after the end of its context")
	}
}

func TestWatchMergesWhatIsNotRead(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	changed, _ := watch(t, s, "key")
	last, _ := watch(t, s, "last")
	version := ""
	for range 10 {
		version = save(t, s, "key", "value", version)
	}
	save(t, s, "last", "value", "")
	wantTold(t, last, "a change")
	wantTold(t, changed, "ten changes")
	select {
	case <-changed:
		t.Error("more than one value waits")
	default:
	}
}

// TestWatchersShareOneConnection, and leave none behind.
func TestWatchersShareOneConnection(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	s := &redisstore.Store{Client: srv.connect(t, redis.Options{})}
	subscribers := func() int64 {
		t.Helper()
		return srv.connect(t, redis.Options{}).PubSubNumSub(t.Context(), "authtrip:changes").Val()["authtrip:changes"]
	}
	var ends []func()
	for _, key := range []string{"a", "b", "b", "c"} {
		_, end := watch(t, s, key)
		ends = append(ends, end)
	}
	if n := subscribers(); n != 1 {
		t.Errorf("subscriptions = %d, want 1", n)
	}
	for _, end := range ends {
		end()
	}
	err := until(func() error {
		if subscribers() != 0 {
			return errors.New("a subscription is left behind")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	changed, _ := watch(t, s, "a")
	save(t, s, "a", "value", "")
	wantTold(t, changed, "a change, with a new connection")
}

// TestWatchTellsAfterAnOutage: what was published meanwhile is lost, so that
// everything may have changed.
func TestWatchTellsAfterAnOutage(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	s := &redisstore.Store{Client: srv.connect(t, redis.Options{})}
	changed, _ := watch(t, s, "key")
	srv.kill()
	srv.mustRun(t)
	wantTold(t, changed, "the outage")
	save(t, s, "key", "value", "")
	wantTold(t, changed, "a change after the outage")
}

// wantName waits for a name. More than one "" may come before it.
func wantName(t testing.TB, changed <-chan string, want string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case got, ok := <-changed:
			if !ok || got != want && got != "" {
				t.Errorf("channel tells of %q (%t), want %q", got, ok, want)
			}
			if got == want {
				return
			}
		case <-late:
			t.Fatalf("channel does not tell of %q", want)
		}
	}
}

// TestWatchKeysFollowsTenThousandSessions over one connection, of other processes
// too, and without the name of any user in what is published.
func TestWatchKeysFollowsTenThousandSessions(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	a := &redisstore.Store{Client: srv.connect(t, redis.Options{})}
	b := &redisstore.Store{Client: srv.connect(t, redis.Options{})} // as another process
	changed, name, err := a.WatchKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sessions := make(map[string]int)
	for i := range 10_000 {
		sessions[name(fmt.Sprintf("user %d", i))] = i
	}
	for _, i := range []int{0, 5000, 9999} {
		key := fmt.Sprintf("user %d", i)
		save(t, b, key, "value", "")
		wantName(t, changed, name(key))
		if strings.Contains(name(key), "user") {
			t.Errorf("the name %q says whose it is", name(key))
		}
		if got := sessions[name(key)]; got != i {
			t.Errorf("session = %d, want %d", got, i)
		}
	}
	n := srv.connect(t, redis.Options{}).PubSubNumSub(t.Context(), "authtrip:changes").Val()["authtrip:changes"]
	if n != 1 {
		t.Errorf("subscriptions = %d, want 1", n)
	}
}

// TestWatchKeysTellsAfterAnOutage that anything may have changed.
func TestWatchKeysTellsAfterAnOutage(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	s := &redisstore.Store{Client: srv.connect(t, redis.Options{})}
	changed, name, err := s.WatchKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv.kill()
	srv.mustRun(t)
	wantName(t, changed, "")
	save(t, s, "key", "value", "")
	wantName(t, changed, name("key"))
}
