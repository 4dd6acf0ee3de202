package authtrip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/origin"
	"example.com/authtrip/internal/wire"
)

// A Grant is a [Refresher] that asks a token endpoint (RFC 6749, section 3.2).
// [RefreshToken], [ClientCredentials], [JWTBearer] and [TokenExchange] make the
// usual ones; as a literal it makes any other.
//
// It is safe for concurrent use by multiple goroutines, if its functions are,
// and must not be modified after first use.
type Grant struct {
	// TokenURL is the token endpoint; required.
	TokenURL string
	// Type is the grant_type. If "", it is refresh_token.
	Type string
	// ClientID identifies the client; required unless Authenticate is set.
	ClientID string
	// ClientSecret is the client's secret; "" for a public client.
	ClientSecret string
	// AuthStyle says where the secret goes. If 0, into the header (Basic, with
	// both parts form-encoded: RFC 6749, section 2.3.1); a server's choice is
	// never probed, as a probe could spend a one-time token. Without a secret
	// client_id is a parameter.
	AuthStyle oauth2.AuthStyle
	// Authenticate, if set, replaces ClientID, ClientSecret and AuthStyle: it
	// adds any other client authentication to the request's header and form.
	Authenticate func(ctx context.Context, header http.Header, form url.Values) error
	// Scopes are requested if there are any. A refresh need not repeat them.
	Scopes []string
	// Params are further parameters of every request, such as resource or
	// audience.
	Params url.Values
	// Form, if set, adds what only this request has, such as an assertion. old
	// is the token that is to be replaced, nil if there is none.
	Form func(ctx context.Context, old *oauth2.Token, form url.Values) error
	// HTTPClient sends the requests. If nil, one with the [http.DefaultTransport]
	// does. Redirects are refused whatever it says, as they would carry the
	// client's credentials along. Its Transport must not be the [Transport] that
	// waits for this grant's token.
	HTTPClient *http.Client
	// AllowInsecureHTTP permits a TokenURL of plain http that is not on this
	// machine. Setting this sends the client's secret and the refresh token in
	// clear text.
	AllowInsecureHTTP bool
}

const (
	grantRefreshToken      = "refresh_token"
	grantClientCredentials = "client_credentials"
	grantJWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// RefreshToken returns the grant that spends a token's refresh token (RFC 6749,
// section 6). It is what a user who has logged in once stays logged in by. It
// asks for the scope that was granted, so conf.Scopes is not sent.
func RefreshToken(conf *oauth2.Config) *Grant {
	g := grantOf(conf, grantRefreshToken)
	g.Scopes = nil
	return g
}

// ClientCredentials returns the grant of a program that acts for itself (RFC
// 6749, section 4.4).
func ClientCredentials(conf *clientcredentials.Config) *Grant {
	return &Grant{
		TokenURL:     conf.TokenURL,
		Type:         grantClientCredentials,
		ClientID:     conf.ClientID,
		ClientSecret: conf.ClientSecret,
		AuthStyle:    conf.AuthStyle,
		Scopes:       conf.Scopes,
		Params:       conf.EndpointParams,
	}
}

// JWTBearer returns the grant that trades an assertion for a token (RFC 7523,
// section 2.1). assertion is called for each request and returns a new one.
func JWTBearer(conf *oauth2.Config, assertion func(context.Context) (string, error)) *Grant {
	g := grantOf(conf, grantJWTBearer)
	g.Form = func(ctx context.Context, _ *oauth2.Token, form url.Values) error {
		a, err := assertion(ctx)
		form.Set("assertion", a)
		return err
	}
	return g
}

// TokenExchange returns the grant that trades somebody's token for another one
// (RFC 8693). subject is called for each request and returns the token and its
// type, such as urn:ietf:params:oauth:token-type:access_token. audience, resource
// and the like go into the grant's Params.
func TokenExchange(conf *oauth2.Config, subject func(context.Context) (token, tokenType string, err error)) *Grant {
	g := grantOf(conf, grantTokenExchange)
	g.Form = func(ctx context.Context, _ *oauth2.Token, form url.Values) error {
		token, tokenType, err := subject(ctx)
		form.Set("subject_token", token)
		form.Set("subject_token_type", tokenType)
		return err
	}
	return g
}

func grantOf(conf *oauth2.Config, grantType string) *Grant {
	return &Grant{
		TokenURL:     conf.Endpoint.TokenURL,
		Type:         grantType,
		ClientID:     conf.ClientID,
		ClientSecret: conf.ClientSecret,
		AuthStyle:    conf.Endpoint.AuthStyle,
		Scopes:       conf.Scopes,
	}
}

// FromTokenSource returns a [Refresher] that calls ts.Token. ts should make a
// new token at each call: a source that hands out one that it keeps makes a
// refused token come back.
//
// A call that outlives its context is left to itself, as ts cannot be told.
func FromTokenSource(ts oauth2.TokenSource) Refresher {
	return fromTokenSource{ts}
}

type fromTokenSource struct{ source oauth2.TokenSource }

func (f fromTokenSource) Refresh(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) {
	if f.source == nil {
		return nil, errors.New("authtrip: FromTokenSource: the TokenSource is nil")
	}
	return flight.Await(ctx, f.source.Token)
}

// Repeatable implements [Repeatable]: nothing of the old token is sent.
func (f fromTokenSource) Repeatable() bool { return true }

// Repeatable reports whether the grant can be asked again at no loss: any but that of
// a refresh token.
func (g *Grant) Repeatable() bool { return g.grantType() != grantRefreshToken }

// Refresh implements [Refresher]: it sends one token request and returns what
// came. A request that certainly did not reach the server is sent again, up to
// twice; no other is.
//
// It blocks until the answer is read or ctx ends. Its errors are *[RefreshError]
// for everything that the server or the network did, and plain errors that name
// the field for what is configured wrongly.
func (g *Grant) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	endpoint, err := g.endpoint()
	if err != nil {
		return nil, err
	}
	form, header, err := g.request(ctx, old)
	if err != nil {
		return nil, err
	}
	var sent sentTrace
	ctx = httptrace.WithClientTrace(ctx, sent.trace())
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, endpoint.String(), []byte(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("authtrip: Grant.TokenURL cannot be requested: %w", bare(err))
	}
	req.Header = header
	client := identityClient(g.HTTPClient, func(ctx context.Context, _ *http.Response, err error) (bool, error) {
		return err != nil && ctx.Err() == nil && sent.never(err), nil
	})
	resp, err := client.Do(req)
	if err != nil {
		return nil, &RefreshError{
			Err:       fmt.Errorf("token endpoint %s gave no answer: %w", endpoint.Host, bare(err)),
			ambiguous: !sent.never(err),
		}
	}
	defer func() { _ = resp.Body.Close() }()
	return readToken(resp, endpoint.Host)
}

// endpoint checks what is configured; the errors name the field.
func (g *Grant) endpoint() (*url.URL, error) {
	if g.ClientID == "" && g.Authenticate == nil {
		return nil, errors.New("authtrip: Grant.ClientID is empty")
	}
	return identityURL("Grant.TokenURL", g.TokenURL, g.AllowInsecureHTTP)
}

// identityURL parses the URL of an endpoint that gets credentials. Rule 19.
func identityURL(field, raw string, allowInsecure bool) (*url.URL, error) {
	if raw == "" {
		return nil, fmt.Errorf("authtrip: %s is empty", field)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("authtrip: %s is not an absolute https URL", field)
	}
	if u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("authtrip: %s must have no user and no fragment", field)
	}
	if u.Scheme == "http" && !allowInsecure && !origin.Loopback(u.Hostname()) {
		return nil, fmt.Errorf("authtrip: %s is plain http: use https, or set AllowInsecureHTTP for a network that nobody else can read", field)
	}
	return u, nil
}

// request returns the form and the header of one token request.
func (g *Grant) request(ctx context.Context, old *oauth2.Token) (url.Values, http.Header, error) {
	form := make(url.Values, len(g.Params)+4)
	maps.Copy(form, g.Params)
	form.Set("grant_type", g.grantType())
	if len(g.Scopes) > 0 {
		form.Set("scope", strings.Join(g.Scopes, " "))
	}
	if g.grantType() == grantRefreshToken {
		switch {
		case old == nil:
			return nil, nil, &RefreshError{Err: ErrNoSession}
		case old.RefreshToken == "":
			return nil, nil, &RefreshError{Err: fmt.Errorf("%w: the login gave no refresh token", ErrSessionEnded)}
		}
		form.Set("refresh_token", old.RefreshToken)
	}
	header := http.Header{
		"Accept":       {"application/json"},
		"Content-Type": {"application/x-www-form-urlencoded"},
		// A cache between here and the server must neither answer nor keep.
		"Cache-Control": {"no-store"},
	}
	if g.Form != nil {
		if err := g.Form(ctx, old, form); err != nil {
			return nil, nil, fmt.Errorf("authtrip: Grant.Form: %w", err)
		}
	}
	return form, header, g.authenticate(ctx, header, form)
}

func (g *Grant) grantType() string {
	if g.Type == "" {
		return grantRefreshToken
	}
	return g.Type
}

// authenticate adds the client's credentials, by one method only. Rules 17, 18.
func (g *Grant) authenticate(ctx context.Context, header http.Header, form url.Values) error {
	switch {
	case g.Authenticate != nil:
		if err := g.Authenticate(ctx, header, form); err != nil {
			return fmt.Errorf("authtrip: Grant.Authenticate: %w", err)
		}
	case g.ClientSecret == "":
		form.Set("client_id", g.ClientID)
	case g.AuthStyle == oauth2.AuthStyleInParams:
		form.Set("client_id", g.ClientID)
		form.Set("client_secret", g.ClientSecret)
	default:
		basic := &http.Request{Header: header}
		basic.SetBasicAuth(url.QueryEscape(g.ClientID), url.QueryEscape(g.ClientSecret))
	}
	return nil
}

// readToken turns the answer into a token, or says what became of the request
// (rules.md, section 4.2).
func readToken(resp *http.Response, host string) (*oauth2.Token, error) {
	now := time.Now()
	fail := &RefreshError{StatusCode: resp.StatusCode, RetryAfter: wire.RetryAfter(resp.Header, now)}
	body, err := wire.ReadAll(resp.Body)
	code, description := wire.Error(body)
	switch {
	case resp.StatusCode >= 500:
		fail.Code, fail.Description = code, description
		fail.ambiguous = true
		fail.Err = fmt.Errorf("token endpoint %s failed", host)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		fail.Err = fmt.Errorf("token endpoint %s redirects, which is never followed with credentials: set TokenURL to where it points", host)
	case resp.StatusCode >= 400, code != "" && err == nil:
		// Some servers send their errors with status 200.
		fail.Code, fail.Description = code, description
		fail.Err = refusal(code, host)
	case resp.StatusCode != http.StatusOK:
		fail.ambiguous = true
		fail.Err = fmt.Errorf("token endpoint %s: want status 200", host)
	case err != nil:
		fail.ambiguous = true
		fail.Err = fmt.Errorf("token endpoint %s: reading its answer: %w", host, err)
	default:
		tok, err := wire.Token(body, resp.Header.Get("Content-Type"), now)
		if err == nil {
			return tok, nil
		}
		fail.ambiguous = true
		fail.Err = fmt.Errorf("token endpoint %s: %w", host, err)
	}
	return nil, fail
}

// refusal says what to do about an error code (RFC 6749, section 5.2).
func refusal(code, host string) error {
	switch code {
	case "invalid_grant":
		return fmt.Errorf("%w: token endpoint %s refused the grant", ErrSessionEnded, host)
	case "invalid_client", "unauthorized_client":
		return fmt.Errorf("token endpoint %s refused the client: check ClientID, ClientSecret and AuthStyle", host)
	case "invalid_scope":
		return fmt.Errorf("token endpoint %s refused the scope: check Scopes", host)
	case "unsupported_grant_type":
		return fmt.Errorf("token endpoint %s does not know this grant: check Type", host)
	}
	return fmt.Errorf("token endpoint %s refused the request", host)
}

// identityClient makes the client that talks to an identity endpoint: c, with
// redirects refused and the retries that check allows, without a log.
func identityClient(c *http.Client, check retryablehttp.CheckRetry) *retryablehttp.Client {
	quiet := new(http.Client)
	if c != nil {
		*quiet = *c
	}
	quiet.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	base := quiet.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	// Behind a func, as retryablehttp closes the idle connections of a client
	// whose request has failed: here they belong to the whole program.
	quiet.Transport = roundTripFunc(base.RoundTrip)
	return &retryablehttp.Client{
		HTTPClient:   quiet,
		RetryWaitMin: 50 * time.Millisecond,
		RetryWaitMax: 500 * time.Millisecond,
		RetryMax:     2,
		CheckRetry:   check,
		Backoff:      retryablehttp.DefaultBackoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// sentTrace tells a request that certainly never left from one that may have.
type sentTrace struct {
	dialled, connected atomic.Bool
}

func (s *sentTrace) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { s.dialled.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { s.connected.Store(true) },
	}
}

// never reports whether the request whose error this is was certainly not sent.
// A transport that does not trace may have sent everything that is no failure
// to connect.
func (s *sentTrace) never(err error) bool {
	if s.connected.Load() {
		return false
	}
	if s.dialled.Load() {
		return true
	}
	var op *net.OpError
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns) ||
		errors.As(err, &cert) || errors.As(err, &unknown)
}

// bare returns the error without the URL that net/http puts around it: the
// query of a URL may hold a secret.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
