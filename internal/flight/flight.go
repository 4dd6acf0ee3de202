// Package flight collapses concurrent calls into one that belongs to none of
// its callers.
//
// It stands on x/sync/singleflight and adds what a refresh needs: the call runs
// on a context of its own, so that the first caller's cancellation fails nobody
// else; each waiter leaves when its own context ends; and a panic or a
// [runtime.Goexit] in the call becomes an error for every waiter.
package flight

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// ErrClosed is returned by [Group.Do] after [Group.Close].
var ErrClosed = errors.New("closed")

var errGoexit = errors.New("goroutine ended without a result (runtime.Goexit)")

// A PanicError is a panic of the called function, as an error.
//
// Its text names the type of the value only: the value itself may hold a
// secret, and is there for whoever asks.
type PanicError struct {
	Value any
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("panic of type %T", e.Value)
}

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// A Group runs at most one call a key at a time. The zero value is ready to
// use. It is safe for concurrent use and must not be copied.
type Group[T any] struct {
	calls singleflight.Group

	mu      sync.Mutex    // guards closing, and running.Add against running.Wait
	closing chan struct{} // closed by Close; nil until somebody needs it
	running sync.WaitGroup
}

// Do returns the result of the call in flight for key, and starts fn where
// there is none. fn gets a context that keeps the values of ctx, is not
// cancelled with it, and ends after timeout.
//
// Do blocks until the call is done or ctx ends; in the second case it returns
// the cause of ctx's end, and the call goes on.
func (g *Group[T]) Do(ctx context.Context, key string, timeout time.Duration, fn func(context.Context) (T, error)) (T, error) {
	select {
	case r := <-g.Start(ctx, key, timeout, fn):
		v, _ := r.Val.(T)
		return v, r.Err
	case <-ctx.Done():
		var zero T
		return zero, context.Cause(ctx)
	}
}

// Start is [Group.Do] for a caller that does not wait.
func (g *Group[T]) Start(ctx context.Context, key string, timeout time.Duration, fn func(context.Context) (T, error)) <-chan singleflight.Result {
	return g.calls.DoChan(key, func() (any, error) {
		// Counted under the lock, so that Close either waits for this call or
		// keeps it from starting.
		g.mu.Lock()
		select {
		case <-g.closing:
			g.mu.Unlock()
			return nil, ErrClosed
		default: // also if it is nil
		}
		g.running.Add(1)
		g.mu.Unlock()
		defer g.running.Done()

		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		// Not awaited on ctx: what is in flight ends by itself, or Close and the
		// next caller would believe that it has.
		return Await(context.Background(), func() (T, error) { return fn(own) }) //nolint:contextcheck // see above
	})
}

// UntilClosed returns a context that ends with ctx, or with [ErrClosed] as its
// cause when Close is called: for the part of a call that can be broken off.
func (g *Group[T]) UntilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	g.mu.Lock()
	if g.closing == nil {
		g.closing = make(chan struct{})
	}
	closing := g.closing
	g.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		select {
		case <-closing:
			cancel(ErrClosed)
		case <-done:
		}
	}()
	return ctx, sync.OnceFunc(func() {
		close(done)
		cancel(context.Canceled)
	})
}

// Close makes later calls fail with [ErrClosed] and blocks until the calls in
// flight are done.
func (g *Group[T]) Close() {
	g.mu.Lock()
	if g.closing == nil {
		g.closing = make(chan struct{})
	}
	select {
	case <-g.closing: // it was closed before
	default:
		close(g.closing)
	}
	g.mu.Unlock()
	g.running.Wait()
}

// Await calls fn on a goroutine of its own and returns its result, or the cause
// of ctx's end if that comes first; then fn is left to itself. A panic or a
// Goexit of fn is returned as an error.
func Await[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		// A Goexit cannot be stopped, so this goroutine is one that it may end.
		r := result{err: errGoexit}
		defer func() {
			if p := recover(); p != nil {
				r.err = &PanicError{Value: p}
			}
			done <- r
		}()
		r.v, r.err = fn()
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var zero T
		return zero, context.Cause(ctx)
	}
}
