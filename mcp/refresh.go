package mcp

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// refresher replaces the token of a session at the server that it came from.
type refresher struct{ t *Transport }

// Refresh implements [authtrip.Refresher].
func (r refresher) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	if old == nil {
		return nil, &authtrip.RefreshError{Err: authtrip.ErrNoSession}
	}
	b, ok := bindingOf(old)
	unattended := r.t.Login != nil && !r.t.Login.asks()
	if !ok || old.RefreshToken == "" && !unattended {
		return nil, &authtrip.RefreshError{Err: authtrip.ErrSessionEnded}
	}
	tok, err := r.refresh(ctx, old, b)
	if err != nil {
		if _, ok := errors.AsType[*authtrip.RefreshError](err); !ok {
			err = &authtrip.RefreshError{Err: err}
		}
		return nil, err
	}
	return b.with(tok), nil
}

func (r refresher) refresh(ctx context.Context, old *oauth2.Token, b binding) (*oauth2.Token, error) {
	p, err := r.t.provider(ctx, b.Issuer)
	if err != nil {
		return nil, err
	}
	meta, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	k := &task{t: r.t, provider: p, meta: meta, request: &login.AuthRequest{Scopes: b.Asked, Resources: []string{b.Resource}}, old: old}
	if k.binder, err = r.t.binderOf(old.Extra(authtrip.DPoPKey)); err != nil {
		return nil, err
	}
	if old.RefreshToken == "" {
		s, lerr := r.t.Login.login(ctx, k)
		if lerr != nil {
			return nil, lerr
		}
		return s.session.Token, nil
	}
	c, err := k.known(ctx, b)
	if err != nil {
		return nil, err
	}
	if c.ID != b.ClientID {
		// The refresh token is another client's: it goes nowhere.
		return nil, fmt.Errorf("%w: the program is another client of the server now", authtrip.ErrSessionEnded)
	}
	c.Resources = []string{b.Resource}
	tok, err := c.RefreshToken().Refresh(ctx, old)
	if b.Registration != nil && unknownClient(err) {
		r.t.lost.Store(true)
	}
	return tok, err
}

// unknownClient reports whether a server does not know the client, or not as this one. A
// client that has registered itself can do so again. It ends no session: the server has
// not said no to the refresh token, and only a new login takes its place. Rule 54.
func unknownClient(err error) bool {
	const code = "invalid_client"
	if re, ok := errors.AsType[*authtrip.RefreshError](err); ok {
		return re.Code == code
	}
	ee, ok := errors.AsType[*login.EndpointError](err)
	return ok && ee.Code == code
}

// Binder implements [authtrip.Bound].
func (r refresher) Binder() authtrip.Binder { return r.t.DPoP }

// binderOf is what a session is bound by whose key this is: one that began with bearer
// tokens stays so. Rule 43.
func (t *Transport) binderOf(key any) (authtrip.Binder, error) {
	switch text, _ := key.(string); {
	case text == "":
		return nil, nil //nolint:nilnil // bearer tokens
	case t.DPoP == nil:
		return nil, errNoDPoP
	}
	return t.DPoP, nil
}

// A task is one login, or one refresh.
type task struct {
	t        *Transport
	provider *login.Provider
	meta     *login.Metadata
	request  *login.AuthRequest
	binder   authtrip.Binder // nil for bearer tokens
	old      *oauth2.Token   // of a refresh

	renew      bool // the program registers itself again
	registered bool // the client has registered itself
}

// client returns the client of this program at the task's server.
func (k *task) client(ctx context.Context, complete func(*login.ClientMetadata), renew bool) (*login.Client, *login.Registration, error) {
	c, r, err := k.t.identity.Client(ctx, k.provider, complete, renew || k.renew)
	if err != nil {
		return nil, nil, err
	}
	k.registered = r != nil
	return k.equip(c), r, nil
}

// known returns the client that a session is of. It never registers one.
func (k *task) known(ctx context.Context, b binding) (*login.Client, error) {
	if b.Registration != nil {
		c, err := b.Registration.Client(k.provider)
		if err != nil {
			return nil, err
		}
		return k.equip(c), nil
	}
	c, _, err := k.client(ctx, nil, false)
	return c, err
}

func (k *task) equip(c *login.Client) *login.Client {
	c.HTTPClient, c.DPoP = k.t.guarded, k.binder
	c.Scopes = []string{}
	return c
}

// checkPKCE implements Rule 69.
func (k *task) checkPKCE() error {
	if !slices.Contains(k.meta.CodeChallengeMethods, "S256") {
		return errors.New("mcp: the authorization server does not say that it does PKCE with S256, which the protocol requires")
	}
	return nil
}
