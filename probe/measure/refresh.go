package measure

import (
	"context"
	"time"

	"golang.org/x/oauth2"
)

// refresh sends a refresh token, and returns what came, with what the answer leaves out.
func (r *run) refresh(ctx context.Context, old *oauth2.Token) (tok *oauth2.Token, sent, got time.Time, err error) {
	sent = time.Now()
	tok, err = r.client.RefreshToken().Refresh(ctx, old)
	got = time.Now()
	if err == nil && tok.RefreshToken == "" {
		next := *tok // with its Extra
		next.RefreshToken = old.RefreshToken
		tok = &next
	}
	return tok, sent, got, err
}

// rotate refreshes a session, whose parent is then the refresh token that was used.
func (r *run) rotate(ctx context.Context, s *session) error {
	tok, sent, got, err := r.refresh(ctx, s.tok)
	if err != nil {
		s.dead = s.dead || rejected(err)
		return err
	}
	s.parent, s.sent, s.got = s.tok, sent, got
	if tok.RefreshToken == s.tok.RefreshToken {
		s.parent = nil
	}
	s.tok = tok
	return nil
}

// tryRefresh finds what a refresh does, and reports whether it works.
func (r *run) tryRefresh(ctx context.Context, s *session) bool {
	f := &r.report.Refresh
	if s.tok.RefreshToken == "" {
		r.report.missing("refresh", "there is no refresh token: ask for offline_access, with prompt=consent, or for what your server wants")
		return false
	}
	r.say("refresh: the first one")
	before := s.tok
	if err := r.rotate(ctx, s); err != nil {
		if rejected(err) {
			f.Works = No
		}
		r.report.missing("rotation", "the refresh failed: "+replyOf(err))
		return false
	}
	f.Works, f.Rotates = Yes, answer(s.parent != nil)
	if f.OldAccessDies = r.dead(ctx, before); f.OldAccessDies == "" {
		r.report.missing("old access token", "nobody tells a good token from another one, or it expires too soon")
	}
	if f.Rotates == No {
		r.again(ctx, s)
	}
	return true
}

// again uses a refresh token that is not rotated once more.
func (r *run) again(ctx context.Context, s *session) {
	if err := r.rotate(ctx, s); rejected(err) {
		r.report.Refresh.Rotates = "" // neither
		r.report.missing("rotation", "a refresh gives no other refresh token, and the same one is then rejected: "+replyOf(err))
		s.dead = true
	}
}

// join adds a further session of the same user to the pool. The first time it looks whether
// those before have ended by that.
func (r *run) join(ctx context.Context, pool []*session, more *session) []*session {
	if more == nil {
		return pool
	}
	f := &r.report.Refresh
	if before := living(pool); f.LoginEndsOthers == "" && len(before) > 0 && f.Works == Yes {
		err := r.rotate(ctx, before[0])
		if err == nil || rejected(err) {
			f.LoginEndsOthers = answer(err != nil)
		}
	}
	if f.LoginEndsOthers == Yes {
		for _, s := range pool {
			s.dead = true
		}
	}
	return append(pool, more)
}

// tryReuse finds what a refresh token is worth that was used. It returns the sessions that
// there are.
func (r *run) tryReuse(ctx context.Context, pool []*session) []*session {
	f := &r.report.Refresh
	alive := living(pool)
	if f.Rotates != Yes || len(alive) == 0 || !r.may(ctx, steps.reuse) {
		return pool
	}
	s := alive[0]
	if err := r.rotate(ctx, s); err != nil {
		r.report.missing("reuse", "a refresh failed: "+replyOf(err))
		return pool
	}
	// What is found here is found right after the rotation, which takes no time.
	r.say("reuse: sending a used refresh token at once")
	r.present(ctx, s)
	if f.Grace == Yes && r.may(ctx, steps.grace) {
		pool = r.search(ctx, pool)
	}
	if f.Grace == Yes {
		r.ancestor(ctx, living(pool))
	}
	if f.ReuseEndsAccess == "" {
		r.report.missing("reuse: access tokens", "no refresh token was rejected while an access token of its session could be tried")
	}
	return pool
}

// ancestor sends a refresh token that was used twice ago, with its session young: most servers
// with a grace period accept the one before alone.
func (r *run) ancestor(ctx context.Context, alive []*session) {
	f := &r.report.Refresh
	if len(alive) == 0 || len(alive) == 1 && f.ReuseEndsSession != No && r.meta.RevocationEndpoint != "" {
		r.report.missing("reuse: older refresh tokens", "there is no session left to try it with")
		return
	}
	s := alive[0]
	oldest := s.tok
	for range 2 {
		if r.rotate(ctx, s) != nil {
			return
		}
	}
	r.say("reuse: sending the refresh token that was used twice ago")
	s.parent = oldest
	lives := r.alive(ctx, s.tok)
	tok, _, _, err := r.refresh(ctx, oldest)
	switch {
	case err == nil:
		f.Ancestors, s.tok, s.parent = Yes, tok, nil
	case rejected(err):
		f.Ancestors = No
		f.ReuseReply = replyOf(err)
		r.consequences(ctx, s, lives)
	}
}

// present sends the used refresh token of s again, and notes what comes of it. It reports
// whether the server has said yes or no, and how old the rotation is: not less than least if
// it was accepted, and not more than most if it was rejected.
func (r *run) present(ctx context.Context, s *session) (accepted, known bool, least, most time.Duration) {
	f := &r.report.Refresh
	lives := Answer("")
	if f.ReuseEndsAccess == "" {
		lives = r.alive(ctx, s.tok)
	}
	parent, child := s.parent, s.tok
	s.parent = nil
	tok, sent, got, err := r.refresh(ctx, parent)
	least, most = sent.Sub(s.got), got.Sub(s.sent)
	switch {
	case err == nil:
		r.accepted(s, parent, child, tok, least)
		return true, true, least, most
	case !rejected(err):
		r.report.missing("reuse", "the server does not say yes or no: "+replyOf(err))
		return false, false, least, most
	}
	if f.Grace == "" {
		f.Grace = No
	}
	if f.Grace == No {
		f.RefusedAfter = max(seconds(most), 0.1)
	}
	f.ReuseReply = replyOf(err)
	r.consequences(ctx, s, lives)
	return false, true, least, most
}

func (r *run) accepted(s *session, parent, child, tok *oauth2.Token, age time.Duration) {
	if tok.RefreshToken == parent.RefreshToken { // the answer had none
		next := *tok
		next.RefreshToken = child.RefreshToken
		tok = &next
	}
	f := &r.report.Refresh
	f.Grace = Yes
	f.AcceptedAfter = max(f.AcceptedAfter, seconds(age))
	f.SameSuccessor = answer(tok.RefreshToken == child.RefreshToken)
	s.tok = tok
}

// consequences finds what a rejected reuse has cost, once. lives is whether the newest access token
// counted before.
func (r *run) consequences(ctx context.Context, s *session, lives Answer) {
	f := &r.report.Refresh
	if lives == Yes && f.ReuseEndsAccess == "" {
		f.ReuseEndsAccess = r.dead(ctx, s.tok)
	}
	if f.ReuseEndsSession == Yes {
		s.dead = true
		return
	}
	s.parent = nil
	switch err := r.rotate(ctx, s); {
	case err == nil:
		f.ReuseEndsSession = No
	case rejected(err):
		f.ReuseEndsSession, s.dead = Yes, true
	default:
		r.report.missing("reuse: the session", replyOf(err))
		s.dead = true
	}
}

// living returns the sessions that can be used.
func living(pool []*session) (alive []*session) {
	for _, s := range pool {
		if !s.dead {
			alive = append(alive, s)
		}
	}
	return alive
}
