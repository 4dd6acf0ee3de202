package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/origin"
	"example.com/authtrip/internal/wire"
	"example.com/authtrip/login"
)

// binding is what a session's token says about itself beside what the server sent: whose it
// is. It is in the token's Extra, so that it is kept, sealed and refreshed with it.
type binding struct {
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Resource string   `json:"resource"`
	Asked    []string `json:"asked,omitempty"` // the scopes
	// Registration is that of a client which has registered itself.
	Registration *login.Registration `json:"registration,omitempty"`
}

const extraBinding = "authtrip_mcp"

func bindingOf(tok *oauth2.Token) (b binding, ok bool) {
	if tok == nil {
		return b, false
	}
	text, _ := tok.Extra(extraBinding).(string)
	return b, text != "" && json.Unmarshal([]byte(text), &b) == nil && b.Issuer != ""
}

// with returns tok with a binding.
func (b binding) with(tok *oauth2.Token) *oauth2.Token {
	doc, _ := json.Marshal(b) // of what was JSON before
	all := wire.Extras(tok)
	all[extraBinding] = string(doc)
	return tok.WithExtra(all)
}

// authorize gets a token that is not used, or one with more scope. One login is for all
// that want the same.
func (t *Transport) authorize(ctx context.Context, wants want, all []authtrip.Challenge, used string, tries int) error {
	key, scope := "token", ""
	if ch, ok := stepUp(all); ok && wants == more {
		key, scope = "more "+ch.Scope, ch.Scope
	}
	return t.logins.do(ctx, key, func(ctx context.Context) error {
		// Those that want different things log in one after the other: each asks for what the
		// session has by then, and more.
		select {
		case t.turn <- struct{}{}:
			defer func() { <-t.turn }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		old, err := t.current(ctx)
		if err != nil {
			return err
		}
		if old != nil && old.AccessToken != used && wasAsked(old, scope) {
			return nil // somebody else has logged in meanwhile
		}
		return t.logIn(ctx, wants, all, old, tries)
	})
}

// wasAsked reports whether a session was asked for all of scope.
func wasAsked(tok *oauth2.Token, scope string) bool {
	b, _ := bindingOf(tok)
	return !slices.ContainsFunc(strings.Fields(scope), func(s string) bool { return !slices.Contains(b.Asked, s) })
}

func (t *Transport) logIn(ctx context.Context, wants want, all []authtrip.Challenge, old *oauth2.Token, tries int) error {
	was, _ := bindingOf(old)
	resource, p, err := t.find(ctx, all, was.Issuer)
	if err != nil {
		return err
	}
	meta, err := p.Metadata(ctx)
	if err != nil {
		return err
	}
	binder, err := t.binder(resource, meta)
	if err != nil {
		return err
	}
	req := &login.AuthRequest{Resources: []string{resource.Resource}}
	if wants == more {
		ch, _ := stepUp(all)
		if req = login.StepUp(ch); was.Issuer != p.Issuer {
			was.Asked = nil
		}
		req.AddScopes, req.Resources = nil, []string{resource.Resource}
		if req.Scopes, err = login.Widen(was.Asked, ch, tries); err != nil {
			return err
		}
	} else {
		req.Scopes = t.scopes(all, resource, meta)
	}
	if slices.Contains(req.Scopes, "offline_access") {
		req.Prompt = "consent" // without it OpenID providers give no refresh token (OIDC Core 1.0, section 11)
	}
	k := &task{t: t, provider: p, meta: meta, request: req, binder: binder, renew: t.lost.Load()}
	s, err := t.Login.login(ctx, k)
	if k.registered && !k.renew && unknownClient(err) {
		k.renew = true
		s, err = t.Login.login(ctx, k)
	}
	if err != nil {
		return err
	}
	return t.keep(ctx, s.session, binding{Issuer: p.Issuer, ClientID: s.client.ID, Registration: s.registration, Resource: resource.Resource, Asked: req.Scopes})
}

func (t *Transport) keep(ctx context.Context, s *login.Session, b binding) error {
	t.lost.Store(false)
	return t.source.SetToken(context.WithoutCancel(ctx), b.with(s.Token))
}

// current returns the token, and nil where a login is needed: nobody has logged in, the
// session is over, or its server does not know the client any more.
func (t *Transport) current(ctx context.Context) (*oauth2.Token, error) {
	tok, err := t.source.TokenContext(ctx)
	if errors.Is(err, authtrip.ErrReauthRequired) || t.lost.Load() && unknownClient(err) {
		return nil, nil //nolint:nilnil // it is no error
	}
	return tok, err
}

// scopes are those of the challenge, else those of the resource's metadata, else none; and
// offline_access where the server offers it and a user is asked.
func (t *Transport) scopes(all []authtrip.Challenge, resource *login.ResourceMetadata, meta *login.Metadata) []string {
	scopes := []string{}
	for _, ch := range all {
		if scopes = strings.Fields(ch.Scope); len(scopes) > 0 {
			break
		}
	}
	if len(scopes) == 0 {
		scopes = slices.Clone(resource.ScopesSupported)
	}
	wanted := t.Scopes
	if t.Login.asks() && slices.Contains(meta.ScopesSupported, "offline_access") {
		wanted = append(slices.Clone(wanted), "offline_access")
	}
	for _, scope := range wanted {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	if scopes == nil {
		return []string{}
	}
	return scopes
}

// binder is what the tokens of a login are bound by, nil if they are not.
func (t *Transport) binder(resource *login.ResourceMetadata, meta *login.Metadata) (authtrip.Binder, error) {
	offered := len(meta.DPoPSigningAlgs) > 0
	switch {
	case t.DPoP != nil && offered:
		return t.DPoP, nil
	case !resource.DPoPBoundTokensRequired:
		return nil, nil //nolint:nilnil // bearer tokens
	case offered:
		return nil, errNoDPoP
	}
	return nil, errors.New("mcp: the server takes tokens only that are bound to a key, and its authorization server does not say that it binds them (dpop_signing_alg_values_supported)")
}

var errNoDPoP = errors.New("mcp: Transport.DPoP is nil, and the server wants tokens that are bound to a key")

// find returns what the server says about itself, and its authorization server. One that says
// nothing is a server of 2025-03-26, which is its own.
func (t *Transport) find(ctx context.Context, all []authtrip.Challenge, current string) (*login.ResourceMetadata, *login.Provider, error) {
	f := &login.Finder{URL: t.URL, AllowParent: true, HTTPClient: t.guarded, AllowInsecureHTTP: t.AllowInsecureHTTP}
	m, err := f.Find(ctx, all)
	issuer := origin.Of(t.at).String()
	switch {
	case errors.Is(err, login.ErrNoMetadata):
		m, err = &login.ResourceMetadata{Resource: t.URL}, nil
	case err != nil:
		return nil, nil, err
	case t.Choose != nil:
		issuer, err = t.Choose(ctx, m.AuthorizationServers)
	default:
		issuer, err = t.identity.Choose(ctx, m.AuthorizationServers, current)
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := t.provider(ctx, issuer)
	return m, p, err
}

// provider returns that of an issuer.
func (t *Transport) provider(ctx context.Context, issuer string) (*login.Provider, error) {
	p, err := t.providers.Provider(issuer)
	if err != nil {
		return nil, err
	}
	_, err = p.Metadata(ctx)
	ee, ok := errors.AsType[*login.EndpointError](err)
	if !ok || issuer != origin.Of(t.at).String() || ee.StatusCode < 400 || ee.StatusCode >= 500 || ee.StatusCode == http.StatusTooManyRequests {
		return p, err
	}
	// The endpoints of 2025-03-26 for servers without metadata.
	legacy := t.emptyProvider(issuer)
	legacy.Static = &login.Metadata{
		Issuer:                issuer,
		AuthorizationEndpoint: issuer + "/authorize", TokenEndpoint: issuer + "/token", RegistrationEndpoint: issuer + "/register",
		CodeChallengeMethods:     []string{"S256"},
		TokenEndpointAuthMethods: []string{"none", "client_secret_basic", "client_secret_post"},
	}
	return legacy, nil
}

func (t *Transport) newProvider(issuer string) (*login.Provider, error) {
	return t.emptyProvider(issuer), nil
}

func (t *Transport) emptyProvider(issuer string) *login.Provider {
	return &login.Provider{
		Issuer: issuer, OAuthFirst: true, HTTPClient: t.guarded, AllowInsecureHTTP: t.AllowInsecureHTTP, OnEvent: t.OnEvent,
	}
}

// Finish completes a login that a [Redirect] began. It takes the transaction of the
// [LoginNeededError] and the request with which the browser came back. Its errors are
// those of [login.Client.Exchange].
func (t *Transport) Finish(ctx context.Context, tx *login.Transaction, response any) error {
	if err := t.prepare(); err != nil {
		return err
	}
	if tx == nil {
		return errors.New("mcp: Transport.Finish: the Transaction is nil")
	}
	if len(tx.Resources) == 0 || !t.within(tx.Resources[0]) {
		return errors.New("mcp: Transport.Finish: the Transaction is of a login at another server")
	}
	p, err := t.provider(ctx, tx.Issuer)
	if err != nil {
		return err
	}
	k := &task{t: t, provider: p}
	if k.binder, err = t.binderOf(tx.DPoPKey); err != nil {
		return err
	}
	c, r, err := k.client(ctx, nil, false)
	if err != nil {
		return err
	}
	s, err := c.Exchange(ctx, tx, response)
	if err != nil {
		if r != nil && unknownClient(err) {
			t.lost.Store(true) // the next login registers again
		}
		return err
	}
	return t.keep(ctx, s, binding{Issuer: p.Issuer, ClientID: c.ID, Registration: r, Resource: tx.Resources[0], Asked: tx.Scopes})
}

// within reports whether URL is the resource or a part of it: a token of any other is not for
// this server's eyes.
func (t *Transport) within(resource string) bool {
	u, err := url.Parse(resource)
	if err != nil || origin.Of(u) != origin.Of(t.at) {
		return false
	}
	path, parent := t.at.EscapedPath(), u.EscapedPath()
	return strings.HasPrefix(strings.TrimSuffix(path, "/")+"/", strings.TrimSuffix(parent, "/")+"/")
}
