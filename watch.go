package authtrip

import (
	"context"
	"errors"
	"fmt"
)

// A Watcher is a [Store] that can tell when a record was changed. It is found by
// type assertion.
type Watcher interface {
	// Watch returns a channel that gets a value whenever the record under key may
	// have been saved or deleted, by anybody. Values are merged, and one may be
	// lost: whoever watches hears of changes early, and must not depend on it. The
	// channel is closed when ctx ends. An error that is [errors.ErrUnsupported]
	// says that the Store cannot tell.
	Watch(ctx context.Context, key string) (<-chan struct{}, error)
}

// Watch follows the record in Store until ctx ends, and returns the cause: a token
// that another process has refreshed is taken over, and one that it has forgotten
// or put another login in place of is not used any more. Without it, or where the
// Store's message is lost, that is noticed at the next refresh.
//
// It blocks, so it is for a goroutine of the caller's. A Store that is no
// [Watcher] is an error that is [errors.ErrUnsupported].
func (s *Source) Watch(ctx context.Context) error {
	w, ok := s.Store.(Watcher)
	if !ok {
		return fmt.Errorf("authtrip: Source.Watch: Store is no Watcher: %w", errors.ErrUnsupported)
	}
	changed, err := w.Watch(ctx, s.key())
	if err != nil {
		return fmt.Errorf("authtrip: Source.Watch: %w", err)
	}
	for range changed {
		s.look(ctx)
	}
	return context.Cause(ctx)
}

// look takes over what the Store has. A Store that does not answer says nothing.
func (s *Source) look(ctx context.Context) {
	cur := s.cur.Load()
	if cur == nil || cur.forgotten {
		return // there is nothing that could be wrong
	}
	rec, version, err := s.load(ctx)
	switch {
	case errors.Is(err, ErrNotFound) && cur.version != "":
		cur.refused.Store(true)
	case err != nil, rec.AccessToken == cur.token.AccessToken,
		rec.Login == cur.login && rec.Generation < cur.generation:
	default:
		snap := s.newSnapshot(rec, version)
		if !snap.usable() {
			if rec.Login != cur.login {
				cur.refused.Store(true)
			}
		} else if s.cur.CompareAndSwap(cur, snap) {
			s.emit(Event{Kind: EventTokenAdopted})
		}
	}
}
