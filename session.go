package authtrip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/lifecycle"
)

const (
	// saveTimeout is the time to get something into the Store, whatever came before.
	saveTimeout = 2500 * time.Millisecond
	// maxConflicts is how often somebody else may be faster to save.
	maxConflicts = 10
	// maxJoins is how many rounds a caller may join that were for something else.
	maxJoins = 3
	// lookInterval is how long a token is handed out without a look at the Store.
	lookInterval = tombstoneLife / 2
)

// A session is the tokens of one key, in this process. Its readers take no lock.
type session struct {
	set  *settings
	name string // among Sources; "" for a Source of its own

	cur     atomic.Pointer[snapshot] // what is handed out
	failing atomic.Pointer[failure]  // why there is nothing newer
	busy    atomic.Bool              // there is a round: no need to start one
	loads   atomic.Uint32            // how often the Store was asked
	loaded  atomic.Uint32            // which of these was answered last
	changes atomic.Int32             // logins and logouts under way
	info    atomic.Pointer[userInfoEntry]

	mu     sync.Mutex // guards work and its fields, and events
	work   *work      // nil while there is nothing that a round would have to remember
	events *[]Event   // of rounds, which nobody was told of yet; nil most of the time
}

// key names the session in the Store.
func (s *session) key() string { return cmp.Or(s.set.key, s.name) }

func (s *session) shelf() shelf {
	return shelf{store: s.set.store, key: s.key(), variant: s.set.variant, keeps: s.set.comesBack()}
}

// snapshot is the way of every request.
func (s *session) snapshot(ctx context.Context) (*snapshot, error) {
	snap := s.cur.Load()
	if snap.fresh() {
		return snap, nil
	}
	if snap.usable() {
		if !s.busy.Load() && s.due(s.failure(snap)) && (!snap.due() || s.set.gate.open()) {
			s.start(ctx, round{seen: snap})
		}
		return snap, nil
	}
	return s.obtain(ctx, snap)
}

// obtain returns a token other than seen. It blocks until a round has ended, or ctx.
func (s *session) obtain(ctx context.Context, seen *snapshot) (*snapshot, error) {
	for range 2 {
		if f := s.failure(seen); !s.due(f) && !s.busy.Load() {
			return nil, f.err
		}
		got, err := s.ask(ctx, round{seen: seen, why: wanted})
		if err != nil || got.usable() {
			return got, err
		}
		seen = s.cur.Load() // it joined a round that only had a look, or an API was faster
	}
	return nil, errTooFast
}

// errTooFast is the error of a caller whose token was rejected as soon as it had come.
var errTooFast error = &RefreshError{Err: errors.New("the token is no longer usable: try again")}

// refresh replaces the token whatever its state.
func (s *session) refresh(ctx context.Context) (*snapshot, error) {
	if s.cur.Load() == nil { // what is in the Store is to be replaced as well
		_, _ = s.do(ctx, round{why: looking, look: true})
	}
	seen := s.cur.Load()
	got, err := s.ask(ctx, round{seen: seen, why: byHand})
	for range maxJoins {
		if err != nil || got.replaces(seen) && got.usable() {
			break
		}
		got, err = s.ask(ctx, round{seen: seen, why: byHand}) // it joined a round that had nothing to do
	}
	switch {
	case err != nil:
		return nil, err
	case !got.replaces(seen):
		return nil, &RefreshError{Err: errors.New("the token is still the same, and another attempt is not due yet")}
	case !got.usable():
		return nil, errTooFast
	case seen != nil && got.access() == seen.access():
		return nil, &RefreshError{Err: errors.New("the server gave the same token again, which stays in use")}
	}
	return got, nil
}

// ask lets a round run for somebody, and another one where it has joined one that was for
// nobody and failed: that had another purpose.
func (s *session) ask(ctx context.Context, r round) (*snapshot, error) {
	for joins := 0; ; joins++ {
		got, err := s.do(ctx, r)
		if err == nil || joins == maxJoins || got.why.somebody() && !errors.Is(err, errNotLetIn) {
			return got.snap, err
		}
	}
}

// look lets a round look at the Store, and waits for it.
func (s *session) look(ctx context.Context) {
	loads := s.loads.Load()
	for range 2 {
		nothing := s.cur.Load() == nil && s.failing.Load() == nil
		if nothing || s.loaded.Load() > loads || ctx.Err() != nil {
			return // there is nothing that could be wrong, or it was looked at since
		}
		// It may join a round that has read the Store already.
		_, _ = s.do(ctx, round{seen: s.cur.Load(), why: looking, look: true})
	}
}

// A result is what a round came to, and what it was for: whoever joins one gets that of
// the round, and not of his own purpose.
type result struct {
	snap *snapshot
	why  why
}

// do lets a round run, or joins the one that does, and waits for it.
func (s *session) do(ctx context.Context, r round) (result, error) {
	done := s.set.flights.Start(ctx, s.name, s.set.flightTimeout(), s.fly(r))
	select {
	case res := <-done:
		s.tell()
		got, _ := res.Val.(result)
		if errors.Is(res.Err, flight.ErrClosed) {
			return result{why: r.why}, ErrClosed
		}
		if _, panicked := errors.AsType[*flight.PanicError](res.Err); panicked {
			got.why = r.why // it would again, whatever it was for
		}
		return got, res.Err
	case <-ctx.Done():
		s.tellAfter(done)
		return result{why: r.why}, context.Cause(ctx)
	}
}

func (s *session) start(ctx context.Context, r round) {
	s.tellAfter(s.set.flights.Start(ctx, s.name, s.set.flightTimeout(), s.fly(r)))
}

func (s *session) fly(r round) func(context.Context) (result, error) {
	return func(ctx context.Context) (result, error) {
		s.busy.Store(true)
		defer s.busy.Store(false)
		own := r
		own.s, own.ctx = s, ctx
		snap, err := own.run() //nolint:contextcheck // what outlives a round has a context of its own
		return result{snap, r.why}, err
	}
}

// emit keeps an event of a round until the round is over: a hook may ask for a token,
// or call Close, and would wait for the round that waits for it.
func (s *session) emit(e Event) {
	if s.set.onEvent == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events == nil {
		s.events = new([]Event)
	}
	*s.events = append(*s.events, e)
}

// tell calls the hook with what is kept.
func (s *session) tell() {
	if s.set.onEvent == nil {
		return
	}
	s.mu.Lock()
	events := s.events
	s.events = nil
	s.mu.Unlock()
	if events == nil {
		return
	}
	for _, e := range *events {
		s.set.emit(e)
	}
}

func (s *session) tellAfter(done <-chan singleflight.Result) {
	if s.set.onEvent == nil {
		return
	}
	go func() {
		<-done
		s.tell()
	}()
}

// publish hands out snap, unless something newer is handed out by now.
func (s *session) publish(snap *snapshot) {
	for {
		old := s.cur.Load()
		if old.position().Compare(snap.position()) > 0 {
			return
		}
		snap.follow(old)
		if s.set.shared {
			snap.looked()
		}
		if s.cur.CompareAndSwap(old, snap) {
			return
		}
	}
}

// reject marks a snapshot as rejected by an API, unless it replaced a rejected one so
// lately that another attempt would be one of many.
func (s *session) reject(snap *snapshot) {
	if snap.refusals > 0 {
		snap.judge(false)
	}
	if snap.verdict.Load() == verdictRefused && time.Since(snap.born) < snap.patience {
		return
	}
	if !snap.refused.Swap(true) {
		s.set.emit(Event{Kind: EventTokenRejected})
	}
}

// login puts tok, of a new login, in place of whatever is there.
func (s *session) login(ctx context.Context, tok *oauth2.Token) error {
	replace := func(known *record) *record { return login(tok, nextLogin(known), time.Now()) }
	if _, err := s.replace(ctx, replace); err != nil {
		return fmt.Errorf("authtrip: SetToken: %w", err)
	}
	s.set.emit(Event{Kind: EventSessionStarted})
	return nil
}

// logout puts a tombstone in place of whatever is there, and returns that: the newest
// of what this process holds and what the Store does.
func (s *session) logout(ctx context.Context) (*record, error) {
	s.awaitAnswer(ctx)
	gone, err := s.replace(ctx, func(known *record) *record {
		if known == nil {
			return loggedOut(nextLogin(nil))
		}
		return loggedOut(known.Number)
	})
	if err != nil {
		return nil, fmt.Errorf("authtrip: Forget: %w", err)
	}
	s.set.emit(Event{Kind: EventSessionLoggedOut})
	if gone == nil && s.set.initial != nil {
		gone = login(s.set.initial, 0, time.Now())
	}
	if gone == nil || gone.LoggedOut {
		return nil, nil
	}
	return gone, nil
}

// awaitAnswer waits for a refresh token that is on its way to come back, for as long as a
// save may take: what comes after a logout is nobody's, and stays good at the server.
func (s *session) awaitAnswer(ctx context.Context) {
	s.mu.Lock()
	var asking chan struct{}
	if s.work != nil {
		asking = s.work.asking
	}
	s.mu.Unlock()
	if asking == nil {
		return
	}
	timer := time.NewTimer(saveTimeout)
	defer timer.Stop()
	select {
	case <-asking:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// nextLogin is the number of a new login: above all that are known. Where nothing is
// known it is the time, so that a login after a Store was lost is above those before.
func nextLogin(known *record) uint64 {
	n := uint64(max(time.Now().UnixMilli(), 1))
	if known != nil {
		n = max(n, known.Number+1)
	}
	return n
}

// replace saves what next makes of the newest record that is known, over whatever the
// Store holds, and hands it out. It returns the record that it replaced.
func (s *session) replace(ctx context.Context, next func(known *record) *record) (*record, error) {
	s.changes.Add(1)
	defer s.changes.Add(-1)
	for try := range maxConflicts {
		there := s.shelf().load(ctx)
		if there.said == lifecycle.NoAnswer {
			return nil, there.err
		}
		// A record that is there and cannot be read is replaced as well.
		known := s.newest()
		if there.rec != nil && (known == nil || there.rec.position().Compare(known.position()) >= 0) {
			known = there.rec
		}
		rec := next(known)
		_, err := s.shelf().save(ctx, rec, there.version)
		switch {
		case err == nil:
			s.know(rec)
			return known, nil
		case !errors.Is(err, ErrConflict), !sleep(ctx, shortened(5*time.Millisecond<<try)):
			return nil, fmt.Errorf("the Store did not save it: %w", err)
		}
	}
	return nil, fmt.Errorf("the Store reported a conflict %d times in succession: %w", maxConflicts, ErrConflict)
}

// close stops what the session would do later, and does it now as far as it can.
func (s *session) close() {
	held := s.unsaved()
	if held == nil {
		s.unmark()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	there := s.shelf().load(ctx)
	if there.rec != nil && there.rec.position().Compare(held.position()) < 0 || there.said == lifecycle.HasNothing {
		draft := lifecycle.Record{Position: held.position(), Marking: lifecycle.Marking{There: true}}
		_, _ = s.shelf().save(ctx, held.drawn(draft, nil), there.version)
	}
}

// unmark takes the marker of a refresh back that had no answer and, as its request has ended,
// gets none any more. This process would send the refresh token again itself, and within a
// second where it may: another one need not wait for longer.
func (s *session) unmark() {
	s.mu.Lock()
	over := s.set.shared && s.work != nil && s.work.memory.Doubt && s.work.seen.version != ""
	s.mu.Unlock()
	if !over {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	there := s.shelf().load(ctx)
	if rec := there.rec; there.said == lifecycle.HasRecord && rec.Marker.binds() && rec.Marker.Owner == s.set.owner {
		draft := lifecycle.Record{Position: rec.position(), Marking: lifecycle.Marking{Doubt: true}}
		_, _ = s.shelf().save(ctx, rec.drawn(draft, nil), there.version)
	}
}

// unsaved stops the timer, and returns the newest record if the Store does not have it.
func (s *session) unsaved() *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.work
	if w == nil {
		return nil
	}
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if w.memory.Newest == lifecycle.Settled {
		return nil
	}
	return w.held
}

// pinned reports whether this process must not forget the session, and whether a marker of
// its own stays in the Store. A doubt that the Store knows of, any other process knows too.
func (s *session) pinned() (pinned, doubt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.work
	switch {
	case s.busy.Load(), s.changes.Load() > 0:
		return true, false
	case w == nil:
		return false, false
	case w.memory.Newest != lifecycle.Settled, w.owesLook, time.Now().Before(w.sends.open), w.memory.Doubt && w.seen == (sighting{}):
		return true, false
	}
	return false, w.memory.Doubt && !w.seen.doubt // its timer goes on: a lost record may have to be put back
}

// newest returns the newest record that is known here.
func (s *session) newest() *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work != nil && s.work.held != nil {
		return s.work.held
	}
	if cur := s.cur.Load(); cur != nil {
		return cur.rec
	}
	return nil
}

// know hands out rec, which is in the Store and above all that was known.
func (s *session) know(rec *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work != nil {
		s.work.memory.Know(rec.position())
		s.work.settle()
	}
	s.publish(newSnapshot(s, rec, s.set.early))
	s.failing.Store(nil)
}
