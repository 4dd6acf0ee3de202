package authtrip

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/wire"
)

// This file is what happens in a Source's flight, of which there is one at a
// time. The order is fixed: adopt what somebody else has put into the store, or
// take the lease, look again, mark the refresh token as sent, refresh, save,
// publish. Whoever waits is let go only after the save.

const (
	// maxRequests is how often one flight sends a refresh token: once, and twice
	// more if no usable answer comes and the replay window is open.
	maxRequests = 3
	// saveTimeout is the time to get a new token into the Store, whatever the
	// refresh took.
	saveTimeout = 2500 * time.Millisecond
	// rereadInterval is how often a shared Store is asked whether somebody has
	// logged in again.
	rereadInterval = 5 * time.Second
	// pollInterval is how often a Store without leases is read while another
	// process refreshes.
	pollInterval = 100 * time.Millisecond
)

var errElsewhere = errors.New("authtrip: another process is refreshing this token: try again")

// A renewal is one flight.
type renewal struct {
	*Source
	base     *snapshot // what was published when it began
	rec      *record   // what the Store holds, or what stands in for it; may be nil
	version  string    // of rec; "" if the Store holds none
	requests int
	wrote    string // the version of this flight's last Save
	blind    bool   // the Store did not answer when it was last read
}

// deadToken is a refresh token that must not be sent again.
type deadToken struct {
	hash string
	err  error
}

// renew returns a token other than seen, the one that the caller found wanting.
func (s *Source) renew(ctx context.Context, seen *snapshot) (*snapshot, error) {
	s.renewing.Store(true)
	defer s.renewing.Store(false)
	// The caller may have looked just before the last flight landed.
	if cur := s.cur.Load(); cur != seen && cur.usable() {
		return cur, nil
	}
	r := renewal{Source: s, base: s.cur.Load()}
	began := r.base
	last := s.failure(r.base)
	if !last.due() {
		return nil, last.err
	}
	start := time.Now()
	// Waiting for other processes ends at Close, as nothing has been sent then.
	waiting, cancel := s.flights().UntilClosed(ctx)
	defer cancel()
	snap, kind, err := r.obtain(ctx, waiting)
	for notYet(snap, kind, err) && sleep(waiting, pollInterval) {
		r.base = s.cur.Load()
		snap, kind, err = r.obtain(ctx, waiting)
	}
	if errors.Is(context.Cause(waiting), flight.ErrClosed) && err != nil && r.requests == 0 {
		return nil, flight.ErrClosed
	}
	if gone := s.cur.Load(); gone != nil && gone.forgotten && gone != began && r.wrote != "" {
		r.unwrite(ctx) // what was saved after Forget had found nothing
	}
	if err == nil && snap.forgotten {
		err = &RefreshError{Err: fmt.Errorf("%w: the token was forgotten", ErrReauthRequired)}
	}
	event := Event{Kind: kind, Duration: time.Since(start), Requests: r.requests, Err: err}
	if err != nil {
		event.Kind = r.failed(err, last)
		if re, ok := errors.AsType[*RefreshError](err); ok {
			event.StatusCode, event.Code = re.StatusCode, re.Code
		}
		s.emit(event)
		return nil, err
	}
	s.failing.Store(nil)
	s.emit(event)
	return snap, nil
}

// notYet reports whether it is worth another look: without leases another process
// may be at it, and a login that came meanwhile may have a refresh token alone.
func notYet(snap *snapshot, kind EventKind, err error) bool {
	switch {
	case err != nil:
		return errors.Is(err, errElsewhere) || errors.Is(err, ErrConflict)
	case snap.forgotten:
		return false
	}
	return snap.token.AccessToken == "" || kind == EventTokenAdopted && !snap.usable()
}

// failed records an error and paces what follows it.
func (r *renewal) failed(err error, last *failure) EventKind {
	f := &failure{of: r.base, err: err, at: time.Now(), row: 1}
	if last != nil {
		f.row = last.row + 1
	}
	f.wait = backoff(f.row)
	if re, ok := errors.AsType[*RefreshError](err); ok {
		f.wait = max(f.wait, re.RetryAfter)
	}
	kind := EventRefreshFailed
	switch {
	case errors.Is(err, ErrReauthRequired):
		kind = EventReauthRequired
		if r.dead != nil && r.Store == nil {
			f.wait = math.MaxInt64
		} else {
			f.wait = max(f.wait, rereadInterval)
		}
	case errors.Is(err, ErrNotSaved):
		kind = EventTokenNotSaved
	case errors.Is(err, ErrInDoubt):
		kind = EventRefreshInDoubt
	}
	r.failing.Store(f)
	return kind
}

// obtain waits for its turn until waiting ends, and goes on until ctx does.
func (r *renewal) obtain(ctx, waiting context.Context) (*snapshot, EventKind, error) {
	if r.Refresher == nil {
		return nil, "", errors.New("authtrip: Source.Refresher is nil")
	}
	if snap, kind := r.glance(waiting); snap != nil {
		return snap, kind, nil
	}
	release, err := r.lease(waiting)
	if err != nil {
		return nil, "", err
	}
	defer release()
	// From here on the time counts that a lease allows for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout())
	defer cancel()
	if r.base != nil && r.base.forgotten {
		r.hold(nil)
	}
	if u := r.unsaved; u != nil {
		r.version = u.version
		served := r.base != nil && r.base.token.AccessToken == u.rec.AccessToken
		refused := served && r.base.refused.Load()
		snap, kind, saveErr := r.save(ctx, u.rec)
		if saveErr != nil || snap.usable() && !served {
			return snap, kind, saveErr
		}
		if refused && snap.token.AccessToken == u.rec.AccessToken {
			snap.refused.Store(true)
		}
		r.base = r.cur.Load()
	}
	if err = r.read(ctx); err != nil {
		return nil, "", err
	}
	if snap, kind := r.adopt(ctx); snap != nil {
		return snap, kind, nil
	}
	if r.rec.spends() && r.mustKnow() {
		return r.spend(ctx)
	}
	tok, err := r.request(ctx)
	if err != nil {
		return nil, "", err
	}
	return r.save(ctx, r.rec.with(tok, time.Now()))
}

// mustKnow reports whether a refresh may spend what somebody else has spent.
// Only the grants of a program that acts for itself cannot.
func (r *renewal) mustKnow() bool {
	if g, ok := r.Refresher.(*Grant); ok {
		return g.grantType() == grantRefreshToken
	}
	return r.rec == nil || r.rec.spends()
}

// adopt publishes the record's token if it is another one than before and can
// be used.
func (r *renewal) adopt(ctx context.Context) (*snapshot, EventKind) {
	if r.rec == nil || r.base != nil && r.base.token.AccessToken == r.rec.AccessToken {
		return nil, ""
	}
	snap := r.newSnapshot(r.rec, r.version)
	if !snap.usable() {
		return nil, ""
	}
	if r.version == "" {
		// Initial, which is stored before it is used. If that fails it is used
		// all the same: it is at hand, and a refresh will store its successor.
		version, err := r.put(ctx, r.rec, "")
		if errors.Is(err, ErrConflict) && r.read(ctx) == nil && r.version != "" {
			return r.adopt(ctx)
		}
		snap.version = version
	}
	if r.base == nil {
		return r.publish(snap), EventTokenObtained
	}
	return r.publish(snap), EventTokenAdopted
}

// publish puts snap in place of what was there when the flight began. A token
// that was set meanwhile is a newer one, and stays.
func (r *renewal) publish(snap *snapshot) *snapshot {
	if r.base != nil && r.base.refused.Load() {
		snap.refusals = 1
		if r.base.verdict.Load() == verdictRefused {
			snap.refusals = r.base.refusals + 1
		}
		snap.patience = backoff(snap.refusals)
	}
	if !r.cur.CompareAndSwap(r.base, snap) {
		return r.cur.Load()
	}
	return snap
}

// spend sends the refresh token, and says in the record that it does so before
// it does: whoever finds the record after a crash knows that the token may be
// spent (rules.md, section 4.3).
func (r *renewal) spend(ctx context.Context) (*snapshot, EventKind, error) {
	hash := hashed(r.rec.RefreshToken)
	if r.dead != nil && r.dead.hash == hash {
		return nil, "", r.dead.err
	}
	p := pending{TokenHash: hash, FirstSent: time.Now()}
	if r.rec.Pending != nil && r.rec.Pending.TokenHash == hash {
		p = *r.rec.Pending
		if r.inFlightElsewhere(p) {
			return nil, "", errElsewhere
		}
		if p.Owner == r.owner() && p.LastSent.Equal(r.unsent) {
			p.Attempts-- // the mark was saved after all, and nothing was sent
		}
		if p.Attempts == 0 {
			p.FirstSent = time.Now()
		}
	}
	var err error
	var took time.Duration
	for {
		if p.Attempts > 0 && !r.mayReplay(p, took) {
			return nil, "", r.inDoubt(err)
		}
		p.Attempts++
		p.Owner, p.LastSent = r.owner(), time.Now().Round(0)
		err = r.mark(ctx, p)
		if err == nil && ctx.Err() != nil {
			err = fmt.Errorf("authtrip: Store.Save before the refresh took too long: %w", context.Cause(ctx))
		}
		if err != nil && (errors.Is(err, ErrConflict) || !r.AllowRefreshWithoutStore || ctx.Err() != nil) {
			r.unsent = p.LastSent
			return nil, "", err
		}
		start := time.Now()
		var tok *oauth2.Token
		tok, err = r.request(ctx)
		if err == nil {
			return r.save(ctx, r.rec.with(tok, time.Now()))
		}
		if !isAmbiguous(err) {
			return r.refused(ctx, p, err)
		}
		took = time.Since(start)
		if !r.pause(ctx) {
			return nil, "", r.inDoubt(err)
		}
	}
}

// inFlightElsewhere reports whether another process may be waiting for the answer
// to this very token: one without leases, or one whose lease was lost with the
// server that kept it.
func (r *renewal) inFlightElsewhere(p pending) bool {
	age := time.Since(p.LastSent)
	return p.Owner != r.owner() && -r.timeout() < age && age < r.timeout()
}

// mayReplay reports whether a refresh token of which the fate is unknown may be
// sent again. Servers count the window from when they took it, which is not
// before it was sent.
func (r *renewal) mayReplay(p pending, took time.Duration) bool {
	window := r.ReplayWindow
	switch {
	case window == ReplayForever || r.rec.Reusable:
		return r.requests < maxRequests
	case window == 0:
		window = 20 * time.Second
	}
	return p.Attempts < maxRequests && time.Since(p.FirstSent)+took < window
}

// pause waits before a replay: half a second, then two and a half, and three times
// that while there is a token that can be used and nobody waits. It reports false
// where there will be no replay.
func (r *renewal) pause(ctx context.Context) bool {
	d := 500 * time.Millisecond
	if r.requests > 1 {
		d *= 5
	}
	if r.base.usable() {
		d *= 3
	}
	if r.requests >= maxRequests || r.ReplayWindow < 0 {
		return false
	}
	return sleep(ctx, d)
}

// sleep waits for d, less a random share, and reports whether ctx is still good.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d - time.Duration(rand.Int64N(int64(d)/5)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// inDoubt is the error when a refresh token may not be sent again and nobody
// knows whether it is spent. While a token can be used there is no need to know.
func (r *renewal) inDoubt(cause error) error {
	e := RefreshError{Err: ErrInDoubt}
	if re, ok := errors.AsType[*RefreshError](cause); ok {
		e = *re
		e.Err = fmt.Errorf("%w: %w", ErrInDoubt, re.Err)
	}
	if r.ReplayWindow != ReplayForever && !r.rec.Reusable && !r.base.usable() {
		e.Err = fmt.Errorf("%w: %w", ErrReauthRequired, e.Err)
	}
	return &e
}

// refused handles an answer that says no. Only invalid_grant speaks of the
// refresh token itself (rules.md, section 4.2).
func (r *renewal) refused(ctx context.Context, p pending, err error) (*snapshot, EventKind, error) {
	if !errors.Is(err, ErrReauthRequired) {
		if p.Attempts == 1 {
			// The only time it was sent it was not taken.
			version, saveErr := r.put(ctx, r.rec, r.version)
			if saveErr == nil {
				r.version = version
			}
		}
		return nil, "", err
	}
	if p.Attempts > 1 {
		err = fmt.Errorf("%w: %w", ErrInDoubt, err)
		if re, ok := errors.AsType[*RefreshError](err); ok {
			lost := *re
			lost.Err = fmt.Errorf("%w, and that of the first try was lost (%w)", re.Err, ErrInDoubt)
			err = &lost
		}
	}
	r.dead = &deadToken{hash: p.TokenHash, err: err}
	rec, version, loadErr := r.load(ctx)
	switch {
	case loadErr == nil && rec.RefreshToken != r.rec.RefreshToken:
		// Somebody else was faster, and what it refused was the old one. Rule 30.
		r.rec, r.version = rec, version
		if snap, kind := r.adopt(ctx); snap != nil {
			return snap, kind, nil
		}
		return nil, "", &RefreshError{Err: errors.New("the record was changed by somebody else meanwhile: try again")}
	case loadErr != nil && !errors.Is(loadErr, ErrNotFound):
		return nil, "", loadErr // not confirmed
	}
	r.bury(ctx)
	return nil, "", err
}

// request asks the Refresher once. Its errors are *RefreshError, or plain ones
// of what is configured wrongly.
func (r *renewal) request(ctx context.Context) (*oauth2.Token, error) {
	var old *oauth2.Token
	if r.rec != nil {
		old = r.rec.token()
	}
	r.requests++
	// Not awaited on ctx: the answer of a Refresher that is late counts.
	tok, err := flight.Await(context.Background(), func() (*oauth2.Token, error) { //nolint:contextcheck // see above
		return r.Refresher.Refresh(ctx, old)
	})
	if err != nil {
		return nil, r.explain(err)
	}
	if tok == nil || tok.AccessToken == "" {
		return nil, &RefreshError{Err: errors.New("the Refresher returned no access token"), ambiguous: true}
	}
	if err := continues(r.rec, tok); err != nil {
		return nil, &RefreshError{Err: fmt.Errorf("%w: %w", ErrReauthRequired, err)}
	}
	if !tok.Expiry.IsZero() && !tok.Expiry.After(time.Now()) {
		// New, and ended by this machine's clock: one of the two is wrong, so the
		// server decides.
		undated := *tok
		undated.Expiry = time.Time{}
		tok = &undated
	}
	return tok, nil
}

// continues holds a refreshed ID token against the one before it. Rule 32.
func continues(rec *record, tok *oauth2.Token) error {
	raw := extra(tok, "id_token")
	if raw == "" || rec == nil || rec.IDToken == "" {
		return nil
	}
	old, err := wire.ParseIDClaims(rec.IDToken)
	if err != nil {
		return nil //nolint:nilerr // not readable, so nothing to compare with
	}
	claims, err := wire.ParseIDClaims(raw)
	if err != nil {
		return err
	}
	return claims.Continues(old)
}

func (s *Source) emit(e Event) {
	if s.OnEvent != nil {
		s.OnEvent(e)
	}
}
