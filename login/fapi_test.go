package login_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

func TestFAPI2RefusesToStartWhereAPartIsMissing(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	whole := func() (*login.Metadata, *login.Client) {
		m := &login.Metadata{
			Issuer: "https://as.example", AuthorizationEndpoint: "https://as.example/authorize", TokenEndpoint: "https://as.example/token",
			PushedAuthorizationRequestEndpoint: "https://as.example/par", CodeChallengeMethods: []string{"S256"},
			AuthorizationResponseIssParameterSupported: true, TokenEndpointAuthMethods: []string{"private_key_jwt"},
			DPoPSigningAlgs: []string{"ES256"}, CertificateBoundTokens: true,
		}
		c := &login.Client{
			ID: "client", Key: ec, RedirectURL: "https://app.example/callback", Scopes: []string{"accounts"},
			DPoP: noBinder{}, Profile: login.FAPI2,
		}
		return m, c
	}
	for want, breaks := range map[string]func(*login.Metadata, *login.Client){
		"pushed_authorization_request_endpoint": func(m *login.Metadata, _ *login.Client) { m.PushedAuthorizationRequestEndpoint = "" },
		"S256":                                  func(m *login.Metadata, _ *login.Client) { m.CodeChallengeMethods = nil },
		"authorization_response_iss_parameter":  func(m *login.Metadata, _ *login.Client) { m.AuthorizationResponseIssParameterSupported = false },
		"bound tokens":                          func(_ *login.Metadata, c *login.Client) { c.DPoP = nil },
		"dpop_signing_alg_values_supported":     func(m *login.Metadata, _ *login.Client) { m.DPoPSigningAlgs = nil },
		"tls_client_certificate_bound_access_token": func(m *login.Metadata, c *login.Client) {
			m.CertificateBoundTokens, c.DPoP, c.CertificateBoundTokens = false, nil, true
		},
		"Client.AuthMethod": func(_ *login.Metadata, c *login.Client) { c.Key = nil },
		"token_endpoint_auth_methods_supported": func(m *login.Metadata, c *login.Client) {
			m.TokenEndpointAuthMethods, c.AuthMethod = nil, "private_key_jwt"
		},
		"Client.KeyAlg":      func(_ *login.Metadata, c *login.Client) { c.KeyAlg = "RS256" },
		"none that is known": func(_ *login.Metadata, c *login.Client) { c.Profile = "another" },
		"no key here":        func(*login.Metadata, *login.Client) {}, // all is there, and it goes on
	} {
		m, c := whole()
		breaks(m, c)
		c.Provider = &login.Provider{Issuer: "https://as.example", Static: m}
		if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v", want, err)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	m, c := whole()
	c.Key, c.Provider = small, &login.Provider{Issuer: "https://as.example", Static: m}
	if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Client.Key: FAPI 2.0 needs an RSA key of 2048 bits") {
		t.Errorf("a small RSA key: %v", err)
	}
	m, c = whole()
	c.Key, c.Provider = key, &login.Provider{Issuer: "https://as.example", Static: m}
	if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "no key here") {
		t.Errorf("an RSA key: %v, want that it signs with PS256", err)
	}
}

// noBinder is asked for a key once everything else is in order.
type noBinder struct{ authtrip.Binder }

func (noBinder) NewKey(context.Context) (string, error) { return "", errNoKey }

var errNoKey = errorText("no key here")

type errorText string

func (e errorText) Error() string { return string(e) }

// A signed request had RS256 where the key is an RSA one, and an ID token with RS256 was
// taken: the profile's algorithms count for every JWT, whoever has signed it (section 5.4).
func TestFAPI2SignsAndVerifiesWithItsAlgorithmsAlone(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	o := newOP(t)
	o.metadata = func(m map[string]any) {
		m["code_challenge_methods_supported"] = []string{"S256"}
		m["authorization_response_iss_parameter_supported"] = true
		m["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"}
		m["dpop_signing_alg_values_supported"] = []string{"ES256"}
	}
	o.token = func(m map[string]any) { m["token_type"] = "DPoP" }
	o.handle["/par"] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusCreated, map[string]any{"request_uri": "urn:x"})
	}
	asked := func() url.Values {
		form, _ := o.last("/par")
		jws, err := jose.ParseSigned(form.Get("request"), []jose.SignatureAlgorithm{jose.PS256})
		if err != nil {
			t.Fatalf("the request is not signed with PS256: %v", err)
		}
		var claims map[string]any
		if err = json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
			t.Fatal(err)
		}
		q := url.Values{}
		for name, v := range claims {
			if s, ok := v.(string); ok {
				q.Set(name, s)
			}
		}
		return q
	}
	c := o.client()
	c.Secret, c.Key, c.Profile, c.SignRequests, c.DPoP = "", key, login.FAPI2, true, new(counted)
	for _, alg := range []jose.SignatureAlgorithm{jose.PS256, jose.RS256} {
		o.keys = []opKey{{"of " + string(alg), key, alg}}
		o.metadata, c.Provider = withAlgs(o.metadata), o.provider()
		_, tx, err := c.AuthCodeURL(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Exchange(t.Context(), tx, callback(o.consent(asked())))
		if alg == jose.RS256 {
			wantCheck(t, err, "id_token alg")
		} else if err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

func withAlgs(edit func(map[string]any)) func(map[string]any) {
	return func(m map[string]any) {
		edit(m)
		m["id_token_signing_alg_values_supported"] = []string{"RS256", "PS256"}
	}
}

// With a certificate, nobody looked at the algorithm of a signed request: it was RS256 where
// KeyAlg said so, and ES384 with a key of P-384. The profile has it for every JWT.
func TestFAPI2SignsNoRequestWithAnotherAlgorithm(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(*login.Client){
		"RS256": func(c *login.Client) { c.Key, c.KeyAlg = key, "RS256" },
		"P-384": func(c *login.Client) { c.Key = p384 },
	} {
		m := &login.Metadata{
			Issuer: "https://as.example", AuthorizationEndpoint: "https://as.example/authorize", TokenEndpoint: "https://as.example/token",
			PushedAuthorizationRequestEndpoint: "https://as.example/par", CodeChallengeMethods: []string{"S256"},
			AuthorizationResponseIssParameterSupported: true, TokenEndpointAuthMethods: []string{"tls_client_auth"}, CertificateBoundTokens: true,
		}
		c := &login.Client{
			ID: "client", RedirectURL: "https://app.example/callback", Scopes: []string{"accounts"}, AuthMethod: "tls_client_auth",
			CertificateBoundTokens: true, Profile: login.FAPI2, SignRequests: true,
			Provider: &login.Provider{Issuer: "https://as.example", Static: m},
		}
		set(c)
		reached := false
		c.HTTPClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { reached = true; return nil, errReached })}
		if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil || reached || !strings.Contains(err.Error(), "Client.KeyAlg") {
			t.Errorf("%s: %v, sent: %v, want an error of Client.KeyAlg", name, err, reached)
		}
	}
}
