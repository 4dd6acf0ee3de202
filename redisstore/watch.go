package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Watch implements [authtrip.Watcher].
//
// A change that is made after Watch has returned is told as soon as the server
// tells it, which is no promise: Redis publishes at most once. While the
// connection is down nothing is told, and when it is back each channel gets a
// value, as anything may have changed. When Client is closed, so are the channels. A message that is lost without a trace
// (in a Cluster, between two nodes) is not told.
//
// All channels of one Store share one connection and one goroutine, which end
// with the last of them. The connection gets a message of some fifty bytes for
// each record that is changed under Prefix. A record that expires is not told.
func (s *Store) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	w := &watcher{key: hashed(key), changed: make(chan struct{}, 1)}
	if err := s.watch(ctx, w); err != nil {
		return nil, err
	}
	return w.changed, nil
}

// WatchKeys implements [authtrip.KeysWatcher], over the connection that it shares
// with [Store.Watch]. The name of a key is its hash. When the connection was down,
// the channel gets a "".
func (s *Store) WatchKeys(ctx context.Context) (<-chan string, func(key string) string, error) {
	const room = 256
	w := &watcher{names: make(chan string, room)}
	if err := s.watch(ctx, w); err != nil {
		return nil, nil, err
	}
	return w.names, hashed, nil
}

// watch adds a watcher until ctx ends. It waits until the server has subscribed.
func (s *Store) watch(ctx context.Context, w *watcher) error {
	if s.Client == nil {
		return errors.New("redisstore: Store.Client is nil")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f := s.hub.join(s, w)
	select {
	case <-f.ready:
	case <-ctx.Done():
		s.hub.leave(f, w)
		return context.Cause(ctx)
	}
	if f.err != nil {
		s.hub.leave(f, w)
		return fmt.Errorf("redisstore: Watch: %w", f.err)
	}
	context.AfterFunc(ctx, func() { s.hub.leave(f, w) })
	return nil
}

// channel is where changes are published: hashes of keys.
func (s *Store) channel() string { return orDefault(s.Prefix) + "changes" }

// hub is the watchers of one Store. The zero value has none.
type hub struct {
	mu   sync.Mutex // guards the field and those of feed
	feed *feed      // nil while nobody watches
}

// feed is a subscription and those who hear of it.
type feed struct {
	ctx      context.Context // ends with the feed
	end      context.CancelFunc
	ready    chan struct{} // closed when subscribed, or not: err, not changed later
	err      error
	watchers map[*watcher]struct{}
	byKey    map[string]map[*watcher]struct{} // those of all keys under ""
}

// watcher is one who watches a key, or all of them.
type watcher struct {
	key     string        // hashed; "" for all
	changed chan struct{} // of a key
	names   chan string   // of all
}

// tell tells of a change of the key with this name, or of any if that is "".
func (w *watcher) tell(name string) {
	if w.names == nil {
		select {
		case w.changed <- struct{}{}:
		default: // one is waiting to be read
		}
		return
	}
	select {
	case w.names <- name:
		return
	default:
	}
	// "" stands for all that is not read, and for this one. Nobody else sends.
	for len(w.names) > 0 {
		select {
		case <-w.names:
		default:
		}
	}
	w.names <- ""
}

// close is called once, when w is no longer in the feed.
func (w *watcher) close() {
	if w.names == nil {
		close(w.changed)
	} else {
		close(w.names)
	}
}

// join adds a watcher to the feed, and starts one if there is none.
func (h *hub) join(s *Store, w *watcher) *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feed == nil {
		h.feed = newFeed()
		go h.run(h.feed, s.Client, s.channel())
	}
	f := h.feed
	f.watchers[w] = struct{}{}
	if f.byKey[w.key] == nil {
		f.byKey[w.key] = make(map[*watcher]struct{})
	}
	f.byKey[w.key][w] = struct{}{}
	return f
}

func newFeed() *feed {
	ctx, end := context.WithCancel(context.Background())
	return &feed{
		ctx:      ctx,
		end:      end,
		ready:    make(chan struct{}),
		watchers: make(map[*watcher]struct{}),
		byKey:    make(map[string]map[*watcher]struct{}),
	}
}

// leave takes a watcher out, and ends a feed that has none any more.
func (h *hub) leave(f *feed, w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := f.watchers[w]; !ok {
		return
	}
	delete(f.watchers, w)
	delete(f.byKey[w.key], w)
	if len(f.byKey[w.key]) == 0 {
		delete(f.byKey, w.key)
	}
	w.close()
	if len(f.watchers) == 0 {
		h.end(f)
	}
}

// end ends a feed. h.mu must be held.
func (h *hub) end(f *feed) {
	f.end()
	if h.feed == f {
		h.feed = nil
	}
}

// dismiss ends a feed from which nothing more comes, and its watchers.
func (h *hub) dismiss(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range f.watchers {
		w.close()
	}
	clear(f.watchers)
	clear(f.byKey)
	h.end(f)
}

// run is the goroutine of a feed. It returns when the feed is ended.
// Closing the subscription waits for a connection that is being made, so that
// nobody else may do it.
func (h *hub) run(f *feed, client redis.UniversalClient, channel string) {
	sub := client.Subscribe(f.ctx)
	defer func() { _ = sub.Close() }()
	f.err = subscribe(f.ctx, sub, channel)
	close(f.ready)
	if f.err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.end(f)
		return
	}
	messages := sub.ChannelWithSubscriptions()
	for {
		select {
		case m, ok := <-messages:
			if !ok { // Client was closed
				h.dismiss(f)
				return
			}
			h.hear(f, m)
		case <-f.ctx.Done():
			return
		}
	}
}

// subscribe returns when the server has confirmed.
func subscribe(ctx context.Context, sub *redis.PubSub, channel string) error {
	const timeout = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := sub.Subscribe(ctx, channel); err != nil {
		return err
	}
	_, err := sub.ReceiveTimeout(ctx, timeout)
	return err
}

// hear tells the watchers of a message.
func (h *hub) hear(f *feed, message any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch m := message.(type) {
	case *redis.Message:
		for _, key := range []string{m.Payload, ""} {
			for w := range f.byKey[key] {
				w.tell(m.Payload)
			}
		}
	case *redis.Subscription: // once more: messages may have been missed
		for w := range f.watchers {
			w.tell("")
		}
	}
}
