package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/internal/backoff"
	"example.com/authtrip/internal/flight"
)

// A document is something that a server publishes: fetched when it is needed,
// kept, and fetched again in the background when it is old. The zero value is
// empty and ready to use.
type document[T any] struct {
	cur     atomic.Pointer[edition[T]]
	failing atomic.Pointer[backoff.Setback]
	flights flight.Group[T]

	restoring sync.Mutex
	restored  atomic.Bool
}

type edition[T any] struct {
	value T
	at    time.Time
}

const (
	fetchTimeout = 10 * time.Second
	firstSetback = 500 * time.Millisecond
	longSetback  = time.Minute
)

// get returns the copy at hand, and one that was just fetched if there is none.
func (d *document[T]) get(ctx context.Context, ttl time.Duration, fetch func(context.Context) (T, error)) (T, error) {
	if e := d.cur.Load(); e != nil {
		if ttl >= 0 && time.Since(e.at) >= ttl && !d.failing.Load().Waiting() {
			d.flights.Start(ctx, "", fetchTimeout, d.once(fetch, e))
		}
		return e.value, nil
	}
	if f := d.failing.Load(); f.Waiting() {
		var zero T
		return zero, f.Err
	}
	v, err := d.flights.Do(ctx, "", fetchTimeout, d.once(fetch, nil))
	return v, interrupted(ctx, err)
}

// renew fetches another copy than seen and waits for it.
func (d *document[T]) renew(ctx context.Context, seen *edition[T], fetch func(context.Context) (T, error)) (T, error) {
	v, err := d.flights.Do(ctx, "", fetchTimeout, d.once(fetch, seen))
	return v, interrupted(ctx, err)
}

// once is what runs in the flight. A caller may have looked just before the last
// flight landed.
func (d *document[T]) once(fetch func(context.Context) (T, error), seen *edition[T]) func(context.Context) (T, error) {
	return func(ctx context.Context) (T, error) {
		if e := d.cur.Load(); e != seen && e != nil {
			return e.value, nil
		}
		v, err := fetch(ctx)
		if err != nil {
			d.failed(err)
			return v, err
		}
		d.failing.Store(nil)
		d.cur.Store(&edition[T]{value: v, at: time.Now()})
		return v, nil
	}
}

func (d *document[T]) failed(err error) {
	d.failing.Store(backoff.After(d.failing.Load(), err, func(attempts int) time.Duration {
		wait := backoff.Doubled(attempts, firstSetback, longSetback)
		if ee, ok := errors.AsType[*EndpointError](err); ok {
			wait = max(wait, ee.RetryAfter)
		}
		return wait
	}))
}

// interrupted gives the end of a caller's own context this package's name.
func interrupted(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err == nil || cause == nil || !errors.Is(err, cause) {
		return err
	}
	if _, ok := errors.AsType[*CheckError](err); ok {
		return err // a cause of this package
	}
	return fmt.Errorf("login: %w", err)
}

// A carried document is what a Cache has of one, for the next start of the program.
type carried struct {
	At   time.Time `json:"at"`
	Body []byte    `json:"body"`
}

const (
	// restoreTimeout bounds the wait for a Cache.
	restoreTimeout = 2 * time.Second
	// carriedFor is how long a Cache keeps a document at least.
	carriedFor = 24 * time.Hour
)

// carry puts a document into the Cache. Without it the next start asks the server.
func carry(ctx context.Context, c authtrip.Cache, key string, body []byte, ttl time.Duration) {
	if c == nil {
		return
	}
	if ttl < 0 {
		ttl = 365 * 24 * time.Hour // for ever
	}
	doc, err := json.Marshal(carried{time.Now().Round(0), body})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	_ = c.Set(ctx, key, doc, max(carriedFor, 2*ttl))
}

// restore takes from the Cache what a program before this one has put there, once.
// Others wait for it, as they would for the server.
func (d *document[T]) restore(ctx context.Context, c authtrip.Cache, key string, parse func([]byte) (T, error)) {
	if c == nil || d.restored.Load() || d.cur.Load() != nil {
		return
	}
	d.restoring.Lock()
	defer d.restoring.Unlock()
	if d.restored.Load() {
		return
	}
	defer d.restored.Store(true)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
	defer cancel()
	kept, err := c.Get(ctx, key)
	if err != nil {
		return
	}
	var doc carried
	if json.Unmarshal(kept, &doc) != nil || doc.At.After(time.Now().Add(time.Minute)) {
		return
	}
	if v, err := parse(doc.Body); err == nil {
		d.cur.CompareAndSwap(nil, &edition[T]{value: v, at: doc.At})
	}
}
