package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/origin"
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
	// DPoP proofs will have their key here.
}

const extraBinding = "authtrip_mcp"

func bindingOf(tok *oauth2.Token) (b binding, ok bool) {
	if tok == nil {
		return b, false
	}
	text, _ := tok.Extra(extraBinding).(string)
	return b, text != "" && json.Unmarshal([]byte(text), &b) == nil && b.Issuer != ""
}

// bound returns tok with its binding. The other members that a session needs again are
// repeated, as x/oauth2 replaces all.
func bound(tok *oauth2.Token, b binding) *oauth2.Token {
	doc, _ := json.Marshal(b) // of what was JSON before
	all := map[string]any{extraBinding: string(doc)}
	for _, name := range []string{"scope", "id_token", "authtrip_resource", "refresh_expires_in", "refresh_token_expires_in"} {
		if v := tok.Extra(name); v != nil {
			all[name] = v
		}
	}
	return tok.WithExtra(all)
}

// authorize gets a token that is not used, or one with more scope. One login is for all
// that want the same.
func (t *Transport) authorize(ctx context.Context, wants want, all []authtrip.Challenge, used string, tries int) error {
	key := "token"
	if ch, ok := stepUp(all); ok && wants == more {
		key = "more " + ch.Scope
	}
	return t.logins.do(ctx, key, func(ctx context.Context) error {
		old, err := t.source.TokenContext(ctx)
		if err != nil && !errors.Is(err, authtrip.ErrReauthRequired) {
			return err
		}
		if old != nil && old.AccessToken != used {
			return nil // somebody else has logged in meanwhile
		}
		return t.logIn(ctx, wants, all, old, tries)
	})
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
	s, err := t.Login.login(ctx, &task{t: t, provider: p, meta: meta, request: req})
	if err != nil {
		return err
	}
	return t.keep(ctx, s.session, binding{Issuer: p.Issuer, ClientID: s.client.ID, Registration: s.registration, Resource: resource.Resource, Asked: req.Scopes})
}

func (t *Transport) keep(ctx context.Context, s *login.Session, b binding) error {
	return t.source.SetToken(context.WithoutCancel(ctx), bound(s.Token, b))
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
	return bound(tok, b), nil
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
	k := &task{t: r.t, provider: p, meta: meta, request: &login.AuthRequest{Scopes: b.Asked, Resources: []string{b.Resource}}}
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
	return c.RefreshToken().Refresh(ctx, old)
}

// A task is one login.
type task struct {
	t        *Transport
	provider *login.Provider
	meta     *login.Metadata
	request  *login.AuthRequest
}

// client returns the client of this program at the task's server.
func (k *task) client(ctx context.Context, complete func(*login.ClientMetadata), renew bool) (*login.Client, *login.Registration, error) {
	c, r, err := k.t.identity.Client(ctx, k.provider, complete, renew)
	if err != nil {
		return nil, nil, err
	}
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
	c.HTTPClient = k.t.guarded
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

// group lets those who want the same login wait for one. It ends when all have left.
type group struct {
	mu  sync.Mutex
	all map[string]*pending
}

type pending struct {
	done    chan struct{}
	err     error
	waiting int // guarded by group.mu
	cancel  context.CancelFunc
}

// loginTimeout ends a login that hangs.
const loginTimeout = 15 * time.Minute

func (g *group) do(ctx context.Context, key string, fn func(context.Context) error) error {
	g.mu.Lock()
	p := g.all[key]
	if p == nil {
		if g.all == nil {
			g.all = make(map[string]*pending)
		}
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginTimeout)
		p = &pending{done: make(chan struct{}), cancel: cancel}
		g.all[key] = p
		go func() {
			defer func() {
				if v := recover(); v != nil {
					p.err = fmt.Errorf("mcp: login: panic of type %T", v)
				}
				cancel()
				g.mu.Lock()
				if g.all[key] == p {
					delete(g.all, key)
				}
				g.mu.Unlock()
				close(p.done)
			}()
			p.err = fn(own)
		}()
	}
	p.waiting++
	g.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if p.waiting--; p.waiting == 0 {
			p.cancel()
			if g.all[key] == p {
				delete(g.all, key) // whoever comes next begins anew
			}
		}
		return context.Cause(ctx)
	}
}

// Finish ends a login that a [Redirect] began: it takes the transaction of the
// [LoginNeededError] and the request with which the browser came back. Its errors
// are those of [login.Client.Exchange].
func (t *Transport) Finish(ctx context.Context, tx *login.Transaction, response any) error {
	if err := t.prepare(); err != nil {
		return err
	}
	if tx == nil {
		return errors.New("mcp: Transport.Finish: the Transaction is nil")
	}
	p, err := t.provider(ctx, tx.Issuer)
	if err != nil {
		return err
	}
	k := &task{t: t, provider: p}
	c, r, err := k.client(ctx, nil, false)
	if err != nil {
		return err
	}
	s, err := c.Exchange(ctx, tx, response)
	if err != nil {
		return err
	}
	b := binding{Issuer: p.Issuer, ClientID: c.ID, Registration: r, Asked: tx.Scopes}
	if len(tx.Resources) > 0 {
		b.Resource = tx.Resources[0]
	}
	return t.keep(ctx, s, b)
}
