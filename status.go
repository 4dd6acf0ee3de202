package authtrip

import (
	"errors"
	"time"

	"example.com/authtrip/internal/lifecycle"
)

// A State is how a session stands.
type State string

// The states of a session.
const (
	// StateNotLoaded: this process has not needed the session yet. TokenContext reads
	// it from the Store.
	StateNotLoaded State = "not_loaded"
	// StateNoSession: nobody has logged in.
	StateNoSession State = "no_session"
	// StateActive: the access token is usable.
	StateActive State = "active"
	// StateExpired: the access token has expired, or an API rejected it. It is refreshed
	// when it is needed. If that failed, Err says why.
	StateExpired State = "expired"
	// StateUnknown: a refresh token was sent, and its outcome is unknown. Until Expiry
	// the access token is usable.
	StateUnknown State = "outcome_unknown"
	// StateEnded: the server ended the session. Until Expiry the access token may be
	// usable.
	StateEnded State = "ended"
	// StateLoggedOut: the session was ended by Forget.
	StateLoggedOut State = "logged_out"
)

// A Status is how a session stands, as far as this process knows. It holds no token and
// no user.
type Status struct {
	State State
	// Expiry is when the access token expires; zero if the server did not say.
	Expiry time.Time
	// RefreshedAt is when the access token was obtained; zero if there is none.
	RefreshedAt time.Time
	// SessionExpiry is when the refresh token expires; zero if the server did not say.
	SessionExpiry time.Time
	// Unsaved is set while the Store has not taken the newest token.
	Unsaved bool
	// Err is why the last attempt to refresh failed; nil if it did not. It is safe to
	// show.
	Err error
	// NextAttempt is when the next attempt is due; zero if it is, or if only a login
	// helps.
	NextAttempt time.Time
}

// NeedsLogin reports whether only a login helps.
func (s Status) NeedsLogin() bool {
	return s.State == StateNoSession || s.State == StateEnded || s.State == StateLoggedOut || errors.Is(s.Err, ErrReauthRequired)
}

// Status returns how the session stands, for a page of connections or a warning before a
// session expires. It does no I/O and does not block. It shows what this process knows. A
// session that it has not used yet is [StateNotLoaded]. A change by another process shows
// once this one has noticed it.
func (s *Source) Status() Status {
	own, err := s.session()
	if err != nil {
		return Status{State: StateNotLoaded, Err: err}
	}
	return own.status()
}

func (s *session) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := s.cur.Load()
	st := Status{State: s.state(cur)}
	if s.work != nil {
		st.Unsaved = s.work.memory.Newest != lifecycle.Settled
	}
	if cur != nil && cur.rec != nil && !cur.loggedOut() {
		st.Expiry, st.RefreshedAt, st.SessionExpiry = cur.rec.Expiry.time(), cur.rec.ObtainedAt.time(), cur.rec.RefreshExpiry
	}
	var next time.Time
	if f := s.failure(cur); f != nil {
		st.Err, next = f.err, f.next()
		if f.postponed {
			next = later(next, s.set.gate.nextTry())
		}
	}
	if s.work != nil {
		next = later(next, s.work.sends.open)
	}
	if !st.NeedsLogin() && time.Now().Before(next) {
		st.NextAttempt = next
	}
	return st
}

// state tells how the session stands. The session's mu is held.
func (s *session) state(cur *snapshot) State {
	if s.work != nil {
		switch m := &s.work.memory; {
		case m.End == lifecycle.Refused, m.End == lifecycle.Ended:
			return StateEnded
		case m.Doubt:
			return StateUnknown
		}
	}
	switch {
	case cur.loggedOut():
		return StateLoggedOut
	case cur.usable():
		return StateActive
	case cur != nil && cur.rec.Ended != nil:
		return StateEnded
	case cur != nil && s.failure(cur) != nil && errors.Is(s.failure(cur).err, ErrSessionEnded):
		return StateEnded // it has no refresh token
	case cur != nil:
		return StateExpired
	}
	if f := s.failure(nil); f != nil && errors.Is(f.err, ErrNoSession) {
		return StateNoSession
	}
	return StateNotLoaded
}
