package authtrip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/lifecycle"
)

// A round is what happens between the moment in which a reader finds its token wanting
// and the moment in which there is another one, or an error. There is one at a time.
// It takes the steps that [lifecycle.Decide] names, and has no opinion of its own.
type round struct {
	seen *snapshot // the token that was found wanting
	why  why
	look bool // the Store is to be looked at in any case

	s       *session
	ctx     context.Context // ends with the time for a round
	waiting context.Context // ends with ctx, or by Close: for what can be broken off

	rec      *record // as read
	version  string
	release  func()
	leased   time.Time // when the lease was taken
	marked   time.Time // just before the marker was written
	renewed  bool      // that token is handed out: there is no second one in this round
	requests int
	lost     int  // races to save
	inside   bool // of the gate to the token endpoint
	began    time.Time
	err      error // why the last step that failed did
	noted    bool  // err is counted
	unread   error // why the last load failed
	quiet    bool  // err is that of another session
}

// why is what a round is for.
type why uint8

const (
	beforehand why = iota // the token is due for refresh, and nobody waits
	wanted                // somebody waits for a token
	byHand                // somebody waits for another token than there is, whatever its state
	looking               // the Store is looked at, and nobody asks for a token
)

// somebody reports whether somebody waits for the round.
func (w why) somebody() bool { return w == wanted || w == byHand }

// rereadInterval is how often a Store is asked whether somebody has logged in again.
const rereadInterval = 5 * time.Second

// run takes steps until the round is done.
func (r *round) run() (*snapshot, error) {
	var cancel context.CancelFunc
	r.release, r.began = func() {}, time.Now()
	r.waiting, cancel = r.s.set.flights.UntilClosed(r.ctx)
	defer cancel()
	r.s.beginWork()
	defer r.leave()
	over := false
	defer func() {
		if !over {
			r.broken()
		}
	}()
	snap, err := r.steps()
	over = true
	return snap, err
}

// broken ends a round by a panic, of the Store say.
func (r *round) broken() {
	r.s.mu.Lock()
	w := r.s.work
	if w != nil {
		w.owesLook = w.owesLook || r.look
	}
	r.s.mu.Unlock()
	if w == nil {
		return // its work was done
	}
	defer r.finish() // the Store may panic once more
	r.giveBack()
}

// steps takes steps until there is none.
func (r *round) steps() (*snapshot, error) {
	for {
		switch step := r.decide(); step {
		case lifecycle.Serve:
			return r.serve()
		case lifecycle.Rest:
			return r.rest()
		case lifecycle.EndSession:
			return r.end()
		default:
			if !r.take(step) {
				return r.rest()
			}
		}
	}
}

// take takes a step after which there is another one. It reports false where it would
// take longer than the round can.
func (r *round) take(step lifecycle.Step) bool {
	switch step {
	case lifecycle.TakeLease, lifecycle.Mark, lifecycle.Send:
		if r.nobody() {
			break
		}
		waited := !r.inside
		if !r.enter() {
			return false
		}
		if waited {
			return true // somebody may have logged in or out meanwhile: decide again
		}
	}
	switch step {
	case lifecycle.Load:
		r.load()
		r.loaded()
	case lifecycle.Publish:
		r.publish()
	case lifecycle.Save:
		r.save()
	case lifecycle.TakeLease:
		r.takeLease()
	case lifecycle.Mark:
		r.mark()
	case lifecycle.Send:
		r.send()
	case lifecycle.Wait:
		return r.wait()
	}
	return true
}

// nobody reports whether nobody has logged in, and the Refresher says so without asking: an
// outage does not matter.
func (r *round) nobody() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.s.set.said && !r.s.set.repeatable && r.s.known() == nil
}

// loaded ends the failure of a load before, when the Store answers: what was there before it
// counts again.
func (r *round) loaded() {
	r.unread = r.err
	if f := r.s.failing.Load(); r.err == nil && f != nil && f.load {
		r.s.failing.CompareAndSwap(f, f.before)
	}
}

func (r *round) decide() lifecycle.Step {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return lifecycle.Decide(r.s.work.memory.Facts(r.moment()))
}

// moment is what changes by itself. The session's mu is held.
func (r *round) moment() lifecycle.Moment {
	w, cur := r.s.work, r.s.cur.Load()
	f := r.s.failure(cur)
	return lifecycle.Moment{
		Token:     r.token(cur),
		Grace:     r.grace(),
		Care:      r.care(),
		Waiting:   !r.s.due(f) || time.Now().Before(w.sends.open) || r.why == looking && w.memory.Known == (lifecycle.Position{}),
		Look:      r.look || r.s.set.shared && cur.lookDue(),
		Unchanged: w.seen.version == r.version && time.Since(w.seen.since) >= r.s.set.span(),
	}
}

func (r *round) token(cur *snapshot) lifecycle.Token {
	switch known := r.s.work.memory.Known; {
	case cur == nil && known == (lifecycle.Position{}):
		return lifecycle.None
	case cur.usable() && cur.replaces(r.seen), r.why == looking:
		return lifecycle.Fresh
	case cur.usable() && !cur.due() && r.why != byHand:
		return lifecycle.Fresh
	case cur.usable():
		return lifecycle.Due
	}
	return lifecycle.Over
}

// grace tells whether the newest refresh token may be sent again now, or in this round.
func (r *round) grace() lifecycle.Grace {
	set, w := r.s.set, r.s.work
	known := r.s.known()
	open := w.sends.within(set.grace)
	switch forever := set.grace == GraceForever || known != nil && known.Reusable; {
	case forever:
		open = w.sends.count < maxSends || r.s.failure(r.s.cur.Load()).due()
	case set.grace < 0:
		return lifecycle.Never
	}
	if open {
		return lifecycle.Open
	}
	return lifecycle.Closed
}

// care tells how a refresh has to be guarded.
func (r *round) care() lifecycle.Care {
	set, known := r.s.set, r.s.known()
	harmless := known != nil && known.RefreshToken == "" && known.Ended == nil
	stored := r.s.work.memory.Stored()
	switch told := stored == lifecycle.HasRecord || stored == lifecycle.HasNothing; {
	case set.repeatable, harmless && (told || !set.said):
		return lifecycle.Free
	case set.mayFail:
		return lifecycle.StoreMayFail
	}
	return lifecycle.Careful
}

// known is the newest record that is known here; nil if there is none, or a logout.
// The session's mu is held.
func (s *session) known() *record {
	if s.work.held != nil {
		return s.work.held
	}
	if cur := s.cur.Load(); cur != nil && !cur.loggedOut() {
		return cur.rec
	}
	return nil
}

// beginWork makes work, which is as if this process had only now seen its token.
func (s *session) beginWork() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeWork()
	s.work.memory.Rested() // the round before may have ended by a panic of the Store
}

// makeWork is beginWork. The session's mu is held.
func (s *session) makeWork() {
	if s.work != nil {
		return
	}
	s.work = &work{memory: lifecycle.Memory{Self: s.set.owner}}
	if cur := s.cur.Load(); cur != nil {
		s.work.memory.Know(cur.position())
	}
}

// serve ends a round with the token that is handed out.
func (r *round) serve() (*snapshot, error) {
	r.giveBack()
	r.finish()
	return r.s.cur.Load(), nil
}

// rest ends a round that can do no more now.
func (r *round) rest() (*snapshot, error) {
	r.giveBack()
	cur := r.s.cur.Load()
	failed := r.err
	if failed != nil && !r.noted {
		r.note(failed, 0)
	}
	err := failed
	if err == nil {
		err = r.restError()
		if cur.usable() && r.s.failure(cur).due() {
			r.idle(cur, err)
		}
	}
	r.finish()
	switch closed := errors.Is(context.Cause(r.waiting), flight.ErrClosed) && r.requests == 0; {
	case closed:
		err = flight.ErrClosed
	case failed != nil && !r.quiet:
		r.emitFailure(failed)
	}
	if cur.usable() && (cur.replaces(r.seen) || failed == nil && r.why != byHand) {
		return cur, nil
	}
	return nil, err
}

// restError is the error of a round in which no step has failed.
func (r *round) restError() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	w := r.s.work
	f := r.s.failure(r.s.cur.Load())
	switch {
	case w.endErr != nil:
		return w.endErr
	case w.end != nil:
		return w.end.err()
	case f != nil && !r.s.due(f):
		return f.err
	case !w.memory.Doubt && (r.rec == nil || r.rec.Marker == nil):
		return &RefreshError{Err: errors.New("the token cannot be replaced yet: try again")}
	case !r.s.cur.Load().usable():
		return r.unresolved(&RefreshError{Err: fmt.Errorf("%w: the refresh token was sent before, and is sent again when the answer cannot come any more", ErrInDoubt)})
	}
	return r.unresolved(&RefreshError{Err: fmt.Errorf("%w: the refresh token was sent before, and is sent again when the access token has expired", ErrInDoubt)})
}

// end ends a round of a session that is over.
func (r *round) end() (*snapshot, error) {
	r.giveBack()
	r.s.mu.Lock()
	last := r.s.failure(r.s.cur.Load())
	err := r.endError()
	if err != nil {
		wait := rereadInterval
		if !r.s.set.shared {
			wait = time.Duration(1<<63 - 1) // only SetToken helps
		}
		r.note(err, wait)
	}
	r.s.mu.Unlock()
	r.finish()
	if err == nil {
		return r.s.cur.Load(), nil
	}
	if told := last != nil && !last.idle && errors.Is(last.err, ErrReauthRequired); !told {
		r.emitFailure(err)
	}
	return nil, err
}

// endError says why the session is over; nil if somebody has logged in since that was
// decided. The session's mu is held.
func (r *round) endError() error {
	w := r.s.work
	switch {
	case w.memory.End == lifecycle.Alive:
		return nil
	case w.memory.End == lifecycle.LoggedOut:
		return ErrLoggedOut
	case w.endErr != nil:
		return w.endErr
	case w.end != nil:
		return w.end.err()
	}
	return &RefreshError{Err: ErrSessionEnded}
}

// note counts a failure, after which there is no attempt for a while.
func (r *round) note(err error, least time.Duration) {
	cur := r.s.cur.Load()
	if errors.Is(err, ErrReauthRequired) {
		least = max(least, rereadInterval)
	}
	last := r.s.failure(cur)
	f := last.after(cur, err, least)
	if f.load = r.unread != nil && errors.Is(err, r.unread); f.load {
		if f.before = last; last != nil && last.load {
			f.before = last.before
		}
	}
	r.s.failing.Store(f)
	r.err, r.noted = err, true
}

// idle makes the next look at the Store due in a while, where there is nothing to do
// while the token is usable. It counts as no failure.
func (r *round) idle(cur *snapshot, err error) {
	f := &failure{of: cur, err: err, first: time.Now(), at: time.Now(), wait: rereadInterval, idle: true}
	if last := r.s.failure(cur); last != nil {
		f.err, f.first, f.row = last.err, last.first, last.row
	}
	r.s.failing.Store(f)
}

// tellOnce reports whether nobody was told yet that the newest token is not saved.
func (s *session) tellOnce() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work == nil || s.work.told {
		return false
	}
	s.work.told = true
	return true
}

func (r *round) emitFailure(err error) {
	kind := EventRefreshFailed
	switch {
	case errors.Is(err, ErrReauthRequired):
		kind = EventReauthRequired
	case errors.Is(err, ErrNotSaved):
		if r.s.tellOnce() {
			kind = EventTokenNotSaved
		}
	case errors.Is(err, ErrInDoubt):
		kind = EventRefreshUnknown
	}
	event := Event{Kind: kind, Duration: time.Since(r.began), Requests: r.requests, Err: err}
	if re, ok := errors.AsType[*RefreshError](err); ok {
		event.StatusCode, event.Code = re.StatusCode, re.Code
	}
	r.s.emit(event)
}

// finish lets go of what need not be remembered, and sees to it that what is not
// settled is looked at again.
func (r *round) finish() {
	s := r.s
	s.busy.Store(false) // all that follows are events, and a hook may ask for a token
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.work
	if !time.Now().Before(w.sends.open) {
		w.sends.open = time.Time{}
	}
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if w.settled() && !w.owesLook {
		s.work = nil
		return
	}
	wait := s.set.span()
	cur := s.cur.Load()
	switch f := s.failure(cur); {
	case !s.set.shared:
		return
	case w.memory.Newest != lifecycle.Settled:
		// Others wait for a span only.
		wait = 250 * time.Millisecond
		if f != nil {
			wait = min(max(wait, f.wait), time.Second)
		}
	case w.owesLook && f != nil:
		wait = min(f.wait, longestPause) // the token endpoint may have asked for a longer one
	case !cur.usable():
		return // who needs it will look
	}
	w.timer = time.AfterFunc(wait, func() { s.start(context.Background(), round{seen: s.cur.Load(), why: looking, look: true}) })
}
