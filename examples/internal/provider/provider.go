// Package provider runs a real OpenID provider on this machine, for the examples
// and their tests: the certified server of github.com/zitadel/oidc, with users,
// clients and tokens kept in memory.
//
// It serves the authorization code flow with PKCE, refresh tokens that are good
// for one use, client credentials, the device flow, user info, introspection,
// revocation, discovery and the end of a session. People log in through a form,
// as they would anywhere.
//
// The server's library reports what it refuses to [log/slog.Default].
package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/oauth2"
)

// Options say what a Provider serves.
type Options struct {
	// Addr is where it listens, on a loopback address. If "", it is a free port
	// of 127.0.0.1.
	Addr string
	// AccessTokenLifetime is how long an access token is good: whole seconds, as
	// that is what expires_in can say. If 0, it is five minutes.
	AccessTokenLifetime time.Duration
	// Clients are the programs that may ask for tokens.
	Clients []Client
	// Users are the people who can log in.
	Users []User
}

// A Client is a program that may ask for tokens.
type Client struct {
	ID string
	// Secret is that of a program which can keep one; it is sent as HTTP Basic. If
	// "", the client is a native program: its redirect URIs on the loopback
	// interface match with any port (RFC 8252, section 7.3), and it may use the
	// device flow.
	Secret string
	// RedirectURIs are where a login may return to.
	RedirectURIs []string
	// PostLogoutRedirectURIs are where a logout may return to.
	PostLogoutRedirectURIs []string
	// BackChannelLogoutURI is where the program is told that sessions have ended. If
	// "", it is not.
	BackChannelLogoutURI string
}

// A User is somebody who can log in.
type User struct {
	Subject  string // the sub claim; must not have a colon
	Login    string // what is typed into the form
	Password string
	Name     string
	Email    string
	// Picture is an SVG image. If it is not "", the provider serves it, and names
	// it in the picture claim.
	Picture string
}

// Stats are what a Provider has seen since it started.
type Stats struct {
	// Requests that arrived, counted in front of the server, whatever their
	// answer.
	TokenRequests, UserInfoRequests, IntrospectionRequests, RevocationRequests int

	// RefreshTokensIssued counts the refresh tokens that were handed out, and
	// RefreshTokensSpent those that were used, as each can be once.
	RefreshTokensIssued, RefreshTokensSpent int
	// RefreshTokensReused counts the times that a spent one came again, which
	// ends all tokens of that login.
	RefreshTokensReused int
	// RefreshTokensWasted counts those that were used without need: the access
	// token beside it was not revoked and had more than half its life before it.
	RefreshTokensWasted int
}

// A Provider is an OpenID provider that is running. It is safe for concurrent
// use; [Provider.Close] ends it.
type Provider struct {
	issuer  string
	op      *op.Provider
	storage *storage
	pages   *template.Template
	server  *http.Server

	tokens, userInfos, introspections, revocations atomic.Int64
	tokenDelay                                     atomic.Int64 // a time.Duration
}

// Start starts a Provider.
func Start(opts Options) (*Provider, error) {
	listener, err := listen(opts.Addr)
	if err != nil {
		return nil, err
	}
	p, err := newProvider("http://"+listener.Addr().String(), opts)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	p.server = &http.Server{Handler: p.count(p.routes()), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.server.Serve(listener) }() // until Close
	return p, nil
}

// Close ends the Provider: it waits a moment for requests that are being
// answered, and cuts off what is left.
func (p *Provider) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if p.server.Shutdown(ctx) == nil {
		return nil
	}
	return p.server.Close()
}

// DelayTokens makes each token request take longer by d from now on.
func (p *Provider) DelayTokens(d time.Duration) { p.tokenDelay.Store(int64(d)) }

// Issuer returns the provider's name, which is also its address. Everything else
// about it can be discovered from there.
func (p *Provider) Issuer() string { return p.issuer }

// Endpoint returns what an [oauth2.Config] wants to know. Its AuthStyle is that
// of a client with a secret.
func (p *Provider) Endpoint() oauth2.Endpoint {
	return oauth2.Endpoint{
		AuthURL:       p.op.AuthorizationEndpoint().Absolute(p.issuer),
		TokenURL:      p.op.TokenEndpoint().Absolute(p.issuer),
		DeviceAuthURL: p.op.DeviceAuthorizationEndpoint().Absolute(p.issuer),
		AuthStyle:     oauth2.AuthStyleInHeader,
	}
}

// UserInfoURL returns the user info endpoint.
func (p *Provider) UserInfoURL() string { return p.op.UserinfoEndpoint().Absolute(p.issuer) }

// IntrospectionURL returns the endpoint where an API asks about a token (RFC
// 7662); any client with a secret may.
func (p *Provider) IntrospectionURL() string { return p.op.IntrospectionEndpoint().Absolute(p.issuer) }

// RevocationURL returns the endpoint where a client ends a token (RFC 7009): an
// access token alone, or with a refresh token all tokens of that login.
func (p *Provider) RevocationURL() string { return p.op.RevocationEndpoint().Absolute(p.issuer) }

// Stats returns what the provider has seen so far.
func (p *Provider) Stats() Stats {
	s := p.storage.stats()
	s.TokenRequests = int(p.tokens.Load())
	s.UserInfoRequests = int(p.userInfos.Load())
	s.IntrospectionRequests = int(p.introspections.Load())
	s.RevocationRequests = int(p.revocations.Load())
	return s
}

func listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("provider: Options.Addr: %w", err)
	}
	if !net.ParseIP(host).IsLoopback() {
		return nil, fmt.Errorf("provider: Options.Addr %q is not a loopback address", addr)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	return listener, nil
}

func newProvider(issuer string, opts Options) (*Provider, error) {
	store, err := newStorage(issuer, opts)
	if err != nil {
		return nil, err
	}
	config := &op.Config{
		CryptoKeyId:              "1",
		DefaultLogoutRedirectURI: loggedOutPath,
		CodeMethodS256:           true,
		GrantTypeRefreshToken:    true,
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime:     5 * time.Minute,
			PollInterval: time.Second,
			UserFormPath: devicePath,
			UserCode:     op.UserCodeBase20,
		},
	}
	_, _ = rand.Read(config.CryptoKey[:]) // never fails
	server, err := op.NewProvider(config, store, op.StaticIssuer(issuer), op.WithAllowInsecure())
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	return &Provider{issuer: issuer, op: server, storage: store, pages: parsePages()}, nil
}

// routes puts the pages that people see beside the endpoints of the server.
func (p *Provider) routes() http.Handler {
	forms := http.NewCrossOriginProtection() // nobody else's page may post them
	mux := http.NewServeMux()
	mux.Handle("/", p.op)
	mux.Handle(p.op.UserinfoEndpoint().Relative(), challenge(p.op))
	mux.HandleFunc("GET "+loginPath, p.showLogin)
	mux.Handle("POST "+loginPath, forms.Handler(http.HandlerFunc(p.login)))
	mux.HandleFunc("GET "+devicePath, p.showDevice)
	mux.Handle("POST "+devicePath, forms.Handler(http.HandlerFunc(p.approveDevice)))
	mux.HandleFunc("GET "+loggedOutPath, p.showLoggedOut)
	mux.HandleFunc("GET "+stylePath, showStyle)
	mux.HandleFunc("GET "+picturePath+"{subject}", p.showPicture)
	return mux
}

// count stands in front of everything and counts what arrives.
func (p *Provider) count(next http.Handler) http.Handler {
	counters := map[string]*atomic.Int64{
		p.op.TokenEndpoint().Relative():         &p.tokens,
		p.op.UserinfoEndpoint().Relative():      &p.userInfos,
		p.op.IntrospectionEndpoint().Relative(): &p.introspections,
		p.op.RevocationEndpoint().Relative():    &p.revocations,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := counters[r.URL.Path]
		if c != nil {
			c.Add(1)
		}
		if c == &p.tokens {
			<-time.After(time.Duration(p.tokenDelay.Load()))
		}
		next.ServeHTTP(w, r)
	})
}

// challenge makes the user info endpoint refuse a token as RFC 6750, section 3,
// and OpenID Connect Core 1.0, section 5.3.3, say: with a 401 and a challenge. The
// server alone answers 403, and no challenge, to a token that was good once.
func challenge(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&challenger{ResponseWriter: w}, r)
	})
}

type challenger struct{ http.ResponseWriter }

func (c *challenger) WriteHeader(status int) {
	if status == http.StatusForbidden || status == http.StatusUnauthorized {
		status = http.StatusUnauthorized
		c.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	c.ResponseWriter.WriteHeader(status)
}
