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

// Watch follows the session in Store until ctx ends, and returns the cause: a token
// that another process has refreshed is taken over, a logout and a new login are
// noticed at once, and a record that the Store has lost is put back. Without it, or
// where the Store's message is lost, that is noticed at the next refresh.
//
// It blocks, so it is for a goroutine of the caller's. A Store that is no
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
	return context.Cause(ctx)
}
