package login

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/identity"
	"example.com/authtrip/internal/wire"
)

// A Session is the result of a login. It holds the tokens, so do not log it; log/slog and
// fmt print nothing of it.
type Session struct {
	// ID is a random name of this login, fit for a session cookie and for the Key of its
	// Source. Requests that share a login (see [Handlers.OnLogin]) share it as well.
	ID string
	// Token is what the server gave, the ID token in its Extra("id_token").
	Token *oauth2.Token
	// IDToken says who has logged in. It is nil if openid was not asked for.
	IDToken *IDToken
	// Scopes are what was granted. If the server does not say, they are what was asked for
	// (RFC 6749, section 5.1).
	Scopes []string
	// Resources are what was asked for (RFC 8707). They are also in the Token's Extra, so
	// that a refresh asks for the same.
	Resources []string
	// AuthorizationDetails are what was granted (RFC 9396, section 7), as JSON; nil if the
	// server does not say.
	AuthorizationDetails json.RawMessage
	// ReturnTo is that of the [AuthRequest].
	ReturnTo string
}

// Format implements [fmt.Formatter]: it prints nothing that is in s.
func (s Session) Format(f fmt.State, _ rune) { blank(f, "login.Session") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in s.
func (s Session) LogValue() slog.Value { return slog.StringValue("login.Session{…}") }

// Exchange completes a login: it takes the whole redirect response, verifies it against tx,
// and only then redeems the code. response is the URL to which the user came back, as a
// string or a *[url.URL], or the *[http.Request] of the callback: a GET, or the POST of a
// form ([AuthRequest.FormPost]).
//
// tx is good for one response with its state. After that begin a new login, also if
// Exchange failed. A code is never sent twice. While the code is being redeemed the call
// ignores the end of ctx, as the answer cannot be got again, and takes 30 seconds at most
// (Rule 65). Its errors are described in the package comment: a *[CheckError] if a check
// failed, an *[AuthorizationError] if the server or the user denied the login.
func (c *Client) Exchange(ctx context.Context, tx *Transaction, response any) (*Session, error) {
	m, err := c.prepare(ctx, tx)
	if err != nil {
		return nil, err
	}
	r, err := parseResponse(response, tx.RedirectURL, c.StrippedPrefix)
	if err != nil {
		return nil, err
	}
	g, err := c.grant(ctx, m, "authorization_code")
	if err != nil {
		return nil, err
	}
	if r, err = c.openResponse(ctx, m, tx, r); err != nil {
		return nil, err
	}
	if err = r.check(tx, m); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endpointTimeout)
	defer cancel()
	g.Form = func(_ context.Context, _ *oauth2.Token, form url.Values) error {
		form.Set("code", r.code)
		form.Set("redirect_uri", tx.RedirectURL) // Rule 12
		form.Set("code_verifier", tx.Verifier)
		if len(tx.Resources) > 0 {
			form["resource"] = tx.Resources
		}
		return addParams(form, tx.TokenParams, "Transaction.TokenParams")
	}
	tok, err := g.Refresh(ctx, boundTo(tx.DPoPKey))
	if err != nil {
		return nil, failed("code exchange", err)
	}
	s, err := c.session(ctx, m, tok, expectation{nonce: tx.Nonce, maxAge: tx.MaxAge, began: tx.Began, scopes: tx.Scopes, resources: tx.Resources})
	if err != nil {
		return nil, err
	}
	s.ReturnTo = tx.ReturnTo
	return s, nil
}

// prepare does what can be done before a response is looked at: while the
// metadata or the keys cannot be had, no transaction and no code is spent.
func (c *Client) prepare(ctx context.Context, tx *Transaction) (*Metadata, error) {
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	if err := tx.check(c); err != nil {
		return nil, err
	}
	if slices.Contains(tx.Scopes, scopeOpenID) || tx.SignedResponse {
		if _, err := c.Provider.ready(ctx, m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// An expectation is what an ID token is held to beyond its issuer and client.
type expectation struct {
	nonce  string
	maxAge *int64
	began  time.Time // of the request
	// scopes and resources are what was asked for.
	scopes, resources []string
}

// session verifies what the token endpoint sent.
func (c *Client) session(ctx context.Context, m *Metadata, tok *oauth2.Token, want expectation) (*Session, error) {
	if err := checkType(tok, c.tokenType()); err != nil {
		return nil, err
	}
	s := &Session{ID: rand.Text(), Token: tok, Scopes: want.scopes, Resources: want.resources}
	if len(want.resources) > 0 || len(c.Resources) > 0 {
		s.Token = withResources(tok, want.resources)
	}
	if scope, ok := tok.Extra("scope").(string); ok && scope != "" {
		s.Scopes = strings.Fields(scope)
	}
	if details, ok := tok.Extra("authorization_details").([]any); ok {
		s.AuthorizationDetails, _ = json.Marshal(details) // as it was read
	}
	raw, err := rawIDToken(tok)
	if m.JWKSURI == "" && !slices.Contains(want.scopes, scopeOpenID) {
		// Nobody has asked for an ID token, and nobody can verify it.
		s.Token = wire.Without(s.Token, "id_token")
		return s, nil
	}
	switch {
	case err != nil:
		return nil, err
	case raw == "" && slices.Contains(want.scopes, scopeOpenID):
		return nil, &CheckError{Check: "id_token", Reason: "openid was asked for, and the answer has none"}
	case raw == "":
		return s, nil
	}
	s.IDToken, err = c.verifyIDToken(ctx, m, raw, tok.AccessToken, want)
	if err != nil {
		return nil, err
	}
	return s, nil
}

const (
	typeBearer = "Bearer"
	typeDPoP   = "DPoP"
	// typeNone is the token_type of a token that is none for a request (RFC 8693,
	// section 2.2.1).
	typeNone = "N_A"
)

// checkType implements Rule 22.
func checkType(tok *oauth2.Token, types ...string) error {
	for _, typ := range types {
		if strings.EqualFold(tok.TokenType, typ) {
			return nil
		}
	}
	return refuse("token_type", "is none that can be used", types[0], tok.TokenType)
}

func rawIDToken(tok *oauth2.Token) (string, error) {
	switch raw := tok.Extra("id_token").(type) {
	case nil:
		return "", nil
	case string:
		return raw, nil
	}
	return "", &CheckError{Check: "id_token", Reason: "is not a string"}
}

// RefreshToken returns the refresher of a session's [authtrip.Source]. A refreshed ID
// token is verified and compared with the one before it: if it names another user, the
// refresh is an error (OpenID Connect Core 1.0, section 12.2). If the server's keys are
// unavailable, its signature is not checked, and the new token is not lost. It came from
// the token endpoint over TLS (section 3.1.3.7). A token of an unknown type is kept for
// its refresh token, and no request is sent with it. The refresh asks for the resources
// that the login asked for. If the token does not name them, it asks for those of the
// Client.
func (c *Client) RefreshToken() authtrip.Refresher {
	return refresher{client: c, refresh: func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
		switch { // whatever the provider says
		case old == nil:
			return nil, &authtrip.RefreshError{Err: authtrip.ErrNoSession}
		case old.RefreshToken == "":
			return nil, &authtrip.RefreshError{Err: fmt.Errorf("%w: the login gave no refresh token", authtrip.ErrSessionEnded)}
		}
		m, g, err := c.lazyGrant(ctx, "refresh_token")
		if err != nil {
			return nil, err
		}
		wanted, noted := resourcesOf(old)
		if !noted {
			wanted = c.Resources
		}
		if len(wanted) > 0 {
			g.Params = url.Values{"resource": wanted}
		}
		ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
		defer cancel()
		tok, err := g.Refresh(ctx, old)
		if err != nil {
			return nil, err
		}
		if noted {
			tok = withResources(tok, wanted)
		}
		if tok, err = c.checkRefreshed(ctx, m, old, tok); err != nil {
			return nil, &authtrip.RefreshError{Err: fmt.Errorf("%w: %w", authtrip.ErrSessionEnded, err)}
		}
		return tok, nil
	}}
}

// checkRefreshed implements Rule 32 for the answer to a refresh. An ID token that cannot
// be read, or that is signed with no algorithm that counts, is left out, so that the one
// from before stays: of these only what it says of another user ends the session (Rule 54).
// A token_type that nobody can use ends none either: the refresh token that came along
// is the only one that still counts, and [authtrip.Transport] does not send such a token.
func (c *Client) checkRefreshed(ctx context.Context, m *Metadata, old, tok *oauth2.Token) (*oauth2.Token, error) {
	raw, err := rawIDToken(tok)
	if raw == "" && err == nil {
		return tok, nil
	}
	if err == nil && len(raw) <= maxJWT {
		_, err = unverified(raw)
	}
	if err != nil || len(raw) > maxJWT {
		return wire.Without(tok, "id_token"), nil //nolint:nilerr // see above
	}
	verified, err := c.verifyRefreshed(ctx, m, raw, old)
	if err == nil && !verified {
		tok = wire.Without(tok, "id_token")
	}
	return tok, err
}

// grant returns a grant of this client at the provider's token endpoint.
func (c *Client) grant(ctx context.Context, m *Metadata, grantType string) (*authtrip.Grant, error) {
	auth, err := c.auth(m)
	if err != nil {
		return nil, err
	}
	endpoint, err := c.Provider.endpoint(m, endpointToken, auth.certificate())
	if err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	return &authtrip.Grant{
		TokenURL:          endpoint.String(),
		Type:              grantType,
		Authenticate:      auth.apply,
		DPoP:              c.DPoP,
		HTTPClient:        identity.Client(c.httpClient()),
		AllowInsecureHTTP: c.Provider.AllowInsecureHTTP,
	}, nil
}

// lazyGrant is grant for a refresher, whose errors must say that nothing was
// sent.
func (c *Client) lazyGrant(ctx context.Context, grantType string) (*Metadata, *authtrip.Grant, error) {
	m, err := c.metadata(ctx)
	var g *authtrip.Grant
	if err == nil {
		g, err = c.grant(ctx, m, grantType)
	}
	if err == nil {
		return m, g, nil
	}
	return nil, nil, notSent(err)
}

// notSent makes an error one of a refresh that cost nothing: no refresh token
// was sent, so that a Source may try again.
func notSent(err error) error {
	if _, ok := errors.AsType[*authtrip.RefreshError](err); ok {
		return err
	}
	re := &authtrip.RefreshError{Err: err}
	if ee, ok := errors.AsType[*EndpointError](err); ok {
		re.RetryAfter = ee.RetryAfter
	}
	return re
}
