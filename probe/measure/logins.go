package measure

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/login"
)

// A session is one login, or one token of client credentials.
type session struct {
	tok    *oauth2.Token // the newest
	id     *login.IDToken
	scopes []string
	// parent is the refresh token that was rotated last, between sent and got; nil if there
	// is none, or if it was sent again.
	parent    *oauth2.Token
	sent, got time.Time
	dead      bool
}

// signIn says how one login differs from others.
type signIn struct {
	pushed        bool
	wrongVerifier bool
}

// signIn logs in once.
func (r *run) signIn(ctx context.Context, how signIn) (*session, error) {
	switch r.grantType() {
	case "client_credentials":
		r.say("client credentials: asking for a token")
		tok, err := r.client.ClientCredentials(r.tokenRequest()).Refresh(ctx, nil)
		if err != nil {
			return nil, err
		}
		scope, _ := tok.Extra("scope").(string)
		return &session{tok: tok, scopes: strings.Fields(scope)}, nil
	case "device_code":
		r.logins++
		r.say("login %d: on another device", r.logins)
		return r.device(ctx)
	}
	r.logins++
	r.say("login %d: waiting for the browser", r.logins)
	return r.browser(ctx, how)
}

func sessionOf(s *login.Session, err error) (*session, error) {
	if err != nil {
		return nil, err
	}
	return &session{tok: s.Token, id: s.IDToken, scopes: s.Scopes}, nil
}

func (r *run) device(ctx context.Context) (*session, error) {
	d, err := r.client.DeviceAuth(ctx, r.Request)
	if err != nil {
		return nil, err
	}
	if err = r.Device(ctx, d); err != nil {
		return nil, err
	}
	began := time.Now()
	defer func() { r.users += time.Since(began) }()
	return sessionOf(r.client.DeviceToken(ctx, d, r.Request))
}

// browser is a login by redirect.
func (r *run) browser(ctx context.Context, how signIn) (*session, error) {
	if m := r.meta.CodeChallengeMethods; len(m) > 0 && !slices.Contains(m, "S256") {
		r.forgive(func(m *login.Metadata) { m.CodeChallengeMethods = nil })
		r.noS256 = true
	}
	c := *r.client
	c.PushRequests = c.PushRequests || how.pushed
	at, tx, err := c.AuthCodeURL(ctx, r.Request)
	if err != nil {
		return nil, &pushError{err}
	}
	began := time.Now()
	back, err := r.Authorize(ctx, at)
	r.users += time.Since(began)
	if err != nil {
		return nil, err
	}
	if r.look(back) && r.client.Provider != c.Provider {
		c.Provider = r.client.Provider
	}
	if how.pushed && back.Query().Has("code") {
		r.report.Request.Pushed = Yes
	}
	if how.wrongVerifier {
		tx.Verifier = oauth2.GenerateVerifier()
	}
	return sessionOf(c.Exchange(ctx, tx, back))
}

// A pushError is one before the browser was opened.
type pushError struct{ error }

func (e *pushError) Unwrap() error { return e.error }

// look notes what is in the response to the authorization request, and goes on without a promise
// that it does not keep, which it reports.
func (r *run) look(back *url.URL) (broken bool) {
	q := back.Query()
	if !q.Has("code") && !q.Has("error") {
		return false // a signed response, or none
	}
	promised := r.meta.AuthorizationResponseIssParameterSupported
	first := r.report.Request.Iss == ""
	if first {
		r.report.Request.Iss = answer(q.Has("iss"))
		var names []string
		for name := range q {
			names = append(names, name)
		}
		slices.Sort(names)
		r.report.Request.Own = named(names, knownResponse)
	}
	switch {
	case promised && !q.Has("iss"):
		r.report.broken("authorization_response_iss_parameter_supported", "the response has no iss")
		r.forgive(func(m *login.Metadata) { m.AuthorizationResponseIssParameterSupported = false })
		return true
	case !promised && q.Has("iss") && first:
		r.report.silent("authorization_response_iss_parameter_supported", "the response has iss")
	}
	return false
}

// tryPKCE redeems a code with a wrong verifier, and sends the request of that login by PAR where
// there is that. If the server does not mind, there is one session more.
func (r *run) tryPKCE(ctx context.Context) *session {
	if r.grantType() != "authorization_code" || !r.may(ctx, steps.pkce) {
		return nil
	}
	how := signIn{wrongVerifier: true, pushed: r.meta.PushedAuthorizationRequestEndpoint != ""}
	s, err := r.signIn(ctx, how)
	if _, early := err.(*pushError); early && how.pushed && !r.meta.RequirePushedAuthorizationRequests { //nolint:errorlint // it is not wrapped
		r.report.Request.Pushed = No
		r.report.broken("pushed_authorization_request_endpoint", replyOf(err))
		how.pushed = false
		s, err = r.signIn(ctx, how)
	}
	listed := slices.Contains(r.meta.CodeChallengeMethods, "S256")
	switch {
	case err == nil:
		r.report.Request.PKCE = No
		if listed {
			r.report.broken("code_challenge_methods_supported", "a wrong verifier is accepted")
		}
		return s
	case rejected(err):
		r.report.Request.PKCE = Yes
		if r.noS256 || !listed {
			r.report.silent("code_challenge_methods_supported", "S256 is checked")
		}
	default:
		r.report.missing("pkce", replyOf(err))
	}
	return nil
}

// describe notes what the last token response has.
func (r *run) describe(s *session) {
	t, n := &r.report.Tokens, r.rec.lastOf(r.meta.TokenEndpoint)
	tok := s.tok
	t.Type = showable(tok.TokenType)
	t.AccessSeconds = Seconds(n.numbers["expires_in"])
	if t.NoExpiry = tok.Expiry.IsZero(); !t.NoExpiry && t.AccessSeconds == 0 {
		t.AccessSeconds = seconds(time.Until(tok.Expiry).Round(time.Second))
	}
	for _, name := range []string{"refresh_expires_in", "refresh_token_expires_in"} {
		if f := n.numbers[name]; f > 0 {
			t.RefreshSeconds = Seconds(f)
		}
	}
	if r.grantType() != "client_credentials" {
		t.RefreshToken = answer(tok.RefreshToken != "")
	}
	if s.id != nil {
		t.IDTokenSeconds = seconds(s.id.Expiry.Sub(s.id.IssuedAt))
	}
	asked := slices.Sorted(slices.Values(r.scopes()))
	if got := slices.Sorted(slices.Values(s.scopes)); len(got) > 0 && !slices.Equal(asked, got) {
		for _, scope := range s.scopes {
			t.Scopes = append(t.Scopes, showable(scope))
		}
	}
	t.NoStore = answer(strings.Contains(n.header.Get("Cache-Control"), "no-store"))
	t.Own = named(n.members, knownToken)
	r.checkOffline(tok)
}

// checkOffline holds scopes and grant types of the metadata to the refresh token.
func (r *run) checkOffline(tok *oauth2.Token) {
	const offline = "offline_access"
	if tok.RefreshToken == "" && slices.Contains(r.scopes(), offline) && slices.Contains(r.meta.ScopesSupported, offline) {
		r.report.broken("scopes_supported", "offline_access was asked for, and no refresh token came")
	}
	if tok.RefreshToken != "" && r.meta.GrantTypesSupported != nil && !slices.Contains(r.meta.GrantTypesSupported, "refresh_token") {
		r.report.silent("grant_types_supported", "there is a refresh token")
	}
}

// What responses have by specifications.
var (
	knownResponse = []string{"code", "state", "iss", "session_state", "error", "error_description", "error_uri", "scope"}                                    //nolint:gochecknoglobals // never written to
	knownToken    = []string{"access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token", "issued_token_type", "authorization_details"} //nolint:gochecknoglobals // never written to
)
