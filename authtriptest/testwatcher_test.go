package authtriptest_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestMemoryStoreTells(t *testing.T) {
	t.Parallel()
	authtriptest.TestWatcher(t, func(*testing.T) authtrip.Store { return new(authtrip.MemoryStore) })
}

// badWatcher is a store that can be watched and has one mistake, named by bug;
// without one it is right.
type badWatcher struct {
	authtrip.MemoryStore

	bug      string
	mu       sync.Mutex // guards what follows, and sends and closes
	watchers map[string][]chan struct{}
	feeds    []chan string
}

func (w *badWatcher) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if w.bug == "tells before the change" {
		w.tell(ctx, key)
		<-time.After(time.Millisecond)
		return w.MemoryStore.Save(ctx, key, value, version)
	}
	next, err := w.MemoryStore.Save(ctx, key, value, version)
	if err == nil && (w.bug != "tells of no creation" || version != "") && (w.bug != "tells of no change" || version == "") {
		if err := w.tell(ctx, key); err != nil {
			return "", err
		}
	}
	return next, err
}

func (w *badWatcher) SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	next, err := w.MemoryStore.SaveFor(ctx, key, value, version, ttl)
	if err == nil && w.bug != "tells of nothing that expires" {
		_ = w.tell(ctx, key)
	}
	return next, err
}

func (w *badWatcher) Delete(ctx context.Context, key, version string) error {
	err := w.MemoryStore.Delete(ctx, key, version)
	if err == nil && w.bug != "tells of no deletion" {
		_ = w.tell(ctx, key)
	}
	return err
}

func (w *badWatcher) tell(ctx context.Context, key string) error {
	if w.bug == "trims keys" {
		key = strings.TrimSpace(key)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, changed := range w.watchers[key] {
		if w.bug == "waits until it is read" {
			select {
			case changed <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, changed := range w.feeds {
		if w.bug == "waits until it is read" {
			select {
			case changed <- key:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		w.name(changed, key)
	}
	return nil
}

func (w *badWatcher) name(changed chan string, key string) {
	if w.bug == "says only that something changed" {
		key = ""
	}
	select {
	case changed <- key:
	default:
		if w.bug == "forgets what is not read" {
			return
		}
		for len(changed) > 0 {
			<-changed
		}
		changed <- ""
	}
}

func (w *badWatcher) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	room := 1
	if w.bug == "does not merge" {
		room = 200
	}
	changed := make(chan struct{}, room)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watchers == nil {
		w.watchers = map[string][]chan struct{}{}
	}
	if w.bug == "one watcher a key" {
		w.watchers[key] = nil
	}
	w.watchers[key] = append(w.watchers[key], changed)
	context.AfterFunc(ctx, func() {
		if w.bug == "never closes" {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		var left []chan struct{}
		for _, c := range w.watchers[key] {
			if c == changed || w.bug == "closes all of a key" {
				close(c)
			} else {
				left = append(left, c)
			}
		}
		w.watchers[key] = left
	})
	return changed, nil
}

func (w *badWatcher) WatchKeys(ctx context.Context) (<-chan string, func(string) string, error) {
	changed := make(chan string, 10)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.feeds = append(w.feeds, changed)
	context.AfterFunc(ctx, func() {
		if w.bug == "never closes" {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, c := range w.feeds {
			if c == changed {
				w.feeds = append(w.feeds[:i:i], w.feeds[i+1:]...)
				close(c)
				return
			}
		}
	})
	return changed, w.nameOf, nil
}

func (w *badWatcher) nameOf(key string) string {
	switch w.bug {
	case "names that change":
		return strconv.Itoa(rand.N(1 << 30))
	case "names that are no names":
		return strings.ToLower(key)
	}
	return key
}

func TestWatcherFindsMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ bug, check string }{
		{"tells of no creation", "TellsOfChanges"},
		{"tells of no change", "TellsOfChanges"},
		{"tells of no deletion", "TellsOfChanges"},
		{"tells of nothing that expires", "TellsOfChanges"},
		{"tells before the change", "TellsAfterTheChange"},
		{"trims keys", "Keys"},
		{"one watcher a key", "ManyWatchersOfAKey"},
		{"closes all of a key", "ManyWatchersOfAKey"},
		{"waits until it is read", "WhoDoesNotReadDelaysNobody"},
		{"does not merge", "WhoDoesNotReadDelaysNobody"},
		{"never closes", "ClosedWithItsContext"},
		{"never closes", "CancelledContext"},
		{"tells of no change", "WatchKeys/TellsOfChanges"},
		{"tells of no deletion", "WatchKeys/TellsOfChanges"},
		{"says only that something changed", "WatchKeys/TellsOfChanges"},
		{"tells before the change", "WatchKeys/TellsAfterTheChange"},
		{"names that change", "WatchKeys/Names"},
		{"names that are no names", "WatchKeys/Names"},
		{"waits until it is read", "WatchKeys/WhoDoesNotReadDelaysNobody"},
		{"forgets what is not read", "WatchKeys/WhoDoesNotReadDelaysNobody"},
		{"never closes", "WatchKeys/ClosedWithItsContext"},
	} {
		t.Run(tt.bug+"/"+tt.check, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if fails(t, func(tb testing.TB) { authtriptest.CheckWatcher(tb, tt.check, &badWatcher{}) }) {
					t.Error("a store without a mistake fails")
				}
				if !fails(t, func(tb testing.TB) { authtriptest.CheckWatcher(tb, tt.check, &badWatcher{bug: tt.bug}) }) {
					t.Error("the mistake was not found")
				}
			})
		})
	}
}
