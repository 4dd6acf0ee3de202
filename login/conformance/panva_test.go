package conformance

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
	"example.com/authtrip/login"
)

const (
	panvaDir    = "panva"
	panvaSecret = "a secret that is long enough for HS256"
)

// newPanva starts oidc-provider. It ends with the test, as its input does.
func newPanva(t *testing.T) (*login.Provider, places, *ecdsa.PrivateKey) {
	t.Helper()
	install(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlaces(t)
	config, err := json.Marshal(map[string]any{"accessTokenTTL": 60, "app": p.app.URL, "clients": panvaClients(p, key)})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "server.mjs")
	cmd.Dir = panvaDir
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("node is needed: %v", err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := io.WriteString(in, string(config)+"\n"); err != nil {
		t.Fatal(err)
	}
	issuer, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		t.Fatalf("oidc-provider does not start: %v\n%s", err, log.String())
	}
	provider, err := login.Discover(t.Context(), strings.TrimSpace(issuer))
	if err != nil {
		t.Fatal(err)
	}
	return provider, p, key
}

// install has npm fetch what package-lock.json names, if it is not there.
func install(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(panvaDir + "/node_modules/oidc-provider/package.json"); err == nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = panvaDir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

func panvaClients(p places, key *ecdsa.PrivateKey) []map[string]any {
	base := func(id, method string) map[string]any {
		c := map[string]any{
			"client_id":                  id,
			"token_endpoint_auth_method": method,
			"redirect_uris":              p.redirectURLs(),
			"post_logout_redirect_uris":  []string{redirectURL},
			"grant_types":                []string{"authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"},
			"application_type":           "native",
		}
		if strings.HasPrefix(method, "client_secret") {
			c["client_secret"] = panvaSecret
		}
		if method == "none" {
			c["grant_types"] = []string{"authorization_code", "refresh_token"}
		}
		return c
	}
	signed := base("signed", "client_secret_basic")
	signed["userinfo_signed_response_alg"] = "RS256"
	signed["introspection_signed_response_alg"] = "RS256"
	byKey := base("private_key_jwt", "private_key_jwt")
	byKey["token_endpoint_auth_signing_alg"] = "ES256"
	byKey["jwks"] = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "mine", Use: "sig", Algorithm: "ES256"}}}
	pushed := base("pushed", "client_secret_basic")
	pushed["require_pushed_authorization_requests"] = true
	byRequest := base("request object", "private_key_jwt")
	byRequest["token_endpoint_auth_signing_alg"], byRequest["request_object_signing_alg"] = "ES256", "ES256"
	byRequest["require_signed_request_object"] = true
	byRequest["jwks"] = byKey["jwks"]
	bound, boundPublic := base("dpop", "private_key_jwt"), base("dpop public", "none")
	bound["token_endpoint_auth_signing_alg"], bound["jwks"] = "ES256", byKey["jwks"]
	bound["dpop_bound_access_tokens"], boundPublic["dpop_bound_access_tokens"] = true, true
	told := base("backchannel", "client_secret_basic")
	told["backchannel_logout_uri"] = p.app.URL + "/backchannel"
	told["backchannel_logout_session_required"] = true
	return []map[string]any{
		told, byRequest, bound, boundPublic,
		base("client_secret_basic", "client_secret_basic"), base("client_secret_post", "client_secret_post"),
		base("client_secret_jwt", "client_secret_jwt"), base("none", "none"), byKey, signed, pushed,
	}
}

func TestPanva(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil && os.Getenv("CI") == "" {
		t.Log("left out: oidc-provider needs Node.js and npm, which are not installed here")
		return
	}
	provider, p, key := newPanva(t)
	make := func(c *login.Client) *server {
		c.Provider, c.RedirectURL = provider, redirectURL
		return &server{
			client: c,
			// It gives refresh tokens to those whom the user was asked about.
			request: &login.AuthRequest{Scopes: []string{"openid", "email", "offline_access"}, Prompt: "consent"},
			name:    "alice", password: "any",
			places: p,
			pkce:   true, userInfo: true, revocation: true, introspection: true, logout: true,
		}
	}
	t.Run("client_secret_basic", make(&login.Client{ID: "client_secret_basic", Secret: panvaSecret}).run)
	for _, c := range []*login.Client{
		{ID: "client_secret_post", Secret: panvaSecret, AuthMethod: "client_secret_post"},
		{ID: "client_secret_jwt", Secret: panvaSecret, AuthMethod: "client_secret_jwt"},
		{ID: "private_key_jwt", Key: key, KeyID: "mine"},
		{ID: "none"},
		{ID: "dpop", Key: key, KeyID: "mine", DPoP: new(dpop.Keys)},
		{ID: "dpop", Key: key, KeyID: "mine", DPoP: &dpop.Keys{Alg: dpop.EdDSA}, PushRequests: true},
		{ID: "dpop public", DPoP: new(dpop.Keys)},
		{ID: "signed", Secret: panvaSecret},
		{ID: "pushed", Secret: panvaSecret, PushRequests: true},
		{ID: "request object", Key: key, KeyID: "mine", SignRequests: true},
		{ID: "client_secret_post", Secret: panvaSecret, AuthMethod: "client_secret_post", SignedResponses: true},
		{ID: "request object", Key: key, KeyID: "mine", SignRequests: true, PushRequests: true},
	} {
		s, name := make(c), c.ID
		if c.SignedResponses {
			name = "signed response"
		}
		t.Run(name, func(t *testing.T) {
			t.Run("login", s.testLogin)
			t.Run("expiry and rotation", s.testRotation)
			t.Run("user info", s.testUserInfo)
			t.Run("revocation", s.testRevocation)
			if c.ID != "none" && c.ID != "dpop public" {
				t.Run("introspection", s.testIntrospection)
			}
		})
	}
	t.Run("client credentials", func(t *testing.T) {
		c := make(&login.Client{ID: "private_key_jwt", Key: key, KeyID: "mine"}).client
		src := &authtrip.Source{Refresher: c.ClientCredentials(nil)}
		defer func() { _ = src.Close() }()
		if tok, err := src.TokenContext(t.Context()); err != nil || tok.AccessToken == "" {
			t.Error(err)
		}
	})
	t.Run("client credentials with DPoP", func(t *testing.T) {
		c := make(&login.Client{ID: "dpop", Key: key, KeyID: "mine", DPoP: new(dpop.Keys)}).client
		src := &authtrip.Source{Refresher: c.ClientCredentials(nil)}
		defer func() { _ = src.Close() }()
		if tok, err := src.TokenContext(t.Context()); err != nil || tok.TokenType != "DPoP" {
			t.Error(err)
		}
	})
	t.Run("device with DPoP", make(&login.Client{ID: "dpop", Key: key, KeyID: "mine", DPoP: new(dpop.Keys)}).testDevice)
	t.Run("signed answers", func(t *testing.T) {
		seen := &mediaTypes{}
		s := make(&login.Client{ID: "signed", Secret: panvaSecret, HTTPClient: &http.Client{Transport: seen}})
		s.testUserInfo(t)
		s.testIntrospection(t)
		for _, want := range []string{"application/jwt", "application/token-introspection+jwt"} {
			if !strings.Contains(seen.String(), want) {
				t.Errorf("no answer was %s", want)
			}
		}
	})
	s := make(&login.Client{ID: "client_secret_basic", Secret: panvaSecret})
	t.Run("device", s.testDevice)
	t.Run("form_post", s.testFormPost)
	signed := make(&login.Client{ID: "client_secret_basic", Secret: panvaSecret, SignedResponses: true})
	t.Run("signed response as a form", signed.testFormPost)
	t.Run("signed response of an error", signed.testSignedError)
	t.Run("client ID metadata document", make(&login.Client{ID: "https://client.example/client.json"}).testClientDocument)
	t.Run("denied", s.testDenied)
	t.Run("max_age and prompt", s.testPrompt)
	t.Run("resource indicators", s.testResources)
	t.Run("registration", s.testRegistration)
	t.Run("back-channel logout", make(&login.Client{ID: "backchannel", Secret: panvaSecret}).testBackChannel)
}

// mediaTypes notes what kind of answers come.
type mediaTypes struct {
	mu   sync.Mutex
	seen []string
}

func (m *mediaTypes) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.seen = append(m.seen, resp.Header.Get("Content-Type"))
	}
	return resp, err
}

func (m *mediaTypes) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.seen, "\n")
}

func (s *server) testDevice(t *testing.T) {
	d, err := s.client.DeviceAuth(t.Context(), s.request)
	if err != nil {
		t.Fatal(err)
	}
	if _, page := s.browser(t).visit(d.VerificationURIComplete, "nowhere"); page == "" {
		t.Fatal("the device's page leads nowhere")
	}
	d.Interval = 1
	session, err := s.client.DeviceToken(t.Context(), d, s.request)
	if err != nil || session.IDToken.Subject != s.name {
		t.Error(err)
	}
}

// testFormPost has the answer sent as a form, which the browser posts to a web
// application.
func (s *server) testFormPost(t *testing.T) {
	req := *s.request
	req.FormPost = true
	form := *s
	form.request = &req
	form.testHandlers(t)
}

func (s *server) testDenied(t *testing.T) {
	at, tx, err := s.client.AuthCodeURL(t.Context(), &login.AuthRequest{Prompt: "none"})
	if err != nil {
		t.Fatal(err)
	}
	back, _ := s.browser(t).visit(at, redirectURL)
	_, err = s.client.Exchange(t.Context(), tx, back)
	wantCode(t, err, "login_required")
	u, err := url.Parse(back)
	if err != nil || u.Query().Get("iss") != s.client.Provider.Issuer {
		t.Error("the server does not send iss, which this test is about")
	}
	if m, err := s.client.Provider.Metadata(t.Context()); err != nil || !m.AuthorizationResponseIssParameterSupported {
		t.Errorf("the server does not say that it sends iss: %v", err)
	}
}

// testSignedError has the server say no in a JWT.
func (s *server) testSignedError(t *testing.T) {
	at, tx, err := s.client.AuthCodeURL(t.Context(), &login.AuthRequest{Prompt: "none"})
	if err != nil {
		t.Fatal(err)
	}
	back, _ := s.browser(t).visit(at, redirectURL)
	if u, err := url.Parse(back); err != nil || !u.Query().Has("response") || u.Query().Has("error") {
		t.Error("the server's answer is not signed, which this test is about")
	}
	_, err = s.client.Exchange(t.Context(), tx, back)
	wantCode(t, err, "login_required")
}

// testClientDocument logs in with a client that the server knows by its document alone.
func (s *server) testClientDocument(t *testing.T) {
	asked := make(chan struct{}, 10)
	doc := &login.ClientDocument{ID: s.client.ID, Metadata: &login.ClientMetadata{
		RedirectURIs: s.places.redirectURLs(), ApplicationType: "native", ClientName: "Documented",
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /client.json", func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		doc.ServeHTTP(w, r)
	})
	s.places.app.handler.Store(mux)
	m, err := s.client.Provider.Metadata(t.Context())
	if err != nil || !m.ClientIDMetadataDocumentSupported {
		t.Fatalf("the server takes no documents: %v", err)
	}
	s.testLogin(t)
	s.testRotation(t)
	if len(asked) == 0 {
		t.Error("the server has not asked for the document")
	}
}

func (s *server) testPrompt(t *testing.T) {
	again := *s
	again.request = &login.AuthRequest{Scopes: []string{"openid"}, Prompt: "login", MaxAge: -1, LoginHint: "alice"}
	session := again.signIn(t)
	if session.IDToken.AuthTime.IsZero() {
		t.Error("there is no auth_time")
	}
}

// testResources refreshes a login for another resource than the client's own: this
// server answers invalid_target to one that was not granted.
func (s *server) testResources(t *testing.T) {
	one := *s
	client := *s.client
	client.Resources = []string{"https://a.example"}
	req := *s.request
	req.Resources = []string{"https://b.example"}
	one.client, one.request = &client, &req
	session := one.signIn(t)
	tok, err := client.RefreshToken().Refresh(t.Context(), session.Token)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{session.Token.AccessToken, tok.AccessToken} {
		var claims struct {
			Audience string `json:"aud"`
		}
		parts := strings.Split(raw, ".")
		if len(parts) != 3 {
			t.Fatal("the access token is no JWT")
		}
		b, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil || json.Unmarshal(b, &claims) != nil || claims.Audience != "https://b.example" {
			t.Errorf("aud = %q, %v", claims.Audience, err)
		}
	}
}

// testRegistration registers a client, logs in with it, and ends it.
func (s *server) testRegistration(t *testing.T) {
	ctx, p := t.Context(), s.client.Provider
	m := &login.ClientMetadata{
		RedirectURIs: s.places.redirectURLs(), ApplicationType: "native", TokenEndpointAuthMethod: "client_secret_post",
		GrantTypes: []string{"authorization_code", "refresh_token"}, ClientName: "Registered",
	}
	rs := &login.Registrations{Cache: new(authtrip.MemoryCache), Metadata: m}
	r, err := rs.Register(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := rs.Register(ctx, p); err != nil || again.ClientID != r.ClientID {
		t.Errorf("the second time: %v", err)
	}
	one := *s
	if one.client, err = r.Client(p); err != nil {
		t.Fatal(err)
	}
	one.testLogin(t)
	if r, err = p.ReadRegistration(ctx, r); err != nil || r.ClientName != "Registered" {
		t.Fatal(err)
	}
	m.ClientName = "Renamed"
	if r, err = p.UpdateRegistration(ctx, r, m); err != nil || r.ClientName != "Renamed" {
		t.Fatal(err)
	}
	if err = p.DeleteRegistration(ctx, r); err != nil {
		t.Fatal(err)
	}
	if _, err = p.ReadRegistration(ctx, r); err == nil {
		t.Error("the client is still there")
	}
}

// testBackChannel logs out at the server, which tells the application.
func (s *server) testBackChannel(t *testing.T) {
	told := make(chan *login.LogoutToken, 1)
	mux := http.NewServeMux()
	mux.Handle("POST /backchannel", &login.BackChannelLogout{
		Client:   s.client,
		OnError:  func(_ *http.Request, err error) { t.Error(err) },
		OnLogout: func(_ context.Context, lt *login.LogoutToken) error { told <- lt; return nil },
	})
	s.places.app.handler.Store(mux)
	b := s.browser(t)
	at, tx, err := s.client.AuthCodeURL(t.Context(), s.request)
	if err != nil {
		t.Fatal(err)
	}
	back, _ := b.visit(at, redirectURL)
	session, err := s.client.Exchange(t.Context(), tx, back)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := session.Token.Extra("id_token").(string)
	if at, err = s.client.LogoutURL(t.Context(), &login.LogoutRequest{IDToken: raw, RedirectURL: redirectURL, State: "s"}); err != nil {
		t.Fatal(err)
	}
	if back, _ = b.visit(at, redirectURL); !strings.HasSuffix(back, "?state=s") {
		t.Errorf("the logout leads to %s", back)
	}
	var claims struct {
		SID string `json:"sid"`
	}
	if err = session.IDToken.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	select {
	case lt := <-told:
		if lt.SessionID == "" || lt.SessionID != claims.SID || lt.Subject != session.IDToken.Subject {
			t.Error("the logout token names another session")
		}
	case <-time.After(10 * time.Second):
		t.Error("the server told nobody")
	}
}
