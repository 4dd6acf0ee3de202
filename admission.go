package authtrip

import (
	"errors"
	"time"
)

// This file has what a round does at the gate.

// enter passes the gate to the token endpoint. It reports false if that takes longer
// than this round can, or nobody waits for it.
func (r *round) enter() bool {
	switch {
	case r.renewed:
		r.err, r.noted = errNoBetter, false
		return false
	case r.inside:
		return true
	}
	ok, next, err := r.s.set.gate.enter(r.waiting, r.why.somebody())
	r.inside = ok
	if err != nil {
		r.err = err
	}
	switch {
	case !next.IsZero():
		r.postpone(err, next)
	case !ok && err == nil:
		r.err, r.noted, r.quiet = errNotLetIn, true, true
	}
	return ok
}

// errNotLetIn is the error of a round that nobody waited for when it came to the gate:
// whoever has joined it begins another one.
var errNotLetIn = errors.New("authtrip: too many refreshes at once: try again")

// errNoBetter is the error of a round that got a token which is of no use to it: the one
// that an API has rejected, or one that had expired before it was saved.
var errNoBetter error = &RefreshError{Err: errors.New("the token that came is not usable either: try again")}

func (r *round) leave() {
	if r.inside {
		r.inside = false
		r.s.set.gate.leave()
	}
}

// postpone makes the next attempt due when that of all sessions is. It counts as no
// failure of this one.
func (r *round) postpone(err error, next time.Time) {
	cur := r.s.cur.Load()
	f := &failure{of: cur, err: err, first: time.Now(), at: time.Now(), wait: time.Until(next), postponed: true}
	if last := r.s.failure(cur); last != nil {
		f.first, f.row = last.first, last.row
	}
	r.s.failing.Store(f)
	r.noted, r.quiet = true, true
}
