package login

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/authtrip/internal/wire"
)

// The client authentication methods of the registry of RFC 7591 and RFC 8705.
const (
	authBasic         = "client_secret_basic"
	authPost          = "client_secret_post"
	authSecretJWT     = "client_secret_jwt"
	authPrivateKey    = "private_key_jwt"
	authTLS           = "tls_client_auth"
	authSelfSignedTLS = "self_signed_tls_client_auth"
	authNone          = "none"
)

const (
	// assertionType is the typ (draft-ietf-oauth-rfc7523bis), assertionFormat the
	// client_assertion_type. Rule 60.
	assertionType   = "client-authentication+jwt"
	assertionFormat = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// assertionLife is how long a signed client authentication counts.
	assertionLife = time.Minute
)

// clientAuth is one method, chosen. Rule 17: there is never a second one in a
// request.
type clientAuth struct {
	*Client
	method string
	algs   []string // what the server says it verifies
}

// auth chooses the method: the configured one, else from the metadata what fits
// what the client has.
func (c *Client) auth(m *Metadata) (*clientAuth, error) {
	a := &clientAuth{Client: c, method: c.AuthMethod, algs: m.TokenEndpointAuthSigningAlgs}
	hasSecret := c.Secret != "" || c.SecretFunc != nil
	if a.method == "" {
		a.method = c.chooseMethod(m.TokenEndpointAuthMethods, hasSecret)
	}
	return a, a.check(m, hasSecret)
}

// check says what is missing for the method, before anything is sent.
func (a *clientAuth) check(m *Metadata, hasSecret bool) error {
	switch a.method {
	case authNone, authTLS, authSelfSignedTLS:
	case authBasic, authPost, authSecretJWT:
		if !hasSecret {
			return fmt.Errorf("login: Client.Secret is empty: %s needs it", a.method)
		}
		if a.method == authSecretJWT && a.SecretFunc == nil {
			return a.checkHMAC(a.Secret)
		}
	case authPrivateKey:
		if a.Key == nil && a.AssertionFunc == nil {
			return errors.New("login: Client.Key is nil, and Client.AssertionFunc too: private_key_jwt needs one of them")
		}
	case "":
		return noMethod(m.TokenEndpointAuthMethods, a.Key != nil, hasSecret)
	default:
		return fmt.Errorf("login: Client.AuthMethod %q is none that is known", cut(a.method))
	}
	return nil
}

// noMethod names both sides.
func noMethod(offered []string, hasKey, hasSecret bool) error {
	var names []string
	for _, method := range offered[:min(len(offered), 10)] {
		names = append(names, wire.Code(method))
	}
	has := "a Secret"
	switch {
	case hasKey && hasSecret:
		has = "a Key and a Secret"
	case hasKey:
		has = "a Key"
	}
	return fmt.Errorf("login: Client.AuthMethod: the provider takes %s, and the client has %s: give it what one of them needs, or set Client.AuthMethod if the list is wrong",
		strings.Join(names, ", "), has)
}

// hmacAlg is the algorithm of client_secret_jwt.
func (c *Client) hmacAlg() jose.SignatureAlgorithm {
	if c.KeyAlg == "" {
		return jose.HS256
	}
	return jose.SignatureAlgorithm(c.KeyAlg)
}

// checkHMAC holds a secret against RFC 7518, section 3.2.
func (c *Client) checkHMAC(secret string) error {
	least, ok := map[jose.SignatureAlgorithm]int{jose.HS256: 32, jose.HS384: 48, jose.HS512: 64}[c.hmacAlg()]
	switch {
	case !ok:
		return errors.New("login: Client.KeyAlg: client_secret_jwt signs with HS256, HS384 or HS512")
	case len(secret) < least:
		return fmt.Errorf("login: Client.Secret is too short for client_secret_jwt with %s: want %d bytes", c.hmacAlg(), least)
	}
	return nil
}

func (c *Client) chooseMethod(offered []string, hasSecret bool) string {
	var fit []string
	if c.AssertionFunc != nil {
		return authPrivateKey
	}
	if c.Key != nil {
		fit = append(fit, authPrivateKey)
	}
	if hasSecret {
		fit = append(fit, authBasic, authPost, authSecretJWT)
	}
	if fit == nil {
		// A client that has nothing cannot do more than say its name, and not
		// every server lists that.
		return authNone
	}
	if offered == nil {
		offered = []string{authBasic} // RFC 8414, section 2
	}
	for _, method := range fit {
		if slices.Contains(offered, method) {
			return method
		}
	}
	return ""
}

// certificate reports whether the client shows one, so that the endpoints for such
// clients are its own (RFC 8705, section 5).
func (c *Client) certificate() bool {
	return c.CertificateBoundTokens || c.AuthMethod == authTLS || c.AuthMethod == authSelfSignedTLS
}

// apply adds the client's authentication to a request.
func (a *clientAuth) apply(ctx context.Context, header http.Header, form url.Values) error {
	switch a.method {
	case authBasic, authPost:
		return a.applySecret(ctx, header, form)
	case authSecretJWT, authPrivateKey:
		assertion, err := a.assertion(ctx)
		if err != nil {
			return err
		}
		form.Set("client_id", a.ID)
		form.Set("client_assertion_type", cmp.Or(a.AssertionFormat, assertionFormat))
		form.Set("client_assertion", assertion)
	default:
		form.Set("client_id", a.ID)
	}
	return nil
}

func (a *clientAuth) applySecret(ctx context.Context, header http.Header, form url.Values) error {
	secret, err := a.secret(ctx)
	if err != nil {
		return err
	}
	if a.method == authPost {
		form.Set("client_id", a.ID)
		form.Set("client_secret", secret)
		return nil
	}
	id := a.ID
	if !a.RawBasic {
		// Rule 18.
		id, secret = url.QueryEscape(id), url.QueryEscape(secret)
	}
	(&http.Request{Header: header}).SetBasicAuth(id, secret)
	return nil
}

func (c *Client) secret(ctx context.Context) (string, error) {
	if c.SecretFunc == nil {
		return c.Secret, nil
	}
	secret, err := c.SecretFunc(ctx)
	if err != nil {
		return "", fmt.Errorf("login: Client.SecretFunc: %w", err)
	}
	if secret == "" {
		return "", errors.New("login: Client.SecretFunc returned no secret")
	}
	return secret, nil
}

// assertion says who the client is (RFC 7523, section 3), for one request.
func (a *clientAuth) assertion(ctx context.Context) (string, error) {
	if a.AssertionFunc == nil || a.method == authSecretJWT {
		return a.sign(ctx)
	}
	// Rule 61.
	assertion, err := a.AssertionFunc(ctx)
	if err != nil {
		return "", fmt.Errorf("login: Client.AssertionFunc: %w", err)
	}
	if assertion = strings.TrimSpace(assertion); assertion == "" {
		return "", errors.New("login: Client.AssertionFunc returned no assertion")
	}
	return assertion, nil
}

func (a *clientAuth) sign(ctx context.Context) (string, error) {
	key, err := a.signingKey(ctx)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType(jose.ContentType(cmp.Or(a.AssertionType, assertionType))))
	if err != nil {
		return "", fmt.Errorf("login: Client.Key or Client.KeyAlg does not fit: %w", err)
	}
	aud := a.AssertionAudience
	if aud == "" {
		aud = a.Provider.Issuer
	}
	now := time.Now()
	signed, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": a.ID,
		"sub": a.ID,
		"aud": aud,
		"jti": rand.Text(),
		"iat": now.Unix(),
		"exp": now.Add(assertionLife).Unix(),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("login: Client.Key cannot sign: %w", err)
	}
	return signed, nil
}

func (a *clientAuth) signingKey(ctx context.Context) (jose.SigningKey, error) {
	if a.method == authSecretJWT {
		secret, err := a.secret(ctx)
		if err == nil {
			err = a.checkHMAC(secret)
		}
		return jose.SigningKey{Algorithm: a.hmacAlg(), Key: []byte(secret)}, err
	}
	alg, err := a.keyAlg()
	if err != nil {
		return jose.SigningKey{}, err
	}
	return jose.SigningKey{
		Algorithm: alg,
		Key:       jose.JSONWebKey{Key: cryptosigner.Opaque(a.Key), KeyID: a.KeyID, Algorithm: string(alg)},
	}, nil
}

func (a *clientAuth) keyAlg() (jose.SignatureAlgorithm, error) {
	if alg := a.fapiKeyAlg(); alg != "" {
		return jose.SignatureAlgorithm(alg), nil
	}
	return keyAlg(a.Key.Public(), a.algs)
}

func keyAlg(public crypto.PublicKey, offered []string) (jose.SignatureAlgorithm, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if len(offered) > 0 && !slices.Contains(offered, string(jose.RS256)) && slices.Contains(offered, string(jose.PS256)) {
			return jose.PS256, nil
		}
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch public.Curve.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		case 521:
			return jose.ES512, nil
		}
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	}
	return "", fmt.Errorf("login: Client.Key of type %T is none that can sign", public)
}
