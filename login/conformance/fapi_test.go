package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
	"example.com/authtrip/login"
)

// TestFAPI2 is a client of the FAPI 2.0 Security Profile at a server that demands each part of
// it: the server refuses a request that has lost one, and the client a response that has.
func TestFAPI2(t *testing.T) {
	if !hasNode(t) {
		return
	}
	install(t, panvaDir)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlaces(t)
	registered := func(id string, key any, alg string) map[string]any {
		return map[string]any{
			"client_id": id, "application_type": "native", "redirect_uris": p.redirectURLs(), "response_types": []string{"code"},
			"grant_types":                []string{"authorization_code", "refresh_token"},
			"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": alg,
			"require_pushed_authorization_requests": true, "dpop_bound_access_tokens": true,
			"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: "mine", Use: "sig", Algorithm: alg}}},
		}
	}
	provider := startNode(t, panvaDir, "node", map[string]any{
		"fapi": true, "accessTokenTTL": 60, "app": p.app.URL,
		"clients": []map[string]any{registered("ec", ec.Public(), "ES256"), registered("rsa", rsaKey.Public(), "PS256")},
	})
	fapi := func(edit func(*login.Client)) *server {
		c := &login.Client{
			Provider: provider, ID: "ec", Key: ec, KeyID: "mine", DPoP: new(dpop.Keys),
			Profile: login.FAPI2, RedirectURL: redirectURL,
		}
		edit(c)
		return &server{
			client: c, places: p, name: "alice", password: "any", userInfo: true,
			request: &login.AuthRequest{Scopes: []string{"openid", "email", "offline_access"}, Prompt: "consent"},
		}
	}
	for name, edit := range map[string]func(*login.Client){
		"an elliptic key":    func(*login.Client) {},
		"an RSA key":         func(c *login.Client) { c.ID, c.Key = "rsa", rsaKey },
		"a signed request":   func(c *login.Client) { c.SignRequests = true },
		"a signed response":  func(c *login.Client) { c.SignedResponses = true },
		"Ed25519 for proofs": func(c *login.Client) { c.DPoP = &dpop.Keys{Alg: dpop.EdDSA} },
	} {
		s := fapi(edit)
		t.Run(name, func(t *testing.T) {
			t.Run("login", s.testLogin)
			t.Run("call and refresh", s.testBoundCall)
			t.Run("user info", s.testUserInfo)
			t.Run("handlers", s.testHandlers)
		})
	}
	t.Run("what is lost", func(t *testing.T) { testLostParts(t, fapi) })
}

// testBoundCall calls an API, which wants a nonce, and then refuses the first token: the request
// goes out with another one that is bound to the same key.
func (s *server) testBoundCall(t *testing.T) {
	session := s.signIn(t)
	var schemes, proofs []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		schemes, proofs = append(schemes, scheme), append(proofs, r.Header.Get("DPoP"))
		switch {
		case len(schemes) == 1: // the name of a scheme has no case (RFC 9110, section 11.1)
			w.Header().Set("DPoP-Nonce", "of-the-API")
			w.Header().Set("WWW-Authenticate", `dPOP error="use_dpop_nonce"`)
			w.WriteHeader(http.StatusUnauthorized)
		case token == session.Token.AccessToken:
			w.Header().Set("WWW-Authenticate", `DPoP error="invalid_token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer api.Close()
	src := s.client.Source()
	if err := src.SetToken(t.Context(), session.Token); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	resp, err := (&http.Client{Transport: &authtrip.Transport{Source: src}}).Get(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || strings.Join(schemes, " ") != "DPoP DPoP DPoP" || proofs[0] == "" || proofs[0] == proofs[1] || proofs[1] == proofs[2] {
		t.Errorf("status %d after requests with %q", resp.StatusCode, schemes)
	}
}

// testLostParts has requests lose a part on their way, one after the other.
func testLostParts(t *testing.T, fapi func(func(*login.Client)) *server) {
	lossy := func(path string, lose func(http.Header, url.Values)) func(*login.Client) {
		return func(c *login.Client) { c.HTTPClient = &http.Client{Transport: lossyTransport{path, lose}} }
	}
	for name, tt := range map[string]struct {
		edit func(*login.Client)
		code string // of the server
	}{
		"the client's assertion": {lossy("/request", func(_ http.Header, f url.Values) {
			f.Del("client_assertion")
			f.Del("client_assertion_type")
		}), "invalid_client"},
		"the code_challenge": {lossy("/request", func(_ http.Header, f url.Values) {
			f.Del("code_challenge")
			f.Del("code_challenge_method")
		}), "invalid_request"},
		"S256":         {lossy("/request", func(_ http.Header, f url.Values) { f.Set("code_challenge_method", "plain") }), "invalid_request"},
		"the verifier": {lossy("/token", func(_ http.Header, f url.Values) { f.Del("code_verifier") }), "invalid_grant"},
		"the proof":    {lossy("/token", func(h http.Header, _ url.Values) { h.Del("DPoP") }), "invalid_grant"},
		"the assertion of the code": {lossy("/token", func(_ http.Header, f url.Values) {
			f.Del("client_assertion")
			f.Del("client_assertion_type")
		}), "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			s := fapi(tt.edit)
			at, tx, err := s.client.AuthCodeURL(t.Context(), s.request)
			if err == nil {
				back, _ := s.browser(t).visit(at, redirectURL)
				_, err = s.client.Exchange(t.Context(), tx, back)
			}
			if got := codeOf(err); got != tt.code {
				t.Errorf("the server says %q, want %q: %v", got, tt.code, err)
			}
		})
	}
	t.Run("the push", func(t *testing.T) {
		s := fapi(func(c *login.Client) {
			// A client without the profile, whose copy of the metadata demands nothing.
			m, err := c.Provider.Metadata(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			static := *m
			static.RequirePushedAuthorizationRequests = false
			c.Provider, c.Profile = &login.Provider{Issuer: m.Issuer, Static: &static}, ""
		})
		at, tx, err := s.client.AuthCodeURL(t.Context(), s.request)
		if err != nil {
			t.Fatal(err)
		}
		back, _ := s.browser(t).visit(at, redirectURL)
		_, err = s.client.Exchange(t.Context(), tx, back)
		wantCode(t, err, "invalid_request")
	})
	t.Run("iss in the response", func(t *testing.T) {
		s := fapi(func(*login.Client) {})
		at, tx, err := s.client.AuthCodeURL(t.Context(), s.request)
		if err != nil {
			t.Fatal(err)
		}
		back, _ := s.browser(t).visit(at, redirectURL)
		u, err := url.Parse(back)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Del("iss")
		u.RawQuery = q.Encode()
		var refused *login.CheckError
		if _, err = s.client.Exchange(t.Context(), tx, u); !errors.As(err, &refused) || refused.Check != "iss" {
			t.Errorf("error = %v", err)
		}
	})
}

func codeOf(err error) string {
	var endpoint *login.EndpointError
	var refresh *authtrip.RefreshError
	switch {
	case errors.As(err, &endpoint):
		return endpoint.Code
	case errors.As(err, &refresh):
		return refresh.Code
	}
	return ""
}

// lossyTransport takes something away from the requests to one path.
type lossyTransport struct {
	path string
	lose func(http.Header, url.Values)
}

func (l lossyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != l.path || r.Method != http.MethodPost {
		return http.DefaultTransport.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	less := r.Clone(r.Context())
	l.lose(less.Header, form)
	less.Body, less.ContentLength = io.NopCloser(strings.NewReader(form.Encode())), int64(len(form.Encode()))
	return http.DefaultTransport.RoundTrip(less)
}
