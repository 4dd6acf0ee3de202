package login

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	typeRequestObject = "oauth-authz-req+jwt"
	// requestLife is how long a signed request counts: until the browser has brought it.
	requestLife = 5 * time.Minute
)

// signRequest puts the parameters of an authorization request into a JWT (RFC 9101), and
// returns what is sent in their place.
func (c *Client) signRequest(m *Metadata, form url.Values, pushed bool) (url.Values, error) {
	if c.Key == nil {
		return nil, errors.New("login: Client.Key is nil: a signed request needs it")
	}
	alg, err := keyAlg(c.Key.Public(), m.RequestObjectSigningAlgs)
	if err != nil {
		return nil, err
	}
	if own := c.fapiKeyAlg(); own != "" {
		alg = jose.SignatureAlgorithm(own)
	}
	if c.Profile == FAPI2 && !slices.Contains(fapiAlgs(), string(alg)) {
		return nil, errNotOfFAPI
	}
	key := jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: opaque(c.Key), KeyID: c.KeyID, Algorithm: string(alg)}}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType(typeRequestObject))
	if err != nil {
		return nil, fmt.Errorf("login: Client.Key or Client.KeyAlg does not fit: %w", err)
	}
	now := time.Now()
	claims := map[string]any{
		"iss": c.ID, "aud": c.Provider.Issuer, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(requestLife).Unix(),
	}
	for name, values := range form {
		if _, taken := claims[name]; taken {
			return nil, fmt.Errorf("login: AuthRequest.Params has %.40q, which is a claim of a signed request", name)
		}
		claims[name] = requestClaim(name, values)
	}
	signed, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return nil, fmt.Errorf("login: Client.Key cannot sign: %w", err)
	}
	sent := url.Values{"client_id": {c.ID}, "request": {signed}}
	if !pushed {
		// OpenID Connect Core 1.0, section 6.1, has these two in the URL as well.
		for _, name := range []string{"response_type", "scope"} {
			if form.Has(name) {
				sent[name] = form[name]
			}
		}
	}
	return sent, nil
}

// requestClaim is a parameter as a claim: what is JSON in a URL is so in the JWT, too.
func requestClaim(name string, values []string) any {
	if len(values) != 1 {
		return values
	}
	switch name {
	case "max_age", "claims", "authorization_details":
		if raw := json.RawMessage(values[0]); json.Valid(raw) {
			return raw
		}
	}
	return values[0]
}
