package login_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

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
	m, c := whole()
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
