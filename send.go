package authtrip

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/lifecycle"
	"example.com/authtrip/internal/wire"
)

// maxSends is how often a refresh token is sent while its grace period is open.
const maxSends = 3

// lateTime is how long an answer to a request that can be sent again at no loss is waited
// for when RefreshTimeout is over.
const lateTime = 2 * time.Second

// send sends the newest refresh token, or asks for a first one.
func (r *round) send() {
	r.s.mu.Lock()
	if lifecycle.Decide(r.s.work.memory.Facts(r.moment())) != lifecycle.Send {
		r.s.mu.Unlock()
		return // somebody has logged in or out just now
	}
	w, care := r.s.work, r.care()
	guarded := care != lifecycle.Free && w.memory.Stored() == lifecycle.HasRecord
	if guarded && r.stale(r.marked) {
		r.s.mu.Unlock()
		r.dropLease()
		return
	}
	if w.sends.count == 0 {
		w.sends.inherited = w.memory.Facts(r.moment()).Marker == lifecycle.ReadyAgain
	}
	parent, known := w.memory.Known, r.s.known()
	asking := make(chan struct{})
	w.asking = asking
	r.s.mu.Unlock()

	began := time.Now()
	r.requests++
	cutOff := began.Add(r.s.set.span())
	switch {
	case care == lifecycle.Free:
		cutOff = began.Add(r.s.set.timeout + lateTime)
	case guarded:
		// What comes has to be saved before others have waited for a span.
		cutOff = r.leased.Add(r.s.set.span() - saveTimeout)
	}
	a, late := r.ask(parent, known, cutOff, asking)
	outcome, tok, err := judge(r.s.set.refresher, known, a)
	if re, ok := errors.AsType[*RefreshError](err); ok && re.unsent || errors.Is(err, ErrNoSession) {
		r.requests-- // the Refresher had nothing to send
	}
	if known == nil && outcome != lifecycle.NewToken && outcome != lifecycle.Refusal {
		outcome = lifecycle.NotProcessed // nothing was sent that could be used up
	}
	r.s.set.gate.answered(err)
	r.leave()

	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if !late {
		w.taken(asking)
	}
	if late && w.memory.Known == parent {
		w.sends.open = cutOff // until then the Refresher is not called again
	}
	number := nextLogin(nil)
	if !w.memory.Answered(parent, outcome, care, number) {
		return
	}
	r.fold(outcome, known, tok, err, began, number)
}

// fold takes what came of a send. The session's mu is held.
func (r *round) fold(outcome lifecycle.Outcome, known *record, tok *oauth2.Token, err error, began time.Time, number uint64) {
	w := r.s.work
	switch outcome {
	case lifecycle.NewToken:
		w.came(successor(known, tok, number), known == nil)
		r.err = nil
	case lifecycle.Refusal:
		if w.memory.End != lifecycle.Refused { // what was sent can be sent again
			r.note(err, 0)
			return
		}
		if w.sends.count > 0 {
			err = afterDoubt(err)
		}
		w.sends.count, w.end, w.endErr = 0, endOf(err), err
		r.err, r.noted = nil, false
	case lifecycle.Unknown, lifecycle.Unclear:
		if !w.memory.Doubt { // what was sent can be sent again
			r.note(err, 0)
			return
		}
		r.note(r.unresolved(unknown(err)), 0)
		w.sends.lost(began)
		if r.grace() == lifecycle.Open && w.sends.count < maxSends {
			r.resendSoon(w.sends.count)
		}
	case lifecycle.NotProcessed:
		r.note(err, 0)
	}
}

// successor is the record of a token that came: number is that of a first one.
func successor(known *record, tok *oauth2.Token, number uint64) *record {
	if known == nil {
		return login(tok, number, time.Now())
	}
	return known.with(tok, time.Now())
}

// resendSoon makes the wait for the next send a short one: half a second, then two and
// a half, and three times that while there is a token that can be used.
func (r *round) resendSoon(count int) {
	cur := r.s.cur.Load()
	soon := *r.s.failure(cur)
	soon.wait = 500 * time.Millisecond
	if count > 1 {
		soon.wait *= 5
	}
	if cur.usable() {
		soon.wait *= 3
	}
	soon.wait = shortened(soon.wait)
	r.s.failing.Store(&soon)
}

// An answer is what the Refresher returned.
type answer struct {
	tok *oauth2.Token
	err error
}

// ask calls the Refresher, and leaves it to itself when the time for a refresh is over:
// what it returns before it is cut off is not lost. late reports that it was left.
func (r *round) ask(parent lifecycle.Position, known *record, cutOff time.Time, asking chan struct{}) (a answer, late bool) {
	s, set := r.s, r.s.set
	var old *oauth2.Token
	if known != nil {
		old = known.token()
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(r.ctx), cutOff)
	answers, left := make(chan answer), make(chan struct{})
	set.late.Add(1)
	go func() {
		defer set.late.Done()
		defer cancel()
		// Not awaited on ctx: the answer of a Refresher that ignores it counts.
		tok, err := flight.Await(context.Background(), func() (*oauth2.Token, error) { //nolint:contextcheck // see above
			return set.refresher.Refresh(ctx, old)
		})
		select {
		case answers <- answer{tok, err}:
		case <-left:
			s.late(parent, known, cutOff, asking, answer{tok, err}) //nolint:contextcheck // its round is over
		}
	}()
	timer := time.NewTimer(set.timeout)
	defer timer.Stop()
	select {
	case a = <-answers:
		return a, false
	case <-timer.C:
		close(left)
		err := fmt.Errorf("there was no answer within %v: %w", set.timeout, context.DeadlineExceeded)
		return answer{err: &RefreshError{Err: err, ambiguous: true, noAnswer: true}}, true
	}
}

// late takes an answer that its round did not wait for, and that could have come until cutOff.
func (s *session) late(parent lifecycle.Position, known *record, cutOff time.Time, asking chan struct{}, a answer) {
	outcome, tok, _ := judge(s.set.refresher, known, a)
	s.mu.Lock()
	s.makeWork() // a round may have ended meanwhile
	w := s.work
	w.taken(asking)
	if w.sends.open.Equal(cutOff) { // or a request of a later login is on its way
		w.sends.open = time.Time{}
	}
	number := nextLogin(nil)
	kept := outcome == lifecycle.NewToken && w.memory.Late(parent, number)
	if kept {
		w.came(successor(known, tok, number), known == nil)
	}
	s.mu.Unlock()
	if kept {
		s.start(context.Background(), round{seen: s.cur.Load(), why: looking, look: true})
	}
}

// judge says how an answer is to be read (rules.md, section 4.2), and returns the token
// or what is wrong.
func judge(from Refresher, known *record, a answer) (outcome lifecycle.Outcome, tok *oauth2.Token, err error) {
	defer func() {
		if p := recover(); p != nil { // of a method of the error, such as that of a nil in it
			outcome, tok = lifecycle.Unknown, nil
			err = &RefreshError{Err: &flight.PanicError{Value: p}, ambiguous: true}
		}
	}()
	tok, err = a.tok, a.err
	switch {
	case err != nil:
		if errors.Is(err, ErrNoSession) {
			return lifecycle.NotProcessed, nil, ErrNoSession
		}
		err = explain(from, err)
		switch {
		case errors.Is(err, ErrReauthRequired):
			return lifecycle.Refusal, nil, err
		case isAmbiguous(err):
			return ambiguity(err), nil, err
		}
		return lifecycle.NotProcessed, nil, err
	case tok == nil || tok.AccessToken == "":
		return lifecycle.Unknown, nil, &RefreshError{Err: errors.New("the Refresher returned no access token"), ambiguous: true}
	}
	tok, err = continues(known, tok)
	if err != nil {
		return lifecycle.Refusal, nil, &RefreshError{Err: fmt.Errorf("%w: %w", ErrSessionEnded, err)}
	}
	if !tok.Expiry.IsZero() && !tok.Expiry.After(time.Now()) {
		// New, and expired by this machine's clock: one of the two is wrong, so the
		// server decides.
		undated := *tok
		undated.Expiry = time.Time{}
		tok = &undated
	}
	return lifecycle.NewToken, tok, nil
}

// ambiguity tells an answer that leaves the outcome unknown from none, after which the
// request may still be on its way. A gateway that has given up has no answer either.
func ambiguity(err error) lifecycle.Outcome {
	switch re, _ := errors.AsType[*RefreshError](err); {
	case re == nil, re.StatusCode == 0, re.StatusCode == http.StatusRequestTimeout, re.StatusCode == http.StatusGatewayTimeout,
		re.StatusCode >= 520: // what Cloudflare's gateways say
		return lifecycle.Unknown
	}
	return lifecycle.Unclear
}

// continues holds a refreshed ID token against that of the login. Rule 32. One that cannot
// be read says nothing of who it is about: it is left out of tok, so that the one from before
// stays, and the session goes on (rule 54).
func continues(known *record, tok *oauth2.Token) (*oauth2.Token, error) {
	raw := extra(tok, "id_token")
	if raw == "" || known == nil {
		return tok, nil
	}
	claims, err := wire.ParseIDClaims(raw)
	if err != nil {
		return wire.Without(tok, "id_token"), nil //nolint:nilerr // see above
	}
	if known.Original == nil {
		return tok, nil
	}
	return tok, claims.Continues(*known.Original)
}

// unknown adds to an error that the outcome of the send is unknown.
func unknown(err error) error {
	e := RefreshError{Err: fmt.Errorf("%w: %w", ErrInDoubt, err), ambiguous: true}
	if re, ok := errors.AsType[*RefreshError](err); ok {
		e = *re
		e.Err = fmt.Errorf("%w: %w", ErrInDoubt, re.Err)
	}
	return &e
}

// unresolved adds to the error of an unknown outcome that only a login helps, where the
// refresh token is never sent again, its answer cannot come any more, and there is no
// token that could be used.
func (r *round) unresolved(err error) error {
	re, ok := errors.AsType[*RefreshError](err)
	if !ok || r.s.set.grace >= 0 || time.Now().Before(r.s.work.sends.open) || r.s.cur.Load().usable() {
		return err
	}
	never := *re
	never.Err = fmt.Errorf("%w, as GracePeriod is negative: %w", ErrReauthRequired, re.Err)
	return &never
}

// afterDoubt adds to a refusal that the answer to an earlier send was lost.
func afterDoubt(err error) error {
	re, ok := errors.AsType[*RefreshError](err)
	if !ok {
		return fmt.Errorf("%w: %w", err, ErrInDoubt)
	}
	lost := *re
	lost.Err = fmt.Errorf("%w, and the answer to an earlier send was lost (%w)", re.Err, ErrInDoubt)
	return &lost
}

// endOf is what the record keeps of a refusal.
func endOf(err error) *ended {
	e := &ended{At: time.Now()}
	if re, ok := errors.AsType[*RefreshError](err); ok {
		e.Code, e.StatusCode = re.Code, re.StatusCode
	}
	return e
}

// err is the error for a session that another process has found ended.
func (e *ended) err() error {
	return &RefreshError{Code: e.Code, StatusCode: e.StatusCode, Err: fmt.Errorf("%w: the record in Store says so", ErrSessionEnded)}
}
