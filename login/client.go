// Package login gets the token that package authtrip then keeps alive: from an
// issuer URL to an *http.Client in six lines.
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
// [Client.AuthCodeURL] makes the URL to send the user to, and a [Transaction]:
// what is remembered until the user is back. [Client.Exchange] takes the
// Transaction and the whole redirect response, verifies all of it, and spends
// the code last. A web application mounts [Handlers], which do both and carry
// the Transaction in [Transactions]; a program on somebody's own machine uses
// [Loopback], and one without a browser [Client.DeviceAuth].
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
// A *[CheckError] says that something was refused and which check it failed; an
// *[AuthorizationError], that the server refused; an *[EndpointError] or an
// *[authtrip.RefreshError], that a request failed; anything else names what is
// configured wrongly. No text holds a token, a secret, a code, a state or the
// name of a user. On an error nothing is stored.
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
	// SecretFunc, if set, replaces Secret. It is asked for each request, so that
	// a secret can change while the program runs.
	SecretFunc func(context.Context) (string, error)
	// Key signs for private_key_jwt: an RSA, ECDSA or Ed25519 key, in memory or
	// in a device. KeyID names it to the server, "" where the server can do
	// without.
	Key   crypto.Signer
	KeyID string
	// KeyAlg is the algorithm of the signature. If "", it follows from the key,
	// and for RSA it is RS256 unless the server only takes PS256.
	KeyAlg string
	// AuthMethod is how the client authenticates itself: one of client_secret_basic,
	// client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth,
	// self_signed_tls_client_auth or none. If "", it is what the metadata offers
	// for what the client has. It is never probed. For the two with a
	// certificate, HTTPClient shows it.
	AuthMethod string
	// CertificateBoundTokens says that HTTPClient shows a certificate to which the
	// server binds the tokens (RFC 8705, section 3), whatever the AuthMethod is. It is
	// so in any case for the two methods with a certificate. Requests go to the
	// endpoints that the metadata has for such clients.
	CertificateBoundTokens bool
	// DPoP, if set, has the tokens bound to keys (RFC 9449), one for each login, which the
	// session's record keeps: an [example.com/authtrip/dpop.Keys]. The authorization
	// request names the key, the code, the refresh token and user info go with a proof,
	// and a token of another type is refused.
	DPoP authtrip.Binder
	// Profile, if set, demands what a security profile does: [FAPI2]. Where the metadata or
	// this Client lacks a part, every method that would send something is an error.
	Profile Profile
	// AssertionFunc, if set, replaces Key: it returns the client's assertion (RFC 7523,
	// section 2.2) that somebody else has signed, such as a Kubernetes projected token or
	// that of a cloud's workload identity. It is asked for each request, and the
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
	// RedirectURL is where the user comes back to. It is sent as it is written
	// here and never made from a request.
	RedirectURL string
	// StrippedPrefix is what a proxy in front of this program takes from the beginning
	// of the path of a request, such as /auth: the path to which a response came is
	// compared with that of RedirectURL. What [http.StripPrefix] takes is known.
	StrippedPrefix string
	// Scopes are asked for by logins. If nil, it is openid. With openid among
	// them an ID token is required, which a server that is none of OpenID Connect does
	// not have; without it there is none.
	Scopes []string
	// Resources are the APIs that tokens are for, each an absolute URI without
	// fragment (RFC 8707).
	Resources []string
	// PushRequests sends each authorization request from here to the server
	// (RFC 9126) instead of through the browser. It is done in any case if the
	// metadata requires it.
	PushRequests bool
	// SignRequests signs each authorization request with Key (RFC 9101), so that no
	// browser can change it. It is done in any case if the metadata requires it.
	SignRequests bool
	// SignedResponses has each authorization response come as a JWT that the server has
	// signed (JARM, response_mode=jwt), and takes no other.
	SignedResponses bool
	// IDTokenAlgs are the algorithms that an ID token may be signed with. If nil,
	// those of the metadata. "none" and the symmetric ones never are.
	IDTokenAlgs []string
	// ClockSkew is how far this machine's clock and the server's may be apart. If
	// 0, it is a minute; negative means not at all.
	ClockSkew time.Duration
	// LoginTimeout is how long a user has between [Client.AuthCodeURL] and
	// [Client.Exchange]. If 0 or less, it is ten minutes.
	LoginTimeout time.Duration
	// HTTPClient sends the requests of this client. If nil, the Provider's does.
	// Redirects are refused whatever it says.
	HTTPClient *http.Client
}

// Format implements [fmt.Formatter]: of c it prints the ID alone.
func (c Client) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "login.Client{%q}", c.ID) }

// LogValue implements [slog.LogValuer]: of c it logs the ID alone.
func (c Client) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Source returns a source of this client's sessions. Give it the result of a login by
// [authtrip.Source.SetToken]. Store, Key and the other fields can be set on it before it
// is used: with a Store, a program that starts again finds its session there and does
// not log in again.
func (c *Client) Source() *authtrip.Source { return &authtrip.Source{Refresher: c.RefreshToken()} }

// UserInfoSource returns what answers who the token of src speaks for, verified
// against its ID token. Its fields can be set before it is used. Where to ask is
// looked up in the metadata when it is needed; that error is one of
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
