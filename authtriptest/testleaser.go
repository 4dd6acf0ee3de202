package authtriptest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authtrip"
)

// TestLeaser checks, in subtests, that a store keeps the promises of
// [authtrip.Leaser], which it must implement. newStore is that of [TestStore].
//
// The suite waits for events and not for times, but where it checks that a lease
// is held or that it expires: a second or two in all. A store has ten seconds for
// what it is to do soon.
func TestLeaser(t *testing.T, newStore func(t *testing.T) authtrip.Store) {
	t.Helper()
	for _, c := range leaserChecks() {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			l, ok := s.(leaser)
			if !ok {
				t.Fatalf("%T is no authtrip.Leaser", s)
			}
			c.run(t, l)
		})
	}
}

// leaser is the store under test.
type leaser interface {
	authtrip.Store
	authtrip.Leaser
}

// leaserCheck is one subtest of TestLeaser.
type leaserCheck struct {
	name string
	run  func(tb testing.TB, l leaser)
}

func leaserChecks() []leaserCheck {
	return []leaserCheck{
		{"ReleaseFrees", leaserRelease},
		{"Exclusive", leaserExclusive},
		{"EveryWaiterGetsIt", leaserWaiters},
		{"Expires", leaserExpiry},
		{"LateReleaseFreesNobodyElses", leaserLateRelease},
		{"ReleaseTwice", leaserReleaseTwice},
		{"Keys", leaserKeys},
		{"OutlivesItsContext", leaserContext},
		{"CancelledContext", leaserCancelled},
		{"CancelledWait", leaserCancelledWait},
		{"RecordIsNotLocked", leaserRecord},
	}
}

const (
	// patience is how long a store may take for what it is to do soon.
	patience = 10 * time.Second
	// glance is how long a lease is waited for that somebody holds.
	glance = 100 * time.Millisecond
)

func leaserRelease(tb testing.TB, l leaser) {
	for range 5 {
		mustRelease(tb, mustLease(tb, l, "key", keep))
	}
}

func leaserExclusive(tb testing.TB, l leaser) {
	release := mustLease(tb, l, "key", keep)
	wantHeld(tb, l, "key")
	var released atomic.Bool
	got := make(chan error, 1)
	go func() {
		_, err := l.Lease(tb.Context(), "key", keep)
		if err == nil && !released.Load() {
			err = errors.New("two hold it at once")
		}
		got <- err
	}()
	wantHeld(tb, l, "key")
	released.Store(true)
	mustRelease(tb, release)
	select {
	case err := <-got:
		if err != nil {
			tb.Errorf("Lease by one who waits: %v", err)
		}
	case <-time.After(patience):
		tb.Fatalf("one who waits did not get a lease that was released %v ago", patience)
	}
	wantHeld(tb, l, "key")
}

// leaserWaiters: nobody is forgotten, and nobody has company.
func leaserWaiters(tb testing.TB, l leaser) {
	var holders atomic.Int32
	ctx, cancel := context.WithTimeout(tb.Context(), 6*patience)
	defer cancel()
	won := race(tb, func(i int) error {
		if i >= racers/5 {
			return authtrip.ErrConflict // these do not take part
		}
		release, err := l.Lease(ctx, "key", keep)
		if err != nil {
			return err
		}
		if n := holders.Add(1); n != 1 {
			tb.Errorf("%d hold the lease at once", n)
		}
		pass(tick / 10)
		holders.Add(-1)
		return release(ctx)
	}, authtrip.ErrConflict)
	if len(won) != racers/5 {
		tb.Errorf("%d of %d got the lease", len(won), racers/5)
	}
}

func leaserExpiry(tb testing.TB, l leaser) {
	const ttl = 4 * tick
	begin := time.Now()
	mustLease(tb, l, "key", ttl)
	mustLease(tb, l, "key", keep)
	// Stores count in milliseconds.
	if took := time.Since(begin); took < ttl-2*time.Millisecond {
		tb.Errorf("a lease of %v was free after %v", ttl, took)
	}
	wantHeld(tb, l, "key")
}

func leaserLateRelease(tb testing.TB, l leaser) {
	late := mustLease(tb, l, "key", tick)
	release := mustLease(tb, l, "key", keep)
	mustRelease(tb, late)
	wantHeld(tb, l, "key")
	mustRelease(tb, release)
	mustRelease(tb, mustLease(tb, l, "key", keep))
}

func leaserReleaseTwice(tb testing.TB, l leaser) {
	first := mustLease(tb, l, "key", keep)
	mustRelease(tb, first)
	mustRelease(tb, first)
	mustLease(tb, l, "key", keep)
	mustRelease(tb, first)
	wantHeld(tb, l, "key")
}

func leaserKeys(tb testing.TB, l leaser) {
	for _, key := range oddKeys() {
		mustLease(tb, l, key, keep)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), glance)
	defer cancel()
	var wg sync.WaitGroup
	for _, key := range oddKeys() {
		wg.Go(func() {
			if _, err := l.Lease(ctx, key, keep); !errors.Is(err, context.DeadlineExceeded) {
				tb.Errorf("Lease on %s, which is held: %v, want that it waits", short(key), err)
			}
		})
	}
	wg.Wait()
}

func leaserContext(tb testing.TB, l leaser) {
	ctx, cancel := context.WithCancel(tb.Context())
	release, err := l.Lease(ctx, "key", keep)
	if err != nil {
		tb.Fatalf("Lease: %v", err)
	}
	cancel()
	wantHeld(tb, l, "key")
	mustRelease(tb, release)
	mustRelease(tb, mustLease(tb, l, "key", keep))
}

func leaserCancelled(tb testing.TB, l leaser) {
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	_, err := l.Lease(ctx, "key", keep)
	wantCancelled(tb, "Lease", err)
	mustLease(tb, l, "key", keep)
}

// leaserCancelledWait: one who no longer waits gets nothing.
func leaserCancelledWait(tb testing.TB, l leaser) {
	release := mustLease(tb, l, "key", keep)
	ctx, cancel := context.WithCancel(tb.Context())
	got := make(chan error, 1)
	go func() {
		_, err := l.Lease(ctx, "key", keep)
		got <- err
	}()
	wantHeld(tb, l, "key") // the other one waits too by now, most likely
	cancel()
	select {
	case err := <-got:
		wantCancelled(tb, "Lease", err)
	case <-time.After(patience):
		tb.Fatalf("Lease has not returned %v after its context was cancelled", patience)
	}
	mustRelease(tb, release)
	for begin := time.Now(); time.Since(begin) < glance; {
		mustRelease(tb, mustLease(tb, l, "key", keep))
		pass(tick / 10)
	}
}

// leaserRecord: who holds the lease saves the record, and so may others.
func leaserRecord(tb testing.TB, l leaser) {
	mustLease(tb, l, "key", keep)
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	version, err := l.Save(ctx, "key", []byte("one"), "")
	if err != nil {
		tb.Fatalf("Save while the lease is held: %v", err)
	}
	if _, at, err := l.Load(ctx, "key"); err != nil || at != version {
		tb.Errorf("Load while the lease is held: version %q, %v, want %q", at, err, version)
	}
	if err := l.Delete(ctx, "key", version); err != nil {
		tb.Errorf("Delete while the lease is held: %v", err)
	}
	wantHeld(tb, l, "key")
}

// mustLease takes a lease that is free, or is to be soon.
func mustLease(tb testing.TB, l leaser, key string, ttl time.Duration) (release func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	release, err := l.Lease(ctx, key, ttl)
	if err != nil {
		tb.Fatalf("Lease on %s: %v, want it within %v", short(key), err, patience)
	}
	return release
}

func mustRelease(tb testing.TB, release func(context.Context) error) {
	tb.Helper()
	if err := release(tb.Context()); err != nil {
		tb.Errorf("release: %v", err)
	}
}

// wantHeld checks that somebody holds the lease on key.
func wantHeld(tb testing.TB, l leaser, key string) { //nolint:unparam // as its siblings have it
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), glance)
	defer cancel()
	begin := time.Now()
	if _, err := l.Lease(ctx, key, keep); !errors.Is(err, context.DeadlineExceeded) {
		tb.Fatalf("Lease on %s, which is held: %v, want that it waits until its context ends", short(key), err)
	}
	if took := time.Since(begin); took > glance+patience {
		tb.Fatalf("Lease with a context of %v has waited for %v", glance, took)
	}
}
