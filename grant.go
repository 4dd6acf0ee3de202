package authtrip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip/internal/flight"
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
	// AuthStyle says where the secret goes. If 0, it goes into the header (Basic, with both
	// parts form-encoded: RFC 6749, section 2.3.1). What the server wants is never probed,
	// as a probe could use up a refresh token. Without a secret, client_id is a parameter.
	AuthStyle oauth2.AuthStyle
	// Authenticate, if set, replaces ClientID, ClientSecret and AuthStyle: it
	// adds any other client authentication to the request's header and form.
	Authenticate func(ctx context.Context, header http.Header, form url.Values) error
	// Scopes are requested if there are any. A refresh need not repeat them.
	Scopes []string
	// Params are further parameters of every request, such as resource or
	// audience.
	Params url.Values
	// Form, if set, adds parameters that each request has anew, such as an assertion. old is
	// the token to be replaced, nil if there is none.
	Form func(ctx context.Context, old *oauth2.Token, form url.Values) error
	// DPoP, if set, binds the tokens to a key (RFC 9449). Each request has a proof, and an
	// answer with another kind of token is an error. The key is that of old, or a new one
	// if old has none. Refresh returns it in the token's Extra ([DPoPKey]).
	DPoP Binder
	// HTTPClient sends the requests. If nil, all such grants of the process share one
	// client, with the settings that [http.DefaultTransport] has at the first request,
	// and up to 100 idle connections to a host. Redirects are never followed, as they
	// would carry the client's credentials along. Its Transport must not be the
	// [Transport] that waits for this grant's token.
	//
	// A [net/http/httptrace] in the context of an API request does not see the token
	// request. To trace it, wrap the Transport of this client.
	HTTPClient *http.Client
	// AllowInsecureHTTP permits a TokenURL of plain http whose host is neither localhost
	// nor a loopback address. Setting this sends the client's secret and the refresh
	// token in clear text.
	AllowInsecureHTTP bool
}

// Format implements [fmt.Formatter]. It prints the grant type and the endpoint only.
func (g Grant) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "authtrip.Grant{%s %q}", g.grantType(), g.TokenURL)
}

// LogValue implements [slog.LogValuer] as Format does.
func (g Grant) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(g)) }

const (
	grantRefreshToken      = "refresh_token"
	grantClientCredentials = "client_credentials"
	grantJWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// RefreshToken returns the grant that sends a token's refresh token (RFC 6749, section
// 6). It keeps a user logged in. It asks for the scope that was granted, so conf.Scopes
// is not sent.
func RefreshToken(conf *oauth2.Config) *Grant {
	g := grantOf(conf, grantRefreshToken)
	g.Scopes = nil
	return g
}

// ClientCredentials returns the grant of a program that acts for itself (RFC
// 6749, section 4.4).
//
// conf.EndpointParams may have a grant_type of its own, as some servers want.
func ClientCredentials(conf *clientcredentials.Config) *Grant {
	g := &Grant{
		TokenURL:     conf.TokenURL,
		Type:         grantClientCredentials,
		ClientID:     conf.ClientID,
		ClientSecret: conf.ClientSecret,
		AuthStyle:    conf.AuthStyle,
		Scopes:       conf.Scopes,
		Params:       maps.Clone(conf.EndpointParams),
	}
	if own := g.Params["grant_type"]; len(own) > 0 {
		g.Type = own[0]
		delete(g.Params, "grant_type")
	}
	return g
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

// TokenExchange returns the grant that trades one party's token for another one (RFC
// 8693). subject is called for each request and returns the token and its type, such as
// urn:ietf:params:oauth:token-type:access_token. Put audience, resource and the like
// into the grant's Params.
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

// FromTokenSource returns a [Refresher] that calls ts.Token, for a third-party source. ts
// must make a new token at each call: do not pass a source that caches, as it would
// return the rejected token again.
//
// The result is [Repeatable], as ts gets no refresh token from it. ts.Token has no
// context: a call that takes longer than RefreshTimeout goes on, and its result is
// ignored.
func FromTokenSource(ts oauth2.TokenSource) Refresher { return fromTokenSource{ts} }

type fromTokenSource struct{ ts oauth2.TokenSource }

// Refresh implements [Refresher].
func (f fromTokenSource) Refresh(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) {
	if f.ts == nil {
		return nil, errors.New("authtrip: FromTokenSource: the TokenSource is nil")
	}
	return flight.Await(ctx, f.ts.Token)
}

// Repeatable says that ts can be asked again at no loss.
func (fromTokenSource) Repeatable() bool { return true }

// Repeatable reports whether the grant can be asked again without loss. Every grant can
// except refresh_token: a request whose answer was lost may have used up the refresh
// token.
func (g *Grant) Repeatable() bool { return g.grantType() != grantRefreshToken }

// Refresh implements [Refresher]: it sends one token request and returns the new token.
// A request that certainly did not reach the server is sent again, up to twice. No other
// request is.
//
// It blocks until the answer is read or ctx ends. An error is a *[RefreshError] if the
// server or the network caused it. Otherwise it names the field that is configured
// wrongly.
func (g *Grant) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	endpoint, err := g.endpoint()
	switch {
	case err != nil:
		return nil, err
	case g.Repeatable():
	case old == nil:
		return nil, ErrNoSession
	case old.RefreshToken == "":
		return nil, &RefreshError{Err: fmt.Errorf("%w: the login gave no refresh token", ErrSessionEnded), unsent: true}
	}
	if g.DPoP == nil && old != nil && extra(old, DPoPKey) != "" {
		// Without a proof a server can end the session, or make bearer tokens of it. Rule 43.
		return nil, errors.New("authtrip: Grant.DPoP is nil, and the session is bound to a key: set it as where the session began")
	}
	if g.DPoP == nil {
		tok, _, err := g.send(ctx, endpoint, old, nil)
		return tok, err
	}
	return g.refreshBound(ctx, endpoint, old)
}

// send sends one token request. again says that the server wants another proof.
func (g *Grant) send(ctx context.Context, endpoint *url.URL, old *oauth2.Token, prover Prover) (tok *oauth2.Token, again bool, err error) {
	form, header, err := g.request(ctx, old)
	if err != nil {
		return nil, false, err
	}
	var sent sentTrace
	ctx = httptrace.WithClientTrace(untraced{ctx}, sent.trace())
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, endpoint.String(), []byte(form.Encode())) //nolint:contextcheck // untraced has all of the caller's but a trace
	if err != nil {
		return nil, false, fmt.Errorf("authtrip: Grant.TokenURL cannot be requested: %w", bare(err))
	}
	req.Header = header
	if prover != nil {
		if err = prover.Prove(req.Request); err != nil {
			return nil, false, &RefreshError{Err: fmt.Errorf("authtrip: Grant.DPoP made no proof: %w", err)}
		}
	}
	client := identityClient(g.HTTPClient, func(ctx context.Context, _ *http.Response, err error) (bool, error) {
		return err != nil && ctx.Err() == nil && sent.never(err), nil
	})
	resp, err := client.Do(req)
	if err != nil {
		cause := bare(err)
		if own := context.Cause(ctx); own != nil && errors.Is(err, own) { //nolint:contextcheck // as above
			cause = own
		}
		return nil, false, &RefreshError{
			Err:       fmt.Errorf("token endpoint %s gave no answer: %w", endpoint.Host, cause),
			noAnswer:  true,
			ambiguous: !sent.never(err),
		}
	}
	defer func() { _ = resp.Body.Close() }()
	tok, err = readToken(resp, endpoint.Host)
	if prover == nil {
		return tok, false, err
	}
	code := ""
	if re, ok := errors.AsType[*RefreshError](err); ok {
		code = re.Code
	}
	return tok, prover.Answered(req.Request, resp, code) && err != nil, err
}

// endpoint checks what is configured; the errors name the field.
func (g *Grant) endpoint() (*url.URL, error) {
	if g.ClientID == "" && g.Authenticate == nil {
		return nil, errors.New("authtrip: Grant.ClientID is empty")
	}
	for name, field := range map[string]string{"grant_type": "Type", "scope": "Scopes", "refresh_token": "a refresh"} {
		if _, ok := g.Params[name]; ok && (name != "scope" || len(g.Scopes) > 0) && (name != "refresh_token" || !g.Repeatable()) {
			return nil, fmt.Errorf("authtrip: Grant.Params has %s, which %s sets: one of them would be lost", name, field)
		}
	}
	return identityURL("Grant.TokenURL", g.TokenURL, g.AllowInsecureHTTP)
}

// request returns the form and the header of one token request.
func (g *Grant) request(ctx context.Context, old *oauth2.Token) (url.Values, http.Header, error) {
	form := make(url.Values, len(g.Params)+4)
	for name, values := range g.Params {
		form[name] = slices.Clone(values) // Form and Authenticate may append to it
	}
	form.Set("grant_type", g.grantType())
	if len(g.Scopes) > 0 {
		form.Set("scope", strings.Join(g.Scopes, " "))
	}
	if g.grantType() == grantRefreshToken {
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

func (g Grant) grantType() string {
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
	contentType := resp.Header.Get("Content-Type")
	body, err := wire.ReadAll(resp.Body)
	code, description := wire.Failure(body, contentType)
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		fail.Err = fmt.Errorf("token endpoint %s redirects, which is never followed with credentials: set TokenURL to where it points", host)
		return nil, fail
	case resp.StatusCode >= 400, code != "" && err == nil:
		// Some servers send their errors with status 200.
		fail.Code, fail.Description = code, description
		fail.ambiguous = mayBeProcessed(resp.StatusCode, code, resp.Header)
		fail.Err = rejection(resp.StatusCode, code, description, host)
		return nil, fail
	case err != nil:
		fail.Err = fmt.Errorf("token endpoint %s: reading its answer: %w", host, bare(err))
	default:
		tok, unreadable := wire.Token(body, contentType, now)
		if unreadable == nil {
			return tok, nil
		}
		fail.Err = fmt.Errorf("token endpoint %s: %w", host, unreadable)
	}
	fail.ambiguous = true
	return nil, fail
}

// mayBeProcessed reports whether a request for which the server sent this error may
// have used up the refresh token (rules.md, section 4.2). A server that says no has
// kept it; one that is overloaded has not looked; of any other failure nobody knows.
func mayBeProcessed(status int, code string, header http.Header) bool {
	if status == http.StatusServiceUnavailable {
		return code != "temporarily_unavailable" && header.Get("Retry-After") == ""
	}
	return status >= 500
}

// rejection says what to do about an error response.
func rejection(status int, code, description, host string) error {
	switch {
	case status >= 500:
		return fmt.Errorf("token endpoint %s failed", host)
	case endsSession(code, description):
		code = "invalid_grant"
	}
	return refusal(code, host)
}

// endsSession reports whether a provider says invalid_grant in words of its own. A
// row is here only if the provider is known to send it for a refresh token that is
// unknown, expired, revoked or used, and for nothing that another request could cure.
func endsSession(code, description string) bool {
	for _, row := range []struct{ code, description string }{
		// GitHub, with status 200: "Troubleshooting OAuth app access token request errors", and
		// "Refreshing user access tokens" in its docs.
		{"bad_refresh_token", ""},
		// Slack, with status 200: the errors of tooling.tokens.rotate and oauth.v2.access.
		{"invalid_refresh_token", ""},
		// dex: server/refreshhandlers.go, getRefreshTokenFromStorage, calls both of these
		// invalid_request.
		{"invalid_request", "is invalid or has already been claimed by another client"},
		{"invalid_request", "refresh token expired."},
	} {
		if code == row.code && strings.Contains(strings.ToLower(description), row.description) {
			return true
		}
	}
	return false
}

// refusal says what to do about an error code (RFC 6749, section 5.2).
func refusal(code, host string) error {
	switch code {
	case "invalid_grant":
		return fmt.Errorf("%w: token endpoint %s rejected the grant", ErrSessionEnded, host)
	case "invalid_client", "unauthorized_client":
		return fmt.Errorf("token endpoint %s rejected the client: check ClientID, ClientSecret and AuthStyle", host)
	case "invalid_scope":
		return fmt.Errorf("token endpoint %s rejected the scope: check Scopes", host)
	case "use_dpop_nonce", "invalid_dpop_proof":
		return fmt.Errorf("token endpoint %s rejected the proof of possession: check Grant.DPoP", host)
	case "unsupported_grant_type":
		return fmt.Errorf("token endpoint %s does not know this grant: check Type", host)
	}
	return fmt.Errorf("token endpoint %s rejected the request", host)
}
