package mcp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/origin"
	"example.com/authtrip/internal/wire"
)

// handler is what is remembered for the SDK.
type handler struct {
	mu    sync.Mutex
	fresh string // the token that a rejection led to
}

// prepareHandler is prepare for the SDK's calls.
func (t *Transport) prepareHandler() error {
	if t.DPoP != nil && !t.proofs.Load() {
		return errors.New("mcp: Transport.DPoP: the SDK's OAuthHandler alone sends bearer tokens: set its HTTPClient to one whose Transport is that of Transport.Proofs, or use the Transport as the RoundTripper")
	}
	return t.prepare()
}

// Proofs returns a RoundTripper for the SDK's HTTP client. It is needed if t is the SDK's
// handler and [Transport.DPoP] is set, as the SDK knows only the Bearer scheme. The
// RoundTripper sends a request of the SDK with the DPoP scheme and a proof, and once more
// if the server wants a nonce. If the server has redirected the request to another
// origin, it goes there without the token. All other requests are sent as they are.
func (t *Transport) Proofs() http.RoundTripper {
	t.proofs.Store(true)
	return proofs{t}
}

type proofs struct{ t *Transport }

// RoundTrip implements [http.RoundTripper].
func (p proofs) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := p.t.prepare(); err != nil {
		closeBody(req)
		return nil, err
	}
	at := origin.Of(p.t.at)
	scheme, _, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return p.t.base().RoundTrip(req)
	case origin.Of(req.URL) != at && origin.Hops(req, func(hop *http.Request) bool { return origin.Of(hop.URL) != at }):
		return p.t.base().RoundTrip(req)
	case origin.Of(req.URL) != at:
		// A client keeps the header on the way to another port, or to a subdomain. Rule 34
		return p.t.base().RoundTrip(withoutToken(req))
	}
	tok, err := p.t.current(req.Context())
	switch {
	case err != nil:
		closeBody(req)
		return nil, err
	case tok != nil && !strings.EqualFold(tok.TokenType, "DPoP"):
		return p.t.base().RoundTrip(req)
	}
	own := withoutToken(req) // a bound token never goes out as a bearer token. Rule 43
	if tok == nil {
		return p.t.base().RoundTrip(own)
	}
	return p.t.inner.RoundTrip(own)
}

func withoutToken(req *http.Request) *http.Request {
	own := req.Clone(req.Context())
	own.Header.Del("Authorization")
	return own
}

// TokenSource implements auth.OAuthHandler: it returns the current token, and nil if
// nobody has logged in.
func (t *Transport) TokenSource(ctx context.Context) (oauth2.TokenSource, error) {
	if err := t.prepareHandler(); err != nil {
		return nil, err
	}
	tok, err := t.current(ctx)
	switch {
	case tok == nil:
		return nil, err // no token, as the interface has it
	case t.DPoP == nil && strings.EqualFold(tok.TokenType, "DPoP"):
		return nil, errNoDPoP // the SDK would send it as a bearer token. Rule 43
	}
	return oauth2.StaticTokenSource(tok), nil
}

// Authorize implements auth.OAuthHandler: it refreshes a token that was rejected, and
// logs in if that does not help. It closes the response's body.
func (t *Transport) Authorize(ctx context.Context, req *http.Request, resp *http.Response) error {
	if err := t.prepareHandler(); err != nil {
		return err
	}
	if resp.Request != nil && origin.Of(resp.Request.URL) != origin.Of(t.at) {
		wire.Drain(resp.Body, drained)
		return errors.New("mcp: the answer is another server's: a redirect led there, and it does not say where to log in")
	}
	wants := wanted(resp)
	challenges := authtrip.Challenges(resp.Header)
	wire.Drain(resp.Body, drained)
	_, used, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if wants == nothing {
		return fmt.Errorf("mcp: the server answered with status %d, which no token changes", resp.StatusCode)
	}
	if wants == token && used != "" && t.oauth.first(used) {
		t.source.Invalidate(&oauth2.Token{AccessToken: used})
		tok, err := t.current(ctx)
		if err != nil {
			return err
		}
		if tok != nil && tok.AccessToken != used {
			t.oauth.remember(tok.AccessToken)
			return nil
		}
	}
	if t.Login == nil {
		return fmt.Errorf("mcp: Transport.Login is nil, and the server wants a token: %w", authtrip.ErrReauthRequired)
	}
	return t.authorize(ctx, wants, challenges, used, 0)
}

// first reports whether a rejected token may be replaced by a refresh: one that came from
// a refresh after a rejection is not refreshed again.
func (h *handler) first(used string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fresh != used
}

func (h *handler) remember(tok string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fresh = tok
}
