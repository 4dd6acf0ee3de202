package login

import (
	"cmp"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// A Profile is a set of demands on a [Client] and its [Provider].
type Profile string

// FAPI2 is the FAPI 2.0 Security Profile, section 5.3.3 (and what it asks of a server in
// 5.3.2): requests are pushed (RFC 9126), the server takes S256 and says in its metadata
// that the response names it (RFC 9207), the client authenticates itself with
// private_key_jwt or a certificate, and tokens are bound by DPoP or a certificate.
// Signatures are PS256, ES256 or EdDSA, those of the server too, and RSA keys have 2048
// bits. If the metadata does not name a part, the server does not have it.
const FAPI2 Profile = "fapi2"

// fapiAlgs are those of the profile, section 5.4.
func fapiAlgs() []string { return []string{"PS256", "ES256", "EdDSA", "Ed25519"} }

// fapiKeyBits is the least size of an RSA key (section 5.4.1).
const fapiKeyBits = 2048

// algorithms returns those that a JWT of the server may be signed with, of those that it
// offers or the client names.
func (c *Client) algorithms(offered []string) []jose.SignatureAlgorithm {
	algs := algorithms(offered)
	if c.Profile != FAPI2 {
		return algs
	}
	return slices.DeleteFunc(algs, func(alg jose.SignatureAlgorithm) bool { return !slices.Contains(fapiAlgs(), string(alg)) })
}

// checkProfile says which part is missing.
func (c *Client) checkProfile(m *Metadata) error {
	switch c.Profile {
	case "":
		return nil
	case FAPI2:
	default:
		return fmt.Errorf("login: Client.Profile %q is none that is known", cut(string(c.Profile)))
	}
	server := func(lacks string) error {
		return errors.New("login: Client.Profile: FAPI 2.0 needs a provider whose metadata has " + lacks)
	}
	switch {
	case m.PushedAuthorizationRequestEndpoint == "":
		return server("a pushed_authorization_request_endpoint (RFC 9126)")
	case !slices.Contains(m.CodeChallengeMethods, "S256"):
		return server("S256 in code_challenge_methods_supported (RFC 7636)")
	case !m.AuthorizationResponseIssParameterSupported:
		return server("authorization_response_iss_parameter_supported (RFC 9207)")
	case c.DPoP == nil && !c.certificate():
		return errors.New("login: Client.Profile: FAPI 2.0 needs bound tokens: set DPoP, or CertificateBoundTokens and an HTTPClient with a certificate")
	case c.DPoP != nil && len(m.DPoPSigningAlgs) == 0:
		return server("dpop_signing_alg_values_supported (RFC 9449)")
	case c.DPoP == nil && !m.CertificateBoundTokens:
		return server("tls_client_certificate_bound_access_tokens (RFC 8705)")
	}
	return c.checkProfileAuth(m)
}

// checkProfileAuth looks at how the client authenticates itself, and with which signatures.
func (c *Client) checkProfileAuth(m *Metadata) error {
	a, err := c.auth(m)
	if err != nil {
		return err
	}
	switch a.method {
	case authTLS, authSelfSignedTLS, authPrivateKey:
	default:
		return errors.New("login: Client.AuthMethod: FAPI 2.0 needs private_key_jwt, tls_client_auth or self_signed_tls_client_auth")
	}
	if !slices.Contains(m.TokenEndpointAuthMethods, a.method) {
		return errors.New("login: Client.Profile: FAPI 2.0 needs a provider whose metadata has the client's AuthMethod in token_endpoint_auth_methods_supported")
	}
	if a.method == authPrivateKey && a.AssertionFunc == nil {
		alg, err := a.keyAlg()
		if err != nil {
			return err
		}
		if !slices.Contains(fapiAlgs(), string(alg)) {
			return errNotOfFAPI
		}
	}
	if public, ok := publicOf(a.Key).(*rsa.PublicKey); ok && public.N.BitLen() < fapiKeyBits {
		return errors.New("login: Client.Key: FAPI 2.0 needs an RSA key of 2048 bits")
	}
	return nil
}

var errNotOfFAPI = errors.New("login: Client.KeyAlg: FAPI 2.0 needs PS256, ES256 or EdDSA")

func publicOf(key crypto.Signer) crypto.PublicKey {
	if key == nil {
		return nil
	}
	return key.Public()
}

// fapiKeyAlg is the KeyAlg that is meant where none is set: of an RSA key PS256.
func (c *Client) fapiKeyAlg() string {
	if _, isRSA := c.Key.Public().(*rsa.PublicKey); isRSA && c.Profile == FAPI2 {
		return cmp.Or(c.KeyAlg, "PS256")
	}
	return c.KeyAlg
}
