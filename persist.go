package authtrip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// This file is how a flight gets a token out of the Store and into it, and never
// loses one on the way.

// unsaved is a record that came from the server and that Store did not take.
type unsaved struct {
	rec     *record
	version string // which it is to replace
}

// glance adopts what another process has put into the Store, before a lease is
// waited for. It saves most replicas the lease, and a new process the wait while
// somebody renews a token that is still good.
func (r *renewal) glance(ctx context.Context) (*snapshot, EventKind) {
	if _, ok := r.Store.(Leaser); !ok || !r.mustKnow() {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	if r.read(ctx) != nil || r.unsaved != nil {
		return nil, ""
	}
	return r.adopt(ctx)
}

// read loads the record. Where there is none it starts from Initial; where the
// Store does not answer, from what is in memory if that can do no harm.
func (r *renewal) read(ctx context.Context) error {
	r.rec, r.version = nil, ""
	loading, cancel := r.brief(ctx)
	defer cancel()
	rec, version, err := r.load(loading)
	r.blind = err != nil && !errors.Is(err, ErrNotFound)
	if err == nil {
		r.rec, r.version = rec, version
		if b := r.base; b != nil && b.login != "" && b.login == rec.Login && rec.Generation < b.generation {
			// The Store has lost its last writes, and what it has is spent.
			r.rec = b.record()
			r.rec.Variants = rec.Variants
		}
		return nil
	}
	missing := errors.Is(err, ErrNotFound)
	if r.base != nil && !missing {
		r.rec, r.version = r.base.record(), r.base.version
	} else if r.Initial != nil {
		r.rec = (*record)(nil).with(r.Initial, time.Now())
		r.rec.exchange("", r.Variant)
	}
	switch {
	case missing && r.base != nil && r.base.forgotten:
		return &RefreshError{Err: fmt.Errorf("%w: the token was forgotten", ErrReauthRequired)}
	case missing && r.dead != nil && (r.base == nil || r.base.token.RefreshToken == "" || hashed(r.base.token.RefreshToken) == r.dead.hash):
		return r.dead.err
	case missing && r.base != nil && r.base.version != "" && r.base.token.RefreshToken != "":
		r.base.refused.Store(true)
		return &RefreshError{Err: fmt.Errorf("%w: the record was deleted from the Store", ErrReauthRequired)}
	case !missing && r.mustKnow() && (r.rec == nil || !r.AllowRefreshWithoutStore || version != ""):
		return err // whether it was spent meanwhile, only the Store knows
	}
	return nil
}

// brief bounds one Store operation where a refresh can do without it, so that a Store
// that hangs leaves the time for the refresh.
func (r *renewal) brief(ctx context.Context) (context.Context, context.CancelFunc) {
	if !r.AllowRefreshWithoutStore {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, min(saveTimeout, r.timeout()/4))
}

// put saves rec.
func (r *renewal) put(ctx context.Context, rec *record, version string) (string, error) {
	version, err := r.store().Save(ctx, r.key(), rec.encode(r.Variant), version)
	if err == nil {
		r.wrote = version
	}
	return version, err
}

// unwrite removes what this flight has put into the Store after a Forget.
func (r *renewal) unwrite(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	_ = r.store().Delete(ctx, r.key(), r.wrote)
}

// mark saves the record with p in it.
func (r *renewal) mark(ctx context.Context, p pending) error {
	marked := *r.rec
	marked.Pending = &p
	saving, cancel := r.brief(ctx)
	defer cancel()
	version, err := r.put(saving, &marked, r.version)
	if err != nil {
		// Not sent without the mark: a crash would go unseen.
		return fmt.Errorf("authtrip: Store.Save before the refresh: %w", err)
	}
	r.version = version
	return nil
}

// save stores next and publishes it. A race that is lost means that what won is
// used.
func (r *renewal) save(ctx context.Context, next *record) (*snapshot, EventKind, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	kind := EventTokenRefreshed
	if r.base == nil && !next.spends() {
		kind = EventTokenObtained
	}
	version, err := r.write(ctx, next)
	switch {
	case err == nil:
		r.hold(nil)
		return r.publish(r.newSnapshot(next, version)), kind, nil
	case errors.Is(err, ErrConflict), errors.Is(err, ErrNotFound):
		r.hold(nil)
		if r.rec == nil || errors.Is(err, ErrNotFound) {
			return nil, "", &RefreshError{Err: fmt.Errorf("%w: the record was deleted from the Store meanwhile", ErrReauthRequired)}
		}
		return r.publish(r.newSnapshot(r.rec, r.version)), EventTokenAdopted, nil
	case !next.spends():
		// It can be had again at any time: the Store is a convenience here.
		r.emit(Event{Kind: EventTokenNotSaved, Err: err})
		return r.publish(r.newSnapshot(next, r.version)), kind, nil
	}
	r.hold(&unsaved{next, r.version})
	if r.AllowRefreshWithoutStore {
		r.emit(Event{Kind: EventTokenNotSaved, Err: err})
		return r.publish(r.newSnapshot(next, r.version)), kind, nil
	}
	return nil, "", &RefreshError{Err: fmt.Errorf("%w: %w", ErrNotSaved, err)}
}

// hold keeps a record that is nowhere else.
func (r *renewal) hold(u *unsaved) {
	r.unsaved = u
	r.pinned.Store(u != nil)
}

// write saves next, trying again while the Store fails. After ErrConflict, rec
// and version are what is there, which may be next: a Save that failed may have
// been done.
func (r *renewal) write(ctx context.Context, next *record) (string, error) {
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		version, err := r.put(ctx, next, r.version)
		if err == nil {
			return version, nil
		}
		if errors.Is(err, ErrConflict) {
			rec, there, loadErr := r.load(ctx)
			if loadErr != nil {
				return "", loadErr
			}
			if rec.AccessToken == next.AccessToken && rec.RefreshToken == next.RefreshToken {
				return there, nil
			}
			r.rec, r.version = rec, there
			return "", ErrConflict
		}
		if !sleep(ctx, wait) {
			return "", fmt.Errorf("authtrip: Store.Save: %w", err)
		}
	}
}

// bury takes a dead refresh token out of the Store, if it is still there. What
// cannot be done here does no harm: the next one to try finds the token dead.
func (r *renewal) bury(ctx context.Context) {
	usable := r.newSnapshot(r.rec, "").usable() && (r.base == nil || !r.base.refused.Load())
	if !usable && len(r.rec.Variants) == 0 {
		_ = r.store().Delete(ctx, r.key(), r.version)
		return
	}
	without := *r.rec
	without.RefreshToken, without.Pending = "", nil
	_, _ = r.store().Save(ctx, r.key(), without.encode(r.Variant), r.version)
}

// lease waits until no other process refreshes this token. Where what a refresh
// sends can be had again, two at once do no harm, and it goes without. It waits
// until ctx ends.
func (r *renewal) lease(ctx context.Context) (release func(), err error) {
	leaser, ok := r.Store.(Leaser)
	if !ok || !r.mustKnow() || r.blind && r.AllowRefreshWithoutStore {
		return func() {}, nil
	}
	give, err := leaser.Lease(ctx, r.key(), r.leaseTTL())
	if errors.Is(err, errors.ErrUnsupported) {
		return func() {}, nil // a Store around one that has none
	}
	if err != nil && r.AllowRefreshWithoutStore && ctx.Err() == nil {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("authtrip: Store.Lease: %w", err)
	}
	return func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
		defer cancel()
		_ = give(late) // it ends by itself too
	}, nil
}

// leaseTTL outlives the refresh and the saving of what it brings.
func (s *Source) leaseTTL() time.Duration { return s.timeout() + 2*saveTimeout }

// flightTimeout is for waiting until another process's lease has ended, and for
// a refresh then.
func (s *Source) flightTimeout() time.Duration { return s.leaseTTL() + s.timeout() }

func (s *Source) store() Store {
	if s.Store == nil {
		return &s.private
	}
	return s.Store
}

// owner returns a random name for this Source.
func (s *Source) owner() string {
	if s.name == "" {
		s.name = rand.Text()
	}
	return s.name
}

func (s *Source) key() string {
	if s.Key == "" {
		return "default"
	}
	return s.Key
}

// load returns the record and its version. One that cannot be read may have a
// version too, so that a login can take its place.
func (s *Source) load(ctx context.Context) (*record, string, error) {
	b, version, err := s.store().Load(ctx, s.key())
	if err != nil {
		return nil, version, fmt.Errorf("authtrip: Store.Load: %w", err)
	}
	rec, err := decodeRecord(b, s.Variant)
	return rec, version, err
}
