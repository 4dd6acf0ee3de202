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
	// Watch returns a channel that gets a value whenever the record under key may have been
	// saved or deleted, by anybody. The value comes after the change. Values are merged, and
	// one may be lost: do not depend on it. The channel is closed when ctx ends. An error
	// that is [errors.ErrUnsupported] means that the store cannot tell.
	Watch(ctx context.Context, key string) (<-chan struct{}, error)
}

// Watch follows the session in Store, so that three things are noticed at once and not at
// the next refresh:
//
//   - a token that another process has refreshed: it is loaded;
//   - a logout or a new login in another process;
//   - a record that the Store has lost: it is saved again.
//
// If the Store loses a message, the next refresh notices the change.
//
// It blocks until ctx ends, and returns the cause, or [ErrClosed] after Close. Call it in
// a goroutine. If Store is no [Watcher], the error is [errors.ErrUnsupported].
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
	changed, err := w.Watch(ctx, own.key())
	switch {
	case err != nil && ctx.Err() != nil:
		return watchEnd(ctx)
	case err != nil:
		return fmt.Errorf("authtrip: Source.Watch: %w", err)
	}
	own.look(ctx) // it may have changed before, since another watch has ended
	for range changed {
		if own, err = s.session(); err != nil { // one of Sources may be another one by now
			return err
		}
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

// Watch follows all sessions in memory, as [Source.Watch] follows one. It takes one
// connection to the Store of Each. If that is no [KeysWatcher], or New makes the sessions,
// the error is [errors.ErrUnsupported].
//
// It blocks until ctx ends, and returns the cause, or [ErrClosed] after Close. Call it in
// a goroutine.
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
	switch {
	case err != nil && ctx.Err() != nil:
		return watchEnd(ctx)
	case err != nil:
		return fmt.Errorf("authtrip: Sources.Watch: %w", err)
	}
	index := &watchIndex{name: name}
	s.follow(index)
	defer s.unfollow(index)
	var looks sync.WaitGroup
	turns := make(chan struct{}, maxLooks)
	look := func(name string) {
		for _, own := range s.named(index, name) {
			turns <- struct{}{}
			looks.Go(func() {
				own.look(ctx)
				<-turns
			})
		}
	}
	look("") // all may have changed before, since another watch has ended
	for name := range changed {
		look(name)
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
