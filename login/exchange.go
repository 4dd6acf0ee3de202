package login

import (
	"context"
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

// A Session is what a login ends with. It holds the tokens: it must not be
// logged, and in a log of log/slog it is blank.
type Session struct {
	// Token is what the server gave, the ID token in its Extra("id_token").
	Token *oauth2.Token
	// IDToken says who has logged in. It is nil if openid was not asked for.
	IDToken *IDToken
	// Scopes are what was granted; where the server does not say, what was asked
	// for (RFC 6749, section 5.1).
	Scopes []string
	// Resources are what was asked for (RFC 8707). A refresh asks for the same: they
	// are noted in the Token's Extra.
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

// Exchange ends a login: it takes the whole redirect response, verifies it
// against tx, and only then spends the code. response is the URL to which the
// user came back, as a string or a *[url.URL], or the *[http.Request] of the
// callback: a GET, or the POST of a form ([AuthRequest.FormPost]).
//
// tx ends with the first response that has its state, whatever comes of it; a
// code is never sent twice. Until then, the end of ctx ends the call. From then on
// the call takes 30 seconds at most, also if ctx ends, as the answer could not be
// had again (Rule 65). Its errors are described in the package comment: a *[CheckError]
// where anything is not as it has to be, an *[AuthorizationError] where the
// server or the user said no.
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
		return addParams(form, tx.TokenParams)
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
	s := &Session{Token: tok, Scopes: want.scopes, Resources: want.resources}
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

// RefreshToken returns the refresher of a session's [authtrip.Source]. A
// refreshed ID token is verified and held against the one before it: another
// user's, and the refresh is refused (OpenID Connect Core 1.0, section 12.2).
// Where keys cannot be had, the connection to the token endpoint vouches for it,
// as section 3.1.3.7 allows, rather than that a new token is lost. It asks for the
// resources that the login asked for, and for those of the Client where the token
// does not say.
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

// checkRefreshed implements Rules 22 and 32 for the answer to a refresh. An ID token that
// cannot be read is left out: it says nothing of who it is about, and the one from before
// stays.
func (c *Client) checkRefreshed(ctx context.Context, m *Metadata, old, tok *oauth2.Token) (*oauth2.Token, error) {
	if err := checkType(tok, c.tokenType()); err != nil {
		return nil, err
	}
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
	return tok, c.verifyRefreshed(ctx, m, raw, old)
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
