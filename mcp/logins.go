package mcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/origin"
	"example.com/authtrip/login"
)

// A Login is a way to get a token: one of [Browser], [Redirect], [Device],
// [ClientCredentials], [Workload] and [Enterprise]. It is safe for concurrent use.
type Login interface {
	// login gets a token. asks reports whether a user is asked.
	login(ctx context.Context, k *task) (*result, error)
	asks() bool
}

type result struct {
	session      *login.Session
	client       *login.Client
	registration *login.Registration // nil if the client has not registered itself
}

// Browser logs in the user of a program on this computer, as [login.Loopback] does. The
// zero value is ready to use.
type Browser struct {
	// Open shows a URL to the user. If nil, it opens a browser.
	Open func(ctx context.Context, url string) error
	// Output gets the line with the URL for a user whose browser does not open. If nil,
	// it is os.Stderr.
	Output io.Writer
	// Addr is where to wait for the browser, for a client that was registered with a
	// port. If "", it is the port with which this program has registered itself, or any.
	Addr string
	// Path is that of the redirect URL. If "", it is /callback.
	Path string
}

func (*Browser) asks() bool { return true }

func (b *Browser) login(ctx context.Context, k *task) (*result, error) {
	if err := k.checkPKCE(); err != nil {
		return nil, err
	}
	addr := b.Addr
	if addr == "" {
		addr = free(ctx)
	}
	path := cmp.Or(b.Path, "/callback")
	complete := func(m *login.ClientMetadata) {
		if len(m.RedirectURIs) == 0 {
			m.RedirectURIs = []string{"http://" + addr + path}
		}
		describe(m, "native", "authorization_code")
	}
	c, r, err := k.client(ctx, complete, false)
	if err != nil {
		return nil, err
	}
	if at, bad := url.Parse(c.RedirectURL); bad == nil && at.Port() != "" && origin.Loopback(at.Hostname()) && b.Addr == "" {
		// A server may compare the port: it is that of the registration while it is free.
		switch listens(ctx, at.Host) {
		case true:
			addr, path = at.Host, at.EscapedPath()
		case false:
			if c, r, err = k.client(ctx, complete, true); err != nil {
				return nil, err
			}
		}
	}
	l := &login.Loopback{Client: c, Request: k.request, Addr: addr, Path: path, Open: b.Open, Output: b.Output}
	s, err := l.Login(ctx)
	if err != nil {
		return nil, err
	}
	return &result{s, c, r}, nil
}

// free returns a loopback address with a port that nobody has.
func free(ctx context.Context) string {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		if l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr); err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	return ""
}

func listens(ctx context.Context, addr string) bool {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err == nil {
		_ = l.Close()
	}
	return err == nil
}

// describe says what a registration needs for a kind of login.
func describe(m *login.ClientMetadata, kind, grant string) {
	if m.ApplicationType == "" {
		m.ApplicationType = kind
	}
	if m.GrantTypes == nil {
		m.GrantTypes = []string{grant, "refresh_token"}
	}
	if m.ResponseTypes == nil && grant == "authorization_code" {
		m.ResponseTypes = []string{"code"}
	}
}

// Redirect is for a web application. It sends its user's browser away, and the browser
// comes back to URL. A request that needs a login fails with a *[LoginNeededError], and
// [Transport.Finish] completes the login.
type Redirect struct {
	// URL is where the user comes back to; required.
	URL string
}

// A LoginNeededError says that a user has to log in.
type LoginNeededError struct {
	// URL is where to send the browser.
	URL string
	// Transaction is for [Transport.Finish]. It is secret and belongs to the browser:
	// [login.Transactions] keeps it.
	Transaction *login.Transaction
}

func (e *LoginNeededError) Error() string { return "mcp: the user has to log in" }

// Is reports whether target is [authtrip.ErrReauthRequired].
func (e *LoginNeededError) Is(target error) bool { return target == authtrip.ErrReauthRequired }

func (*Redirect) asks() bool { return true }

func (r *Redirect) login(ctx context.Context, k *task) (*result, error) { //nolint:unparam // the interface has it
	if err := k.checkPKCE(); err != nil {
		return nil, err
	}
	complete := func(m *login.ClientMetadata) {
		if !slices.Contains(m.RedirectURIs, r.URL) {
			m.RedirectURIs = append(slices.Clone(m.RedirectURIs), r.URL)
		}
		describe(m, "web", "authorization_code")
	}
	c, reg, err := k.client(ctx, complete, false)
	if err == nil && reg != nil && len(reg.RedirectURIs) > 0 && !slices.Contains(reg.RedirectURIs, r.URL) {
		c, _, err = k.client(ctx, complete, true) // the application was elsewhere when it registered
	}
	if err != nil {
		return nil, err
	}
	c.RedirectURL = r.URL
	at, tx, err := c.AuthCodeURL(ctx, k.request)
	if err != nil {
		return nil, err
	}
	return nil, &LoginNeededError{URL: at, Transaction: tx}
}

// Device logs in a user on another device (RFC 8628), for a program without a browser.
type Device struct {
	// Show tells the user where to go and what to type; required. It does not wait for the user.
	Show func(ctx context.Context, d *oauth2.DeviceAuthResponse) error
}

func (*Device) asks() bool { return true }

func (d *Device) login(ctx context.Context, k *task) (*result, error) {
	if d.Show == nil {
		return nil, errors.New("mcp: Device.Show is nil")
	}
	c, r, err := k.client(ctx, func(m *login.ClientMetadata) {
		describe(m, "native", "urn:ietf:params:oauth:grant-type:device_code")
	}, false)
	if err != nil {
		return nil, err
	}
	answer, err := c.DeviceAuth(ctx, k.request)
	if err != nil {
		return nil, err
	}
	if err = d.Show(ctx, answer); err != nil {
		return nil, fmt.Errorf("mcp: Device.Show: %w", err)
	}
	s, err := c.DeviceToken(ctx, answer, k.request)
	if err != nil {
		return nil, err
	}
	return &result{s, c, r}, nil
}

// ClientCredentials is for a program that acts for itself (RFC 6749, section 4.4), with
// the secret or the key of the [login.Client] that Identity.Registered returns.
type ClientCredentials struct{}

func (*ClientCredentials) asks() bool { return false }

func (*ClientCredentials) login(ctx context.Context, k *task) (*result, error) {
	return k.grant(ctx, func(c *login.Client, req *login.TokenRequest) authtrip.Refresher { return c.ClientCredentials(req) })
}

// Workload is for a program whose platform signs who it is. It trades the assertion of a
// Kubernetes service account, a cloud or SPIFFE for a token (RFC 7523, section 2.1).
type Workload struct {
	// Assertion returns an assertion for the authorization server audience; required. It is
	// called for each token.
	Assertion func(ctx context.Context, audience string) (string, error)
}

func (*Workload) asks() bool { return false }

func (w *Workload) login(ctx context.Context, k *task) (*result, error) {
	if w.Assertion == nil {
		return nil, errors.New("mcp: Workload.Assertion is nil")
	}
	return k.grant(ctx, func(c *login.Client, req *login.TokenRequest) authtrip.Refresher {
		return c.JWTBearer(req, func(ctx context.Context) (string, error) { return w.Assertion(ctx, k.provider.Issuer) })
	})
}

// grant gets a token without a user.
func (k *task) grant(ctx context.Context, of func(*login.Client, *login.TokenRequest) authtrip.Refresher) (*result, error) {
	c, r, err := k.client(ctx, nil, false)
	if err != nil {
		return nil, err
	}
	tok, err := of(c, &login.TokenRequest{Scopes: k.request.Scopes, Resources: k.request.Resources}).Refresh(ctx, k.old)
	if err != nil {
		return nil, err
	}
	return &result{&login.Session{Token: tok, Scopes: k.request.Scopes, Resources: k.request.Resources}, c, r}, nil
}

// Enterprise is for a user of an organization whose identity provider decides which
// servers may be used (enterprise-managed authorization). The user's ID token, from
// single sign-on, is traded at the identity provider for an assertion (ID-JAG). The
// assertion is traded for a token at the authorization server. The user is not asked
// again.
type Enterprise struct {
	// Provider is this program as a client of the organization's identity provider; required.
	Provider *login.Client
	// IDToken returns the user's ID token; required. It is called for each token.
	IDToken func(ctx context.Context) (string, error)
}

// ErrDeniedByPolicy is the error of an identity provider that does not let a user use a
// server. Only the organization can change that.
var ErrDeniedByPolicy = errors.New("mcp: denied by the policy of the organization")

func (*Enterprise) asks() bool { return false }

const (
	typeIDToken = "urn:ietf:params:oauth:token-type:id_token"
	typeIDJAG   = "urn:ietf:params:oauth:token-type:id-jag"
)

func (e *Enterprise) login(ctx context.Context, k *task) (*result, error) {
	if e.Provider == nil || e.IDToken == nil {
		return nil, errors.New("mcp: Enterprise.Provider or Enterprise.IDToken is nil")
	}
	return k.grant(ctx, func(c *login.Client, req *login.TokenRequest) authtrip.Refresher {
		return c.JWTBearer(req, func(ctx context.Context) (string, error) { return e.assertion(ctx, k) })
	})
}

// assertion asks the identity provider.
func (e *Enterprise) assertion(ctx context.Context, k *task) (string, error) {
	params := url.Values{"requested_token_type": {typeIDJAG}, "audience": {k.provider.Issuer}}
	req := &login.TokenRequest{Scopes: k.request.Scopes, Resources: k.request.Resources, Params: params}
	tok, err := e.Provider.TokenExchange(req, func(ctx context.Context) (string, string, error) {
		idToken, err := e.IDToken(ctx)
		return idToken, typeIDToken, err
	}).Refresh(ctx, nil)
	if err != nil {
		k.registered = false // it is another client that failed
		return "", policy(err)
	}
	if got, _ := tok.Extra("issued_token_type").(string); got != typeIDJAG {
		return "", errors.New("mcp: the identity provider's answer is no ID-JAG")
	}
	return tok.AccessToken, nil
}

// policy tells a no of the organization from an ID token that is too old.
func policy(err error) error {
	re, ok := errors.AsType[*authtrip.RefreshError](err)
	if !ok || re.StatusCode < http.StatusBadRequest || re.StatusCode >= http.StatusInternalServerError {
		return err
	}
	switch {
	case strings.EqualFold(re.Code, "invalid_grant"), strings.EqualFold(re.Code, "invalid_token"):
		return fmt.Errorf("%w: single sign-on has ended: %w", authtrip.ErrReauthRequired, err)
	case re.Code == "access_denied", re.Code == "unauthorized_client", re.Code == "invalid_target", re.Code == "invalid_scope":
		return fmt.Errorf("%w: %w", ErrDeniedByPolicy, err)
	}
	return err
}
