package authtriptest

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"example.com/authtrip"
)

// TestWatcher checks, in subtests, that a store keeps the promises of
// [authtrip.Watcher], which it must implement, and those of
// [authtrip.KeysWatcher] if it implements that. newStore is that of [TestStore].
//
// The suite waits for events, each at most for ten seconds.
func TestWatcher(t *testing.T, newStore func(t *testing.T) authtrip.Store) {
	t.Helper()
	for _, c := range watcherChecks() {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			w, ok := s.(watcher)
			if !ok {
				t.Fatalf("%T is no authtrip.Watcher", s)
			}
			c.run(t, w)
		})
	}
}

// watcher is the store under test.
type watcher interface {
	authtrip.Store
	authtrip.Watcher
}

// watcherCheck is one subtest of TestWatcher.
type watcherCheck struct {
	name string
	run  func(tb testing.TB, w watcher)
}

func watcherChecks() []watcherCheck {
	return []watcherCheck{
		{"TellsOfChanges", watcherTells},
		{"TellsAfterTheChange", watcherOrder},
		{"Keys", watcherKeys},
		{"ManyWatchersOfAKey", watcherMany},
		{"WhoDoesNotReadDelaysNobody", watcherMerges},
		{"ClosedWithItsContext", watcherCloses},
		{"CancelledContext", watcherCancelled},
		{"WatchKeys/TellsOfChanges", watchingKeys(keysTell)},
		{"WatchKeys/TellsAfterTheChange", watchingKeys(keysOrder)},
		{"WatchKeys/Names", watchingKeys(keysNames)},
		{"WatchKeys/WhoDoesNotReadDelaysNobody", watchingKeys(keysOverflow)},
		{"WatchKeys/ClosedWithItsContext", watchingKeys(keysClose)},
	}
}

func watcherTells(tb testing.TB, w watcher) {
	changed := mustWatch(tb.Context(), tb, w, "key")
	version := mustSave(tb, w, "key", "one", "")
	wantTold(tb, changed, "a new record")
	version = mustSave(tb, w, "key", "two", version)
	wantTold(tb, changed, "a change")
	mustDelete(tb, w, "key", version)
	wantTold(tb, changed, "a deletion")
	e, ok := w.(expirer)
	if !ok {
		return
	}
	_, err := e.SaveFor(tb.Context(), "key", []byte("three"), "", keep)
	switch {
	case err == nil:
		wantTold(tb, changed, "a record that expires")
	case !errors.Is(err, errors.ErrUnsupported):
		tb.Errorf("SaveFor: %v", err)
	}
}

// watcherOrder: whoever loads the record when it is told, while Save may still be
// at work, sees the change or is told once more.
func watcherOrder(tb testing.TB, w watcher) {
	changed := mustWatch(tb.Context(), tb, w, "key")
	version := ""
	for i := range 10 {
		value, saved := strconv.Itoa(i), make(chan string, 1)
		go func() {
			next, err := w.Save(tb.Context(), "key", []byte(value), version)
			if err != nil {
				tb.Errorf("Save: %v", err)
			}
			saved <- next
		}()
		for seen := false; !seen; {
			wantTold(tb, changed, "a change, when Load shows it")
			got, _, err := w.Load(tb.Context(), "key")
			if err != nil && !errors.Is(err, authtrip.ErrNotFound) {
				tb.Fatalf("Load: %v", err)
			}
			seen = string(got) == value
		}
		version = <-saved
	}
}

func watcherKeys(tb testing.TB, w watcher) {
	channels := map[string]<-chan struct{}{}
	for _, key := range oddKeys() {
		channels[key] = mustWatch(tb.Context(), tb, w, key)
	}
	for _, key := range oddKeys() {
		mustSave(tb, w, key, "value", "")
	}
	for _, key := range oddKeys() {
		wantTold(tb, channels[key], "a change of "+short(key))
	}
}

func watcherMany(tb testing.TB, w watcher) {
	ctx, cancel := context.WithCancel(tb.Context())
	first := mustWatch(ctx, tb, w, "key")
	second := mustWatch(tb.Context(), tb, w, "key")
	version := mustSave(tb, w, "key", "one", "")
	wantTold(tb, first, "a change, as the first one who watches")
	wantTold(tb, second, "a change, as the second one who watches")
	cancel()
	wantClosed(tb, first)
	mustSave(tb, w, "key", "two", version)
	wantTold(tb, second, "a change, after the first one has left")
}

func watcherMerges(tb testing.TB, w watcher) {
	changed := mustWatch(tb.Context(), tb, w, "key")
	last := mustWatch(tb.Context(), tb, w, "last")
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	version := ""
	for range 100 {
		var err error
		if version, err = w.Save(ctx, "key", []byte("value"), version); err != nil {
			tb.Fatalf("Save while nobody reads the channel: %v", err)
		}
	}
	mustSave(tb, w, "last", "value", "")
	wantTold(tb, last, "a change of another record")
	if n := len(changed); n > 1 {
		tb.Errorf("%d values are waiting, want that they are merged", n)
	}
	wantTold(tb, changed, "a hundred changes")
}

func watcherCloses(tb testing.TB, w watcher) {
	ctx, cancel := context.WithCancel(tb.Context())
	read, unread := mustWatch(ctx, tb, w, "key"), mustWatch(ctx, tb, w, "key")
	mustSave(tb, w, "key", "value", "")
	wantTold(tb, read, "a change")
	cancel()
	wantClosed(tb, read)
	wantClosed(tb, unread)
}

func watcherCancelled(tb testing.TB, w watcher) {
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	changed, err := w.Watch(ctx, "key")
	if err != nil {
		wantCancelled(tb, "Watch", err)
		return
	}
	wantClosed(tb, changed)
}

// keysWatcher is a store under test that can tell of all its records.
type keysWatcher interface {
	authtrip.Store
	authtrip.KeysWatcher
}

// watchingKeys runs a check where the store is a KeysWatcher, as a Store around
// another one says when it is asked.
func watchingKeys(check func(tb testing.TB, w keysWatcher)) func(testing.TB, watcher) {
	return func(tb testing.TB, w watcher) {
		tb.Helper()
		k, ok := w.(keysWatcher)
		if !ok {
			return
		}
		ctx, cancel := context.WithCancel(tb.Context())
		defer cancel()
		if _, _, err := k.WatchKeys(ctx); !errors.Is(err, errors.ErrUnsupported) {
			check(tb, k)
		}
	}
}

func keysTell(tb testing.TB, w keysWatcher) {
	changed, name := mustWatchKeys(tb.Context(), tb, w)
	version := mustSave(tb, w, "key", "one", "")
	wantName(tb, changed, name("key"), "a new record")
	version = mustSave(tb, w, "key", "two", version)
	wantName(tb, changed, name("key"), "a change")
	mustDelete(tb, w, "key", version)
	wantName(tb, changed, name("key"), "a deletion")
}

func keysOrder(tb testing.TB, w keysWatcher) {
	changed, name := mustWatchKeys(tb.Context(), tb, w)
	saved := make(chan string, 1)
	go func() {
		version, err := w.Save(tb.Context(), "key", []byte("value"), "")
		if err != nil {
			tb.Errorf("Save: %v", err)
		}
		saved <- version
	}()
	wantName(tb, changed, name("key"), "a change")
	_, at, err := w.Load(tb.Context(), "key")
	if version := <-saved; at != version {
		tb.Errorf("Load after the name of the key came: version %q, %v, want %q", at, err, version)
	}
}

// keysNames: the names of different keys differ, and that of one does not.
func keysNames(tb testing.TB, w keysWatcher) {
	changed, name := mustWatchKeys(tb.Context(), tb, w)
	keys := map[string]string{}
	for _, key := range oddKeys() {
		n := name(key)
		if other, ok := keys[n]; ok {
			tb.Errorf("%s and %s have one name", short(key), short(other))
		}
		if keys[n] = key; name(key) != n {
			tb.Errorf("%s has two names", short(key))
		}
	}
	for _, key := range oddKeys() {
		mustSave(tb, w, key, "value", "")
		wantName(tb, changed, name(key), "a change of "+short(key))
	}
}

// keysOverflow: whoever reads late hears of each key, or that it may have missed
// some.
func keysOverflow(tb testing.TB, w keysWatcher) {
	const n = 1500
	changed, name := mustWatchKeys(tb.Context(), tb, w)
	ctx, cancel := context.WithTimeout(tb.Context(), 3*patience)
	defer cancel()
	missing := map[string]bool{}
	for i := range n {
		key := "key " + strconv.Itoa(i)
		if _, err := w.Save(ctx, key, []byte("value"), ""); err != nil {
			tb.Fatalf("Save while nobody reads the channel: %v", err)
		}
		missing[name(key)] = true
	}
	for len(missing) > 0 {
		select {
		case told, ok := <-changed:
			switch {
			case !ok:
				tb.Fatalf("the channel was closed")
			case told == "":
				clear(missing)
			}
			delete(missing, told)
		case <-time.After(patience):
			tb.Fatalf("%d of %d changed keys were not told, and the channel does not say so", len(missing), n)
		}
	}
}

func keysClose(tb testing.TB, w keysWatcher) {
	ctx, cancel := context.WithCancel(tb.Context())
	changed, _ := mustWatchKeys(ctx, tb, w)
	version := mustSave(tb, w, "key", "one", "")
	cancel()
	wantClosed(tb, changed)
	mustSave(tb, w, "key", "two", version)
	if changed, _, err := w.WatchKeys(ctx); err == nil {
		wantClosed(tb, changed)
	} else {
		wantCancelled(tb, "WatchKeys", err)
	}
}

func mustWatch(ctx context.Context, tb testing.TB, w watcher, key string) <-chan struct{} {
	tb.Helper()
	changed, err := w.Watch(ctx, key)
	if err != nil {
		tb.Fatalf("Watch of %s: %v", short(key), err)
	}
	return changed
}

func mustWatchKeys(ctx context.Context, tb testing.TB, w keysWatcher) (<-chan string, func(string) string) {
	tb.Helper()
	changed, name, err := w.WatchKeys(ctx)
	if err != nil {
		tb.Fatalf("WatchKeys: %v", err)
	}
	return changed, name
}

// wantTold waits for a value.
func wantTold(tb testing.TB, changed <-chan struct{}, of string) {
	tb.Helper()
	select {
	case _, ok := <-changed:
		if !ok {
			tb.Fatalf("the channel was closed, want that it tells of %s", of)
		}
	case <-time.After(patience):
		tb.Fatalf("the channel did not tell of %s within %v", of, patience)
	}
}

// wantName waits for a name, among others.
func wantName(tb testing.TB, changed <-chan string, name, of string) {
	tb.Helper()
	late := time.After(patience)
	for {
		select {
		case told, ok := <-changed:
			switch {
			case !ok:
				tb.Fatalf("the channel was closed, want that it tells of %s", of)
			case told == name:
				return
			}
		case <-late:
			tb.Fatalf("the channel did not tell of %s within %v", of, patience)
		}
	}
}

// wantClosed waits until a channel is closed.
func wantClosed[T any](tb testing.TB, changed <-chan T) {
	tb.Helper()
	late := time.After(patience)
	for {
		select {
		case _, ok := <-changed:
			if !ok {
				return
			}
		case <-late:
			tb.Fatalf("the channel is open %v after its context ended", patience)
		}
	}
}
