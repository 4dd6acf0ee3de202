package measure

import (
	"context"
	"time"

	"golang.org/x/oauth2"
)

// How long after its expiry a token is tried: clocks differ.
const (
	expiryMargin = 2 * time.Second
	expiryLate   = 16 * time.Second // and once more where it was accepted
)

// tryExpiry waits until the token of a session has expired, if that is soon, and shows it to
// the API and to user info; once more later, where it was accepted.
func (r *run) tryExpiry(ctx context.Context, pool []*session) {
	alive := living(pool)
	if len(r.places()) == 0 || len(alive) == 0 {
		return
	}
	tok := alive[0].tok
	for _, s := range alive[1:] {
		if s.tok.Expiry.Before(tok.Expiry) {
			tok = s.tok
		}
	}
	wait := time.Until(tok.Expiry) + expiryMargin
	switch {
	case tok.Expiry.IsZero():
		r.report.missing("expired token", "the server does not say when tokens expire")
		return
	case wait > r.waitLimit():
		r.report.missing("expired token", "it expires in "+short(wait)+", which is longer than the probe waits")
		return
	case !r.may(ctx, steps.expiry):
		return
	}
	r.say("expiry: waiting %s for an access token to expire", short(wait))
	if !pause(ctx, wait) || !r.showExpired(ctx, tok) {
		return
	}
	if wait = expiryLate; wait > r.waitLimit() {
		return
	}
	r.say("expiry: it is still accepted, waiting %s more", short(wait))
	if pause(ctx, wait) {
		r.showExpired(ctx, tok)
	}
}

// showExpired reports whether a token that has expired was accepted.
func (r *run) showExpired(ctx context.Context, tok *oauth2.Token) (accepted bool) {
	for _, p := range r.places() {
		since := time.Since(tok.Expiry)
		p.said.Expired = r.ask(ctx, r.urlOf(p), tok.AccessToken)
		if p.said.Expired != nil && p.said.Expired.Status < 300 && !p.said.Blind {
			p.said.AcceptedLate, accepted = seconds(since), true
		}
	}
	return accepted
}

// waitLimit is how long there is to wait: less after a long search, unless somebody wants more.
func (r *run) waitLimit() time.Duration {
	if r.WaitLimit > 0 {
		return r.WaitLimit
	}
	const wait, whole = 35 * time.Second, 105 * time.Second
	return min(wait, whole-time.Since(r.began)+r.users)
}

// another adds a session where the others have ended for what was asked before.
func (r *run) another(ctx context.Context, pool []*session) []*session {
	if len(living(pool)) > 0 || r.report.Refresh.Works != Yes {
		return pool
	}
	s, err := r.signIn(ctx, signIn{})
	if err != nil {
		return pool
	}
	return append(pool, s)
}

// places are those that accept a good token.
func (r *run) places() (all []*place) {
	for _, p := range []*place{r.api, r.info} {
		if p != nil && p.said.Good != nil && p.said.Good.Status < 300 {
			all = append(all, p)
		}
	}
	return all
}

// tryRevocation ends a session at the server (RFC 7009): the refresh token first, then an access
// token.
func (r *run) tryRevocation(ctx context.Context, pool []*session) {
	alive := living(pool)
	switch {
	case r.meta.RevocationEndpoint == "" || !r.may(ctx, steps.revoke):
	case len(alive) == 0:
		r.report.missing("revocation", "there is no session left to revoke")
	case alive[0].tok.RefreshToken == "":
		r.revokeAccess(ctx, alive[0].tok)
	default:
		r.revokeSession(ctx, alive[0])
	}
}

func (r *run) revokeSession(ctx context.Context, s *session) {
	f := &r.report.Revoke
	if err := r.rotate(ctx, s); err != nil {
		r.report.missing("revocation", "the refresh before it failed: "+replyOf(err))
		return
	}
	r.say("revocation: of the refresh token")
	lives := r.alive(ctx, s.tok)
	err := r.client.Revoke(ctx, &oauth2.Token{RefreshToken: s.tok.RefreshToken})
	f.Works = answer(err == nil)
	if err != nil {
		if gone(err) {
			r.report.broken("revocation_endpoint", replyOf(err))
		}
		r.report.missing("revocation", replyOf(err))
		return
	}
	if lives == Yes {
		f.EndsAccess = r.dead(ctx, s.tok)
	}
	if f.EndsAccess == Yes {
		r.showRevoked(ctx, s.tok)
	} else {
		r.revokeAccess(ctx, s.tok)
	}
	_, _, _, err = r.refresh(ctx, s.tok)
	s.dead = true
	if err == nil || rejected(err) {
		f.EndsSession = answer(err != nil)
	}
	if f.EndsSession == No {
		r.report.broken("revocation_endpoint", "says yes, and the refresh token is still accepted")
	}
}

// revokeAccess revokes an access token alone.
func (r *run) revokeAccess(ctx context.Context, tok *oauth2.Token) {
	f := &r.report.Revoke
	r.say("revocation: of an access token")
	lives := r.alive(ctx, tok)
	if err := r.client.Revoke(ctx, &oauth2.Token{AccessToken: tok.AccessToken}); err != nil {
		if f.Works == "" {
			f.Works = No
		}
		r.report.missing("revocation of an access token", replyOf(err))
		return
	}
	f.Works = Yes
	if lives == Yes {
		f.AccessAlone = r.dead(ctx, tok)
	}
	if f.AccessAlone != No {
		r.showRevoked(ctx, tok)
	}
}

func (r *run) showRevoked(ctx context.Context, tok *oauth2.Token) {
	for _, p := range r.places() {
		p.said.Revoked = r.ask(ctx, r.urlOf(p), tok.AccessToken)
	}
}
