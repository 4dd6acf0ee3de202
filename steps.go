package authtrip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/authtrip/internal/lifecycle"
)

// This file has the steps of a round that read and write the Store.

// pollInterval is how often a Store is read while another process refreshes.
const pollInterval = 100 * time.Millisecond

// sessionWarning is how long before the known end of a session its refreshes say so.
const sessionWarning = 24 * time.Hour

// storeCtx bounds one call of the Store before the refresh, so that a Store that hangs
// leaves the time for a refresh where one can do without it. Where there is something to
// be saved, or may be any moment, a Store that is slow has the time that a save has.
func (r *round) storeCtx() (context.Context, context.CancelFunc) {
	r.s.mu.Lock()
	w := r.s.work
	urgent := w.memory.Newest != lifecycle.Settled || time.Now().Before(w.sends.open)
	r.s.mu.Unlock()
	switch {
	case urgent:
		return context.WithTimeout(r.ctx, saveTimeout)
	case r.why == looking: // it comes again, and what the Store has lost cannot wait
		return context.WithTimeout(r.ctx, min(saveTimeout, r.s.set.timeout))
	case r.s.set.mayFail || r.s.set.repeatable:
		return context.WithTimeout(r.ctx, min(saveTimeout, r.s.set.timeout/4))
	}
	return context.WithTimeout(r.ctx, r.s.set.timeout)
}

func (r *round) load() {
	number := r.s.loads.Add(1)
	ctx, cancel := r.storeCtx()
	defer cancel()
	there := r.s.shelf().load(ctx)
	if there.said != lifecycle.NoAnswer {
		r.s.loaded.Store(number)
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if w := r.s.work; r.look || w.owesLook {
		r.look, w.owesLook = false, there.said == lifecycle.NoAnswer
	}
	r.rec, r.version, r.err, r.noted = there.rec, there.version, there.err, false
	if w := r.s.work; there.err != nil && w.held != nil && w.answered {
		r.err = &RefreshError{Err: fmt.Errorf("%w: %w", ErrNotSaved, there.err)}
	}
	if there.said == lifecycle.HasNothing && r.s.tooLate() {
		r.s.work.memory.Know(lifecycle.Position{})
		r.s.work.settle()
		r.s.cur.Store(nil)
	}
	r.s.work.read(there, r.s.known())
	if cur := r.s.cur.Load(); there.err == nil && cur != nil && r.s.set.shared {
		cur.looked()
	}
	r.importInitial(there.said)
}

// tooLate reports whether what this process holds may be a session that was ended so
// long ago that the Store has dropped its tombstone.
func (s *session) tooLate() bool {
	_, expires := s.set.store.(Expirer)
	cur := s.cur.Load()
	if !s.set.shared || !expires || s.set.comesBack() || cur == nil || s.work.held != nil {
		return false
	}
	// A machine that sleeps stops the monotonic clock, and the Store's goes on.
	now := time.Now()
	age := max(now.Sub(cur.born), now.Round(0).Sub(cur.born.Round(0)))
	return age-time.Duration(cur.asked.Load()) > tombstoneLife-time.Minute
}

// importInitial takes the token of the configuration as the first one, where nobody
// has ever logged in.
func (r *round) importInitial(said lifecycle.Stored) {
	w := r.s.work
	if r.s.set.initial == nil || w.memory.Known != (lifecycle.Position{}) {
		return
	}
	if said == lifecycle.HasNothing {
		w.held = login(r.s.set.initial, 1, time.Now())
		w.memory.Import(w.held.position())
	}
}

// publish hands out what was read; without an answer of the Store, what is held.
func (r *round) publish() {
	had := r.s.cur.Load()
	p := r.handOut()
	if p.snap.usable() || p.answered {
		r.s.failing.Store(nil)
	}
	if p.unsaved != nil {
		r.s.emit(Event{Kind: EventTokenUnsaved, Err: p.unsaved})
	}
	switch {
	case p.rec.LoggedOut, p.rec.AccessToken == "", !p.answered && !p.snap.usable():
	case p.answered && !p.first:
		r.done(EventTokenRefreshed)
		if p.rec.endsSoon() {
			r.s.emit(Event{Kind: EventSessionExpiring})
		}
	case p.answered, had == nil:
		r.done(EventTokenObtained)
	case had.access() != string(p.rec.AccessToken):
		r.done(EventTokenLoaded)
	}
	r.renewed = r.renewed || p.answered
}

// A published record is one that was handed out.
type published struct {
	rec             *record
	snap            *snapshot
	unsaved         error // why the Store does not have it
	answered, first bool  // as of work
}

// handOut is publish without its events.
func (r *round) handOut() published {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	w := r.s.work
	p := published{rec: r.rec}
	if said := w.memory.Stored(); said == lifecycle.NoAnswer || said == lifecycle.Unreadable {
		p.rec, p.unsaved = w.held, r.err
	}
	r.err = nil
	// A login elsewhere may be newer than the answer.
	p.answered, p.first = w.answered && w.held != nil && w.held.position() == p.rec.position(), w.first
	w.answered = false
	w.memory.Published(r.care())
	if w.memory.Newest == lifecycle.Settled {
		w.settle()
	}
	p.snap = newSnapshot(r.s, p.rec, r.s.set.early)
	r.s.publish(p.snap)
	if p.rec.Ended != nil {
		w.end = p.rec.Ended
	}
	return p
}

// endsSoon reports whether the server said that the session expires within a day.
func (r *record) endsSoon() bool {
	return !r.RefreshExpiry.IsZero() && time.Until(r.RefreshExpiry) < sessionWarning
}

func (r *round) done(kind EventKind) {
	r.s.emit(Event{Kind: kind, Duration: time.Since(r.began), Requests: r.requests})
}

// save writes the newest record that is known, or takes the marker back.
func (r *round) save() {
	r.s.mu.Lock()
	m := &r.s.work.memory
	draft := m.Draft(r.care())
	rec := r.draftOf(draft)
	version := r.version
	if m.Stored() == lifecycle.HasNothing {
		version = ""
	}
	r.s.mu.Unlock()

	next, err := r.put(rec, version)

	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	w := r.s.work
	switch {
	case err == nil:
		w.memory.Saved(draft)
		w.owesLook = false
		r.rec, r.version = rec, next
		w.seen.read(rec, next)
	case errors.Is(err, ErrConflict) && r.mayLose():
		w.memory.Conflicted()
	default:
		w.memory.Failed()
		r.s.work.owesLook = true // what was to be put back or taken back still is
		r.err, r.noted = fmt.Errorf("authtrip: Store.Save: %w", err), false
		if w.held != nil && w.answered {
			r.err = &RefreshError{Err: fmt.Errorf("%w: %w", ErrNotSaved, err)}
		}
	}
}

// draftOf is the record that a draft stands for.
func (r *round) draftOf(draft lifecycle.Record) *record {
	w := r.s.work
	switch {
	case draft.IsLogout():
		return loggedOut(draft.Login)
	case w.held != nil:
		return w.held.drawn(draft, nil)
	case r.rec != nil && r.rec.position() == draft.Position:
		return r.rec.drawn(draft, w.end)
	}
	return r.s.cur.Load().rec.drawn(draft, w.end)
}

// put saves rec on a context of its own, again while the Store fails.
func (r *round) put(rec *record, version string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), saveTimeout)
	defer cancel()
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		next, err := r.s.shelf().save(ctx, rec, version)
		if err == nil || errors.Is(err, ErrConflict) || !sleep(ctx, shortened(wait)) {
			return next, err
		}
	}
}

// mayLose counts a race that was lost, and reports whether there may be another one. A
// Store that always says so has failed.
func (r *round) mayLose() bool {
	r.lost++
	return r.lost <= maxConflicts
}

// takeLease waits for the lease. Whoever has to wait for another process lets others
// through the gate meanwhile, and looks at the Store now and then: it may have lost what
// is known here.
func (r *round) takeLease() {
	began := time.Now()
	soon, cancel := context.WithTimeout(r.waiting, pollInterval/2)
	release, held, err := r.s.shelf().lease(soon, r.s.set.span())
	cancel()
	if !held && err == nil {
		r.leave()
		soon, cancel = context.WithTimeout(r.waiting, saveTimeout)
		release, held, err = r.s.shelf().lease(soon, r.s.set.span())
		cancel()
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	m := &r.s.work.memory
	switch {
	case held:
		r.release, r.leased = release, time.Now()
		m.Leased(lifecycle.Mine, time.Since(began) >= pollInterval/2)
	case err == nil:
		r.err, r.noted = errElsewhere, false
		m.Leased(lifecycle.Theirs, false)
	case r.s.set.mayFail:
		r.leased = time.Now()
		m.Leased(lifecycle.Mine, false)
	default:
		r.err, r.noted = err, false
		m.Failed()
	}
}

var errElsewhere = errors.New("authtrip: another process is refreshing this token: try again")

// giveBack gives the lease back and forgets what was read. While a request is open, or
// its successor is not saved, the lease runs out by itself: the Store may have lost the
// marker, and then the lease is all that keeps another process from sending the same
// refresh token.
func (r *round) giveBack() {
	r.s.mu.Lock()
	w := r.s.work
	keep := w.memory.Newest != lifecycle.Settled && r.requests > 0 || time.Now().Before(w.sends.open)
	w.memory.Rested()
	r.s.mu.Unlock()
	if !keep {
		r.release()
	}
	r.release = func() {}
}

// stale gives the lease and the marker up if since is so long ago that the answer might
// be saved after others have stopped waiting for it. The session's mu is held.
func (r *round) stale(since time.Time) bool {
	if time.Since(since) <= saveTimeout {
		return false
	}
	r.s.work.memory.Unready()
	return true
}

// wait waits for whatever is not over yet, or for the answer that is still on its way. It
// reports false where that takes longer than a round can.
func (r *round) wait() bool {
	r.s.mu.Lock()
	if lifecycle.Decide(r.s.work.memory.Facts(r.moment())) != lifecycle.Wait {
		r.s.mu.Unlock()
		return true // the answer has come just now
	}
	asking := r.s.work.asking
	r.s.mu.Unlock()
	r.giveBack()
	r.leave()
	d := pollInterval
	if f := r.s.failure(r.s.cur.Load()); !f.due() {
		d = time.Until(f.next())
	}
	if end, ok := r.ctx.Deadline(); ok && time.Until(end) < d+r.s.set.timeout+saveTimeout {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-asking:
		r.look = true // a token that came is to be saved before others have waited for a span
	case <-r.waiting.Done():
		return false
	}
	return true
}

func (r *round) dropLease() {
	r.release()
	r.release = func() {}
}

func (r *round) mark() {
	r.s.mu.Lock()
	m := &r.s.work.memory
	if r.stale(r.leased) {
		r.s.mu.Unlock()
		r.dropLease()
		return
	}
	marked := m.Mark(r.moment().Unchanged)
	rec := r.rec.drawn(marked, nil)
	version := r.version
	r.s.mu.Unlock()

	r.marked = time.Now()
	ctx, cancel := r.storeCtx()
	defer cancel()
	next, err := r.s.shelf().save(ctx, rec, version)

	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	w := r.s.work
	switch {
	case err == nil:
		m.Marked(marked)
		r.rec, r.version = rec, next
		w.seen.see(next)
	case errors.Is(err, ErrConflict) && r.mayLose():
		m.Conflicted()
	default:
		m.Failed()
		r.err, r.noted = fmt.Errorf("authtrip: Store.Save before the refresh: %w", err), false
	}
}
