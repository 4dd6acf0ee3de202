package authtrip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"example.com/authtrip/internal/flight"
)

// A Watcher is a [Store] that can tell when a record was changed. It is found by
// type assertion.
type Watcher interface {
	// Watch returns a channel that gets a value whenever the record under key may
	// have been saved or deleted, by anybody; it comes after the change. Values are merged, and one may be
	// lost: whoever watches hears of changes early, and must not depend on it. The
	// channel is closed when ctx ends. An error that is [errors.ErrUnsupported]
	// says that the Store cannot tell.
	Watch(ctx context.Context, key string) (<-chan struct{}, error)
}

// Watch follows the session in Store until ctx ends, and returns the cause: a token
// that another process has refreshed is taken over, a logout and a new login are
// noticed at once, and a record that the Store has lost is put back. Without it, or
// where the Store's message is lost, that is noticed at the next refresh.
//
// It blocks, so it is for a goroutine of the caller's; with Close it ends with [ErrClosed]. A Store that is no
// [Watcher] is an error that is [errors.ErrUnsupported].
func (s *Source) Watch(ctx context.Context) error {
	own, err := s.session()
	if err != nil {
		return err
	}
	w, ok := own.set.store.(Watcher)
	if !ok || !own.set.shared { // nobody else changes what is in this process's memory
		return fmt.Errorf("authtrip: Source.Watch: Store is no Watcher: %w", errors.ErrUnsupported)
	}
	ctx, cancel := own.set.flights.UntilClosed(ctx)
	defer cancel()
	changed, err := w.Watch(ctx, own.key)
	if err != nil {
		return fmt.Errorf("authtrip: Source.Watch: %w", err)
	}
	for range changed {
		own.look(ctx)
	}
	if ctx.Err() == nil {
		return errors.New("authtrip: Source.Watch: the Store has ended the watch: call Watch again")
	}
	return watchEnd(ctx)
}

// watchEnd is the cause of the end of a watch.
func watchEnd(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, flight.ErrClosed) {
		return err
	}
	return ErrClosed
}

// Watch follows the sessions in memory, as [Source.Watch] does one, over one connection to
// the Store of Each, which has to be a [KeysWatcher]. A Store that is none, and sessions
// that New makes, are an error that is [errors.ErrUnsupported].
//
// It blocks until ctx ends, and returns the cause, or [ErrClosed] after Close.
func (s *Sources) Watch(ctx context.Context) error {
	if s.New != nil {
		return fmt.Errorf("authtrip: Sources.Watch: New may give each session another Store: %w", errors.ErrUnsupported)
	}
	set, err := s.settings()
	if err != nil {
		return err
	}
	w, ok := set.store.(KeysWatcher)
	if !ok || !set.shared {
		return fmt.Errorf("authtrip: Sources.Watch: Store is no KeysWatcher: %w", errors.ErrUnsupported)
	}
	ctx, cancel := s.flights.UntilClosed(ctx)
	defer cancel()
	changed, name, err := w.WatchKeys(ctx)
	if err != nil {
		return fmt.Errorf("authtrip: Sources.Watch: %w", err)
	}
	index := &watchIndex{name: name}
	s.follow(index)
	defer s.unfollow(index)
	var looks sync.WaitGroup
	turns := make(chan struct{}, maxLooks)
	for name := range changed {
		for _, own := range s.named(index, name) {
			turns <- struct{}{}
			looks.Go(func() {
				own.look(ctx)
				<-turns
			})
		}
	}
	looks.Wait()
	if ctx.Err() == nil {
		return errors.New("authtrip: Sources.Watch: the Store has ended the watch: call Watch again")
	}
	return watchEnd(ctx)
}

// follow keeps an index up to date until unfollow: of each Watch there is one.
func (s *Sources) follow(x *watchIndex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.renew(s.recent, s.before)
	s.watched = append(s.watched, x)
}

func (s *Sources) unfollow(x *watchIndex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = slices.DeleteFunc(s.watched, func(other *watchIndex) bool { return other == x })
}

// maxLooks is how many sessions are looked at in the Store at once.
const maxLooks = 16

// watchIndex finds sessions by the names that a KeysWatcher has for their keys. The
// mu of its Sources guards it.
type watchIndex struct {
	name func(key string) string
	keys map[string]string // by name
}

func (x *watchIndex) add(key string) { x.keys[x.name(key)] = key }

// renew makes the index anew.
func (x *watchIndex) renew(all ...map[string]*session) {
	x.keys = make(map[string]string)
	for _, sessions := range all {
		for key := range sessions {
			x.add(key)
		}
	}
}

// named returns the session in memory of which a KeysWatcher has told, and all of them
// for "".
func (s *Sources) named(x *watchIndex, name string) []*session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if name != "" {
		key, ok := x.keys[name]
		if own := s.recent[key]; ok && own != nil {
			return []*session{own}
		}
		if own := s.before[key]; ok && own != nil {
			return []*session{own}
		}
		return nil
	}
	all := make([]*session, 0, len(s.recent)+len(s.before))
	for _, sessions := range []map[string]*session{s.recent, s.before} {
		for _, own := range sessions {
			all = append(all, own)
		}
	}
	return all
}
