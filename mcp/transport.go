// Package mcp is for clients of the Model Context Protocol. From the URL of a server,
// which is all that a user has, it gets a session, and keeps its token usable.
//
//	t := &mcp.Transport{URL: serverURL, Login: &mcp.Browser{}, Identity: &login.Identity{Metadata: about}}
//	defer t.Close()
//	session, err := client.Connect(ctx, &sdk.StreamableClientTransport{
//		Endpoint: serverURL, HTTPClient: &http.Client{Transport: t}}, nil)
//
// The first request goes out without a token. If the server answers with a 401, the
// Transport finds out which authorization server to ask (RFC 9728, RFC 8414), names
// itself there (RFC 7591, client ID metadata documents), has the user log in, and sends
// the request again. A 403 that asks for more scope leads to another login for the union
// of the scopes. From there the session is that of an [authtrip.Source]. Its token is
// refreshed before it expires, once for all requests. It is kept in a Store, and shared
// between processes.
//
// It does what the authorization part of the specifications of 2025-11-25 and 2026-07-28
// asks of a client, and falls back to what servers of 2025-03-26 do.
//
// What a server names (its metadata, its authorization server) is fetched from public
// addresses only: see [login.Guard].
package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"example.com/authtrip"
	"example.com/authtrip/internal/origin"
	"example.com/authtrip/internal/wire"
	"example.com/authtrip/login"
)

// A Transport sends the requests of one session with one MCP server. It is an
// [http.RoundTripper], and the auth.OAuthHandler of the official SDK: use it as one of
// the two. If you can choose, use it as the RoundTripper: it retries a request whose
// token was rejected, and the SDK does not notice.
//
// Only URL is required. Without Login nobody is asked, and a 401 is returned as it came.
// A Transport is safe for concurrent use, must not be copied, and its fields must not be
// modified after first use. [Transport.Close] ends it.
type Transport struct {
	// URL is that of the server, as the user has it; required. Tokens go to its origin
	// and to no other.
	URL string
	// Login is how to get a token: [Browser], [Redirect] or [Device] ask a user,
	// [ClientCredentials], [Workload] and [Enterprise] ask nobody.
	Login Login
	// Identity is how this program names itself to an authorization server. Several
	// Transports may share one. If nil, the program cannot name itself.
	Identity *login.Identity
	// Store keeps the session between processes. If nil, it is kept in memory.
	Store authtrip.Store
	// Key names the session in Store. If "", it is the URL: enough for a program with one user.
	Key string
	// Scopes are asked for beside those that the server says it needs.
	Scopes []string
	// Choose, if set, chooses one of the authorization servers that the server names. If
	// nil, it is that of the session, else one with which Identity is registered, else the
	// first.
	Choose func(ctx context.Context, issuers []string) (string, error)
	// Base sends the requests to the server. If nil, [http.DefaultTransport] does.
	Base http.RoundTripper
	// Networks are allowed for what the server names, beside public addresses, such as
	// 10.0.0.0/8 for servers of a company. Loopback addresses are allowed if URL is on one.
	Networks []netip.Prefix
	// HTTPClient, if set, sends the requests to what the server names, in place of a client
	// of [login.Guard]. It has to restrict the addresses itself.
	HTTPClient *http.Client
	// AllowInsecureHTTP permits plain http beyond loopback addresses. Setting this sends tokens
	// and secrets in clear text.
	AllowInsecureHTTP bool
	// DPoP, if set, has the tokens bound to keys (RFC 9449) if the authorization server
	// offers that: an [example.com/authtrip/dpop.Keys]. Without it a server that wants bound
	// tokens is an error. With it a Transport that is the SDK's handler needs
	// [Transport.Proofs].
	DPoP authtrip.Binder
	// OnEvent, if set, is told what happens, as that of [authtrip.Source] is.
	OnEvent func(authtrip.Event)

	once      sync.Once
	bad       error
	at        *url.URL
	source    *authtrip.Source
	inner     *authtrip.Transport
	guarded   *http.Client
	identity  *login.Identity
	providers login.Providers
	logins    group
	turn      chan struct{} // holds one: whoever logs in
	oauth     handler
	lost      atomic.Bool // the session's server does not know the client any more
	proofs    atomic.Bool // somebody has called Proofs
}

// RoundTrip implements [http.RoundTripper]. A request that has an Authorization header, and one to
// another origin, is sent as it is, once.
//
// It blocks as Base does, while a token is refreshed, and while a user is asked. Its
// errors are those of Base, of [authtrip.Source.TokenContext] and of the login; a
// *[LoginNeededError] says where to send the user.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.prepare(); err != nil {
		closeBody(req)
		return nil, err
	}
	if len(req.Header.Values("Authorization")) > 0 || origin.Of(req.URL) != origin.Of(t.at) {
		return t.base().RoundTrip(req)
	}
	req, err := replayable(req)
	if err != nil {
		return nil, err
	}
	used := new(sent)
	for tries := 0; ; tries++ {
		resp, err := t.send(req, used)
		if err != nil || t.Login == nil {
			return resp, err
		}
		wants := wanted(resp)
		if wants == nothing || tries >= maxTries {
			return resp, nil
		}
		next, err := again(req)
		if err != nil {
			return resp, nil //nolint:nilerr // a body that cannot be sent twice: the answer is the caller's
		}
		challenges := authtrip.Challenges(resp.Header)
		wire.Drain(resp.Body, drained)
		if err = t.authorize(req.Context(), wants, challenges, used.token, tries); err != nil {
			closeBody(next)
			return nil, err
		}
		req = next
	}
}

const (
	// maxTries is how many logins one request can lead to.
	maxTries = 3
	drained  = 64 << 10
	// maxKept is how large a body without GetBody may be to be sent again.
	maxKept = 64 << 10
)

// want is what a response asks for.
type want int

const (
	nothing want = iota
	token        // a token, or another one
	more         // one with more scope
)

func wanted(resp *http.Response) want {
	all := authtrip.Challenges(resp.Header)
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		if slices.ContainsFunc(all, blamesProof) {
			return nothing
		}
		return token
	case http.StatusForbidden:
		if _, ok := stepUp(all); ok {
			return more
		}
	}
	return nothing
}

// blamesProof reports whether a challenge is about a proof, which no login changes.
func blamesProof(ch authtrip.Challenge) bool {
	return ch.Error == "use_dpop_nonce" || ch.Error == "invalid_dpop_proof"
}

// stepUp returns the challenge that asks for more.
func stepUp(all []authtrip.Challenge) (authtrip.Challenge, bool) {
	for _, ch := range all {
		if ch.Error == "insufficient_scope" || ch.Error == "insufficient_user_authentication" {
			return ch, true
		}
	}
	return authtrip.Challenge{}, false
}

// sent is the token that a request carried last.
type sent struct{ token string }

type sentKey struct{}

// noting notes the token with which a request goes out.
type noting struct{ base http.RoundTripper }

func (n noting) RoundTrip(req *http.Request) (*http.Response, error) {
	if used, ok := req.Context().Value(sentKey{}).(*sent); ok {
		_, used.token, _ = strings.Cut(req.Header.Get("Authorization"), " ")
	}
	return n.base.RoundTrip(req)
}

// send sends a request with the token, and without one where nobody has logged in.
func (t *Transport) send(req *http.Request, used *sent) (*http.Response, error) {
	used.token = ""
	tok, err := t.current(req.Context())
	switch {
	case err != nil:
		closeBody(req)
		return nil, err
	case tok == nil:
		return t.base().RoundTrip(req)
	}
	return t.inner.RoundTrip(req.WithContext(context.WithValue(req.Context(), sentKey{}, used)))
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// prepare makes what is needed once.
func (t *Transport) prepare() error {
	t.once.Do(func() { t.bad = t.start() })
	return t.bad
}

func (t *Transport) start() error {
	var err error
	if t.at, err = url.Parse(t.URL); err != nil || t.at.Host == "" || t.at.Scheme != "https" && t.at.Scheme != "http" || t.at.Fragment != "" || t.at.User != nil {
		return errors.New("mcp: Transport.URL is not an absolute https URL without user and fragment")
	}
	local := origin.Loopback(t.at.Hostname())
	if t.at.Scheme == "http" && !local && !t.AllowInsecureHTTP {
		return errors.New("mcp: Transport.URL is plain http: use https, or set Transport.AllowInsecureHTTP for a network that nobody else can read")
	}
	t.guarded = t.HTTPClient
	if t.guarded == nil {
		t.guarded = (&login.Guard{Loopback: local, Networks: t.Networks}).Client()
	}
	if t.identity = t.Identity; t.identity == nil {
		t.identity = new(login.Identity)
	}
	t.turn = make(chan struct{}, 1)
	t.providers.New, t.providers.Max = t.newProvider, 20
	t.source = &authtrip.Source{Refresher: refresher{t}, Store: t.Store, OnEvent: t.OnEvent}
	if t.Store != nil {
		if t.source.Key = t.Key; t.Key == "" {
			t.source.Key = t.URL
		}
	}
	t.inner = &authtrip.Transport{
		Source: t.source, Base: noting{t.base()}, Origins: []string{origin.Of(t.at).String()}, AllowInsecureHTTP: t.AllowInsecureHTTP,
	}
	return nil
}

// Source returns the session, to see its status, to watch it, or to end it with
// [authtrip.Source.Forget]. It is nil if URL cannot be used.
func (t *Transport) Source() *authtrip.Source {
	if t.prepare() != nil {
		return nil
	}
	return t.source
}

// Close ends the Transport, and logins that are under way. The session stays in its
// Store. It blocks as [authtrip.Source.Close] does.
func (t *Transport) Close() error {
	if t.prepare() != nil {
		return nil
	}
	if t.HTTPClient == nil {
		defer t.guarded.CloseIdleConnections()
	}
	t.logins.close()
	return t.source.Close()
}

// replayable returns req with a body that can be sent again, where that is possible.
func replayable(req *http.Request) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil || req.ContentLength <= 0 || req.ContentLength > maxKept {
		return req, nil
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxKept+1))
	closeBody(req)
	if err != nil {
		return nil, fmt.Errorf("mcp: the request's body: %w", err)
	}
	own := req.WithContext(req.Context())
	own.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(body))), nil }
	own.Body, _ = own.GetBody()
	return own, nil
}

// again returns req with its body from the start.
func again(req *http.Request) (*http.Request, error) {
	next := req.WithContext(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return next, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("mcp: the request's body cannot be sent twice")
	}
	var err error
	next.Body, err = req.GetBody()
	return next, err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
