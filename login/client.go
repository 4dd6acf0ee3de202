// Package login logs users in with OAuth 2.0 and OpenID Connect. It gets from an issuer's
// URL to an http.Client in six lines; package authtrip then refreshes the token.
//
//	provider, err := login.Discover(ctx, "https://issuer.example")
//	client := &login.Client{Provider: provider, ID: "my-cli"}
//	session, err := (&login.Loopback{Client: client}).Login(ctx)
//	src := client.Source()
//	err = src.SetToken(ctx, session.Token)
//	api := &http.Client{Transport: &authtrip.Transport{Source: src}}
//
// # Logging a user in
//
// [Client.AuthCodeURL] makes the URL to send the user to, and a [Transaction], which is kept
// until the user is back. [Client.Exchange] takes the Transaction and the whole redirect
// response, verifies it, and redeems the code last. Most programs call neither by
// hand:
//
//   - A web application mounts [Handlers], which keep the Transaction in [Transactions].
//   - A command-line program uses [Loopback].
//   - A program without a browser uses [Client.DeviceAuth].
//
// PKCE with S256, state and, for OpenID Connect, a nonce are part of every
// login, and cannot be left out. An ID token is verified by go-oidc, and by what
// OpenID Connect Core 1.0, section 3.1.3.7, asks for beyond that.
//
// # Other tokens
//
// [Client.ClientCredentials], [Client.JWTBearer] and [Client.TokenExchange] are
// for programs that act without a user present. The password grant is not here
// (RFC 9700, section 2.4).
//
// # Errors
//
// A *[CheckError] means that something failed a check, and says which. An
// *[AuthorizationError] means that the server or the user denied the login. An
// *[EndpointError] and an *[authtrip.RefreshError] mean that a request failed. Any other
// error names what is configured wrongly. No text holds a token, a secret, a code, a state
// or the name of a user. On an error nothing is stored.
package login

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// A Client is a program that is registered with a [Provider].
//
// Provider and ID are required, and RedirectURL for logins by redirect. A Client
// is safe for concurrent use if its functions are, and must not be modified
// after first use.
type Client struct {
	// Provider is the server; required.
	Provider *Provider
	// ID is the client_id; required.
	ID string
	// Secret is the client's secret; "" for a public client, and for one that
	// has a Key or a certificate.
	Secret string
	// SecretFunc, if set, replaces Secret. It is called for each request, so a secret can
	// change while the program runs.
	SecretFunc func(context.Context) (string, error)
	// Key signs for private_key_jwt: an RSA, ECDSA or Ed25519 key, in memory or in a device.
	// KeyID names it to the server; "" if the server does not need it.
	Key   crypto.Signer
	KeyID string
	// KeyAlg is the algorithm of the signature. If "", it follows from the key,
	// and for RSA it is RS256 unless the server only takes PS256.
	KeyAlg string
	// AuthMethod is how the client authenticates itself: one of client_secret_basic,
	// client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth,
	// self_signed_tls_client_auth or none. If "", it is what the metadata offers
	// for what the client has. It is never probed. For the two with a
	// certificate, HTTPClient shows it: see [ClientCertificate].
	AuthMethod string
	// CertificateBoundTokens says that HTTPClient shows a certificate, and that the server
	// binds the tokens to it (RFC 8705, section 3). Set it for an AuthMethod without a
	// certificate. With the two others it is so in any case. Requests go to the endpoints
	// that the metadata has for such clients.
	CertificateBoundTokens bool
	// DPoP, if set, binds tokens to keys (RFC 9449), one for each login: an
	// example.com/authtrip/dpop.Keys. The session's record keeps the key, and the
	// authorization request names it. The code, the refresh token and user info requests go
	// with a proof. A token of another type is an error.
	DPoP authtrip.Binder
	// Profile, if set, enforces a security profile: [FAPI2]. If the metadata or this Client
	// lacks a part of it, every method that would send something returns an error.
	Profile Profile
	// AssertionFunc, if set, replaces Key: it returns the client's assertion (RFC 7523,
	// section 2.2), signed by a third party. Examples are a Kubernetes projected token and
	// the token of a cloud's workload identity. It is called for each request, and the
	// method is private_key_jwt.
	AssertionFunc func(context.Context) (string, error)
	// AssertionFormat is the client_assertion_type. If "", it is that of RFC 7523; a
	// SPIFFE JWT-SVID has one of its own.
	AssertionFormat string
	// AssertionAudience is the aud of a signed client authentication. If "", it
	// is the issuer; some servers want the URL of their token endpoint.
	AssertionAudience string
	// AssertionType is the typ of a signed client authentication. If "", it is
	// client-authentication+jwt; a server that does not know that one may want JWT.
	AssertionType string
	// RawBasic sends ID and Secret in the Basic header as they are, for servers
	// that do not decode them. RFC 6749, section 2.3.1 has them form-encoded.
	RawBasic bool
	// RedirectURL is where the user comes back to. It is sent exactly as it is here, and is
	// never derived from a request.
	RedirectURL string
	// StrippedPrefix is the beginning of the path that a proxy in front of this program
	// removes, such as /auth. It is needed because the path of a response is compared with
	// that of RedirectURL. It is not needed for what [http.StripPrefix] removes.
	StrippedPrefix string
	// Scopes are asked for by logins. If nil, it is openid. With openid among them an ID
	// token is required. Leave openid out for a server without OpenID Connect.
	Scopes []string
	// Resources are the APIs that tokens are for, each an absolute URI without
	// fragment (RFC 8707).
	Resources []string
	// PushRequests sends each authorization request directly to the server (RFC 9126)
	// instead of through the browser. If the metadata requires it, it is done in any case.
	PushRequests bool
	// SignRequests signs each authorization request with Key (RFC 9101), so that no
	// browser can change it. It is done in any case if the metadata requires it.
	SignRequests bool
	// SignedResponses asks for each authorization response as a JWT that the server has
	// signed (JARM, response_mode=jwt). Any other response is an error.
	SignedResponses bool
	// IDTokenAlgs are the algorithms that an ID token may be signed with. If nil, those of
	// the metadata. "none" and the symmetric ones are never accepted.
	IDTokenAlgs []string
	// ClockSkew is how far the clocks of this program and of the server may be apart. If 0,
	// it is a minute; negative means not at all.
	ClockSkew time.Duration
	// LoginTimeout is how long a user has between [Client.AuthCodeURL] and
	// [Client.Exchange]. If 0 or less, it is ten minutes.
	LoginTimeout time.Duration
	// HTTPClient sends the requests of this client. If nil, the Provider's does. Redirects
	// are never followed.
	HTTPClient *http.Client
}

// Format implements [fmt.Formatter]: of c it prints the ID alone.
func (c Client) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "login.Client{%q}", c.ID) }

// LogValue implements [slog.LogValuer]: of c it logs the ID alone.
func (c Client) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Source returns a Source for a session of this client. Pass the result of a login to
// [authtrip.Source.SetToken]. Store, Key and the other fields can be set before it is used.
// With a Store, the session is there when the program starts again.
func (c *Client) Source() *authtrip.Source { return &authtrip.Source{Refresher: c.RefreshToken()} }

// UserInfoSource returns a source of user info for the user of src's token, verified
// against its ID token. Its fields can be set before it is used. The endpoint is looked
// up in the metadata when it is needed. If that fails, the error is one of
// [Provider.Metadata], or wraps [errors.ErrUnsupported].
func (c *Client) UserInfoSource(src oauth2.TokenSource) *authtrip.UserInfoSource {
	u := &authtrip.UserInfoSource{
		Source:  src,
		FindURL: c.userInfoURL,
	}
	if c.Provider == nil {
		return u // and FindURL says so
	}
	u.VerifyJWT, u.AllowInsecureHTTP = c.verifyUserInfo, c.Provider.AllowInsecureHTTP
	if c.Provider.TenantIssuer == "" { // else it is that of the ID token
		u.Issuer = c.Provider.Issuer
	}
	if h := c.httpClient(); h != nil {
		u.Base = h.Transport
	}
	return u
}

func (c *Client) userInfoURL(ctx context.Context) (string, error) {
	m, err := c.metadata(ctx)
	if err != nil {
		return "", err
	}
	endpoint, err := c.Provider.endpoint(m, endpointUserInfo, c.certificate())
	if err != nil {
		return "", err
	}
	return endpoint.String(), nil
}

// metadata returns the provider's, after a look at what every request needs.
func (c *Client) metadata(ctx context.Context) (*Metadata, error) {
	if c.ID == "" {
		return nil, errors.New("login: Client.ID is empty")
	}
	if err := c.Provider.check(); err != nil {
		return nil, err
	}
	m, err := c.Provider.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	return m, c.checkProfile(m)
}

func (c *Client) httpClient() *http.Client {
	if c.HTTPClient != nil {
		return c.HTTPClient
	}
	return c.Provider.HTTPClient
}

// scopes are those of a request: its own or the client's, and what it adds.
func (c *Client) scopes(req *AuthRequest) []string {
	scopes := []string{scopeOpenID}
	switch {
	case req != nil && req.Scopes != nil:
		scopes = slices.Clone(req.Scopes)
	case c.Scopes != nil:
		scopes = slices.Clone(c.Scopes)
	}
	if req == nil {
		return scopes
	}
	return union(scopes, req.AddScopes)
}

// union adds to scopes what is not there.
func union(scopes, more []string) []string {
	for _, scope := range more {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// checkScopes says what would go wrong before anybody is sent away.
func checkScopes(m *Metadata, scopes []string) error {
	if slices.Contains(scopes, scopeOpenID) && m.JWKSURI == "" {
		return errors.New("login: Client.Scopes: openid is asked for (as it is if Scopes is nil), and the provider has no jwks_uri: without ID tokens, set Scopes to those of the API")
	}
	return nil
}

// resources are those of a request, or the client's.
func (c *Client) resources(req *AuthRequest) []string {
	if req != nil && req.Resources != nil {
		return slices.Clone(req.Resources)
	}
	return c.Resources
}

const scopeOpenID = "openid"

// blank prints what holds a secret or names a user.
func blank(s fmt.State, name string) { _, _ = io.WriteString(s, name+"{…}") }

func (c *Client) skew() time.Duration {
	switch {
	case c.ClockSkew < 0:
		return 0
	case c.ClockSkew == 0:
		return time.Minute
	}
	return c.ClockSkew
}

func (c *Client) loginTimeout() time.Duration {
	if c.LoginTimeout <= 0 {
		return 10 * time.Minute
	}
	return c.LoginTimeout
}
