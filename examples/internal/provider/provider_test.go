package provider_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip/examples/internal/browser"
	"example.com/authtrip/examples/internal/provider"
)

const (
	redirectURI = "http://127.0.0.1/callback"
	apiSecret   = "secret of the API: 100%"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the library reports what it refuses
	os.Exit(m.Run())
}

// A fixture is a provider that is running, with a native client, an API, and two
// users.
type fixture struct {
	*testing.T
	*provider.Provider
	conf *oauth2.Config // of the native client
}

func start(t *testing.T, lifetime time.Duration) *fixture {
	t.Helper()
	p, err := provider.Start(provider.Options{
		AccessTokenLifetime: lifetime,
		Clients: []provider.Client{
			{ID: "native", RedirectURIs: []string{redirectURI}, PostLogoutRedirectURIs: []string{"http://127.0.0.1/bye"}},
			{ID: "other", RedirectURIs: []string{redirectURI}},
			{ID: "api", Secret: apiSecret},
		},
		Users: []provider.User{
			{Subject: "42", Login: "ada", Password: "engine", Name: "Ada Lovelace", Email: "ada@example.com"},
			{Subject: "43", Login: "grace", Password: "compiler"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	endpoint := p.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	return &fixture{T: t, Provider: p, conf: &oauth2.Config{
		ClientID:    "native",
		Endpoint:    endpoint,
		RedirectURL: redirectURI,
		Scopes:      []string{"openid", "profile", "email", "offline_access"},
	}}
}

// authorize sends a browser through a login and returns what comes back.
func (f *fixture) authorize(b *browser.Browser, opts ...oauth2.AuthCodeOption) (answer url.Values, verifier string, err error) {
	f.Helper()
	verifier = oauth2.GenerateVerifier()
	opts = append(opts, oauth2.S256ChallengeOption(verifier))
	callback, err := b.Authorize(f.Context(), f.conf.AuthCodeURL("state", opts...), f.conf.RedirectURL)
	if err != nil {
		return nil, "", err
	}
	if got := callback.Query().Get("state"); got != "state" {
		f.Errorf("state = %q, want it back", got)
	}
	return callback.Query(), verifier, nil
}

func (f *fixture) logIn() *oauth2.Token {
	f.Helper()
	answer, verifier, err := f.authorize(browser.New("ada", "engine"))
	if err != nil {
		f.Fatal(err)
	}
	tok, err := f.conf.Exchange(f.Context(), answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		f.Fatal(err)
	}
	return tok
}

func (f *fixture) refresh(refreshToken string) (*oauth2.Token, error) {
	return f.conf.TokenSource(f.Context(), &oauth2.Token{RefreshToken: refreshToken}).Token()
}

func (f *fixture) post(endpoint string, form url.Values, basic bool) *http.Response {
	f.Helper()
	req, err := http.NewRequestWithContext(f.Context(), http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		f.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if basic {
		req.SetBasicAuth("api", url.QueryEscape(apiSecret))
	}
	return f.do(req)
}

// do sends a request; redirects are not followed.
func (f *fixture) do(req *http.Request) *http.Response {
	f.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func (f *fixture) get(target, accessToken string) *http.Response {
	f.Helper()
	req, err := http.NewRequestWithContext(f.Context(), http.MethodGet, target, nil)
	if err != nil {
		f.Fatal(err)
	}
	if accessToken != "" {
		req.Header.Set("Authorization", "Bearer "+accessToken)
	}
	return f.do(req)
}

func (f *fixture) decode(r io.Reader) map[string]any {
	f.Helper()
	var v map[string]any
	if err := json.NewDecoder(r).Decode(&v); err != nil {
		f.Fatal(err)
	}
	return v
}

// active asks as an API does.
func (f *fixture) active(accessToken string) bool {
	f.Helper()
	resp := f.post(f.IntrospectionURL(), url.Values{"token": {accessToken}}, true)
	if resp.StatusCode != http.StatusOK {
		f.Fatalf("introspection: status %d", resp.StatusCode)
	}
	return f.decode(resp.Body)["active"] == true
}

func (f *fixture) revoke(clientID, token string) {
	f.Helper()
	resp := f.post(f.RevocationURL(), url.Values{"token": {token}, "client_id": {clientID}}, false)
	if resp.StatusCode != http.StatusOK {
		f.Fatalf("revocation: status %d", resp.StatusCode)
	}
}

func wantCode(t *testing.T, err error, want string) {
	t.Helper()
	re, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || re.ErrorCode != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	f := start(t, 7*time.Second)
	tok := f.logIn()
	if tok.AccessToken == "" || tok.RefreshToken == "" || tok.Extra("id_token") == nil {
		t.Error("a token is missing")
	}
	if tok.ExpiresIn != 7 {
		t.Errorf("expires_in = %d, want 7", tok.ExpiresIn)
	}
	if !f.active(tok.AccessToken) {
		t.Error("the access token is not active")
	}
	if got, want := f.Stats(), (provider.Stats{TokenRequests: 1, IntrospectionRequests: 1, RefreshTokensIssued: 1}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	for _, test := range []struct{ name, login, password string }{
		{"wrong password", "ada", "difference engine"},
		{"another's password", "ada", "compiler"},
		{"unknown user", "charles", "engine"},
		{"nothing", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if answer, _, err := f.authorize(browser.New(test.login, test.password)); err == nil {
				t.Errorf("came back with %v", answer)
			}
		})
	}
}

func TestAuthorizationRefused(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	challenge := oauth2.S256ChallengeOption(oauth2.GenerateVerifier())
	for _, test := range []struct {
		name     string
		redirect string
		opts     []oauth2.AuthCodeOption
		want     string // the error that comes back; "" if nothing may
	}{
		{"no PKCE", redirectURI, nil, "invalid_request"},
		{"plain PKCE", redirectURI, []oauth2.AuthCodeOption{challenge, oauth2.SetAuthURLParam("code_challenge_method", "plain")}, "invalid_request"},
		{"prompt none", redirectURI, []oauth2.AuthCodeOption{challenge, oauth2.SetAuthURLParam("prompt", "none")}, "login_required"},
		{"implicit flow", redirectURI, []oauth2.AuthCodeOption{challenge, oauth2.SetAuthURLParam("response_type", "id_token token")}, ""},
		{"unknown redirect URI", "http://127.0.0.1/elsewhere", []oauth2.AuthCodeOption{challenge}, ""},
		{"redirect URI of another machine", "http://example.com/callback", []oauth2.AuthCodeOption{challenge}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf := *f.conf
			conf.RedirectURL = test.redirect
			callback, err := browser.New("ada", "engine").Authorize(t.Context(), conf.AuthCodeURL("state", test.opts...), test.redirect)
			switch {
			case err != nil && test.want == "":
			case err != nil:
				t.Errorf("Authorize() = %v, want error %s back", err, test.want)
			case callback.Query().Get("code") != "" || callback.Query().Get("error") != test.want:
				t.Errorf("came back with %v, want error %q", callback.Query(), test.want)
			}
		})
	}
}

func TestAnyLoopbackPort(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	f.conf.RedirectURL = "http://127.0.0.1:49152/callback"
	f.logIn()
}

func TestSession(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	b := browser.New("ada", "engine")
	if _, _, err := f.authorize(b); err != nil {
		t.Fatal(err)
	}
	b.Password = "forgotten"
	if _, _, err := f.authorize(b); err != nil {
		t.Errorf("second login: %v, want no form", err)
	}
	if _, _, err := f.authorize(b, oauth2.SetAuthURLParam("prompt", "login")); err == nil {
		t.Error("prompt=login asked for no password")
	}
}

func TestCodeIsGoodForOneUse(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	answer, verifier, err := f.authorize(browser.New("ada", "engine"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := f.conf.Exchange(t.Context(), answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.conf.Exchange(t.Context(), answer.Get("code"), oauth2.VerifierOption(verifier))
	wantCode(t, err, "invalid_grant")
	if f.active(tok.AccessToken) {
		t.Error("the first use's access token is still active")
	}
	_, err = f.refresh(tok.RefreshToken)
	wantCode(t, err, "invalid_grant")
}

func TestWrongVerifier(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	answer, _, err := f.authorize(browser.New("ada", "engine"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.conf.Exchange(t.Context(), answer.Get("code"), oauth2.VerifierOption(oauth2.GenerateVerifier()))
	wantCode(t, err, "invalid_grant")
}

func TestRefreshTokenRotates(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	first := f.logIn()
	second, err := f.refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if second.RefreshToken == "" || second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Error("the refresh brought nothing new")
	}
	if !f.active(first.AccessToken) || !f.active(second.AccessToken) {
		t.Error("want both access tokens active until their ends")
	}
	if s := f.Stats(); s.RefreshTokensIssued != 2 || s.RefreshTokensSpent != 1 || s.RefreshTokensReused != 0 || s.RefreshTokensWasted != 1 {
		t.Errorf("Stats() = %+v, want one refresh, before its time", s)
	}
}

func TestReuseEndsTheFamily(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	first, other := f.logIn(), f.logIn()
	second, err := f.refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.refresh(first.RefreshToken)
	wantCode(t, err, "invalid_grant")
	_, err = f.refresh(second.RefreshToken)
	wantCode(t, err, "invalid_grant")
	if f.active(first.AccessToken) || f.active(second.AccessToken) {
		t.Error("an access token of the family is still active")
	}
	if !f.active(other.AccessToken) {
		t.Error("an access token of another login is not active")
	}
	if got := f.Stats().RefreshTokensReused; got != 1 {
		t.Errorf("RefreshTokensReused = %d, want 1", got)
	}
}

func TestOneOfManyRefreshesAtOnceSucceeds(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	tok := f.logIn()
	errs := make([]error, 20)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = f.refresh(tok.RefreshToken) })
	}
	wg.Wait()
	succeeded := 0
	for _, err := range errs {
		if err == nil {
			succeeded++
			continue
		}
		wantCode(t, err, "invalid_grant")
	}
	if s := f.Stats(); succeeded != 1 || s.RefreshTokensSpent != 1 || s.RefreshTokensReused != 19 {
		t.Errorf("%d succeeded, Stats() = %+v, want 1, and 19 reused", succeeded, s)
	}
}

func TestRefreshTokenOfAnotherClient(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	tok := f.logIn()
	f.conf.ClientID = "other"
	_, err := f.refresh(tok.RefreshToken)
	wantCode(t, err, "invalid_grant")
	f.revoke("other", tok.RefreshToken)
	f.revoke("other", tok.AccessToken)
	f.conf.ClientID = "native"
	if !f.active(tok.AccessToken) {
		t.Error("another client revoked the token")
	}
	if _, err = f.refresh(tok.RefreshToken); err != nil {
		t.Errorf("refresh by its own client: %v", err)
	}
}

func TestUnknownClient(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	f.conf.ClientID = "nobody"
	_, err := f.refresh("anything")
	wantCode(t, err, "invalid_client")
}

func TestRevokedAccessToken(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	tok := f.logIn()
	f.revoke("native", tok.AccessToken)
	if f.active(tok.AccessToken) {
		t.Error("the revoked token is active")
	}
	resp := f.get(f.UserInfoURL(), tok.AccessToken)
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != `Bearer error="invalid_token"` {
		t.Errorf("user info: status %d, challenge %q, want 401 invalid_token", resp.StatusCode, got)
	}
	if _, err := f.refresh(tok.RefreshToken); err != nil {
		t.Errorf("refresh after the access token was revoked: %v", err)
	}
	if got := f.Stats(); got.RefreshTokensWasted != 0 || got.RevocationRequests != 1 {
		t.Errorf("Stats() = %+v, want one revocation, and a refresh with a reason", got)
	}
}

func TestRevokedRefreshToken(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	tok := f.logIn()
	f.revoke("native", tok.RefreshToken)
	if f.active(tok.AccessToken) {
		t.Error("the access token beside the revoked refresh token is active")
	}
	_, err := f.refresh(tok.RefreshToken)
	wantCode(t, err, "invalid_grant")
}

func TestAccessTokenEnds(t *testing.T) {
	t.Parallel()
	f := start(t, time.Second)
	tok := f.logIn()
	often := time.NewTicker(50 * time.Millisecond)
	defer often.Stop()
	for f.active(tok.AccessToken) {
		if time.Since(tok.Expiry) > 10*time.Second {
			t.Fatal("the access token does not end")
		}
		<-often.C
	}
	if time.Now().Before(tok.Expiry) {
		t.Error("the access token ended before it should")
	}
	if resp := f.get(f.UserInfoURL(), tok.AccessToken); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("user info: status %d, want 401", resp.StatusCode)
	}
}

func TestUserInfo(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	tok := f.logIn()
	resp := f.get(f.UserInfoURL(), tok.AccessToken)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	claims := f.decode(resp.Body)
	for claim, want := range map[string]any{
		"sub": "42", "name": "Ada Lovelace", "preferred_username": "ada", "email": "ada@example.com", "email_verified": true,
	} {
		if claims[claim] != want {
			t.Errorf("%s = %v, want %v", claim, claims[claim], want)
		}
	}
	for _, token := range []string{"", "nonsense"} {
		if resp := f.get(f.UserInfoURL(), token); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("token %q: status %d, want 401", token, resp.StatusCode)
		}
	}
	if got := f.Stats().UserInfoRequests; got != 3 {
		t.Errorf("UserInfoRequests = %d, want 3", got)
	}
}

func TestIntrospectionWantsASecret(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	tok := f.logIn()
	resp := f.post(f.IntrospectionURL(), url.Values{"token": {tok.AccessToken}, "client_id": {"native"}}, false)
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", resp.StatusCode)
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	conf := clientcredentials.Config{
		ClientID: "api", ClientSecret: apiSecret, TokenURL: f.Endpoint().TokenURL,
		AuthStyle: oauth2.AuthStyleInHeader, Scopes: []string{"reports"},
	}
	tok, err := conf.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !f.active(tok.AccessToken) || tok.RefreshToken != "" {
		t.Error("want an active access token and no refresh token")
	}
	conf.ClientSecret = "guess"
	_, err = conf.Token(t.Context())
	wantCode(t, err, "invalid_client")
	conf.ClientID, conf.ClientSecret = "native", ""
	_, err = conf.Token(t.Context())
	wantCode(t, err, "invalid_client")
}

func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	answer, err := f.conf.DeviceAuth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := browser.New("ada", "wrong").ConnectDevice(t.Context(), answer.VerificationURI, answer.UserCode); err == nil {
		t.Error("connected with a wrong password")
	}
	if err := browser.New("ada", "engine").ConnectDevice(t.Context(), answer.VerificationURI, answer.UserCode); err != nil {
		t.Fatal(err)
	}
	if err := browser.New("grace", "compiler").ConnectDevice(t.Context(), answer.VerificationURI, answer.UserCode); err == nil {
		t.Error("connected twice")
	}
	tok, err := f.conf.DeviceAccessToken(t.Context(), answer)
	if err != nil {
		t.Fatal(err)
	}
	if !f.active(tok.AccessToken) || tok.RefreshToken == "" || tok.Extra("id_token") == nil {
		t.Error("a token is missing")
	}
	_, err = f.conf.DeviceAccessToken(t.Context(), answer)
	wantCode(t, err, "access_denied")
}

func TestDevicePageShowsTheCode(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	answer, err := f.conf.DeviceAuth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	resp := f.get(answer.VerificationURIComplete, "")
	page, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(page), answer.UserCode) {
		t.Errorf("page = %q, %v, want the code in it", page, err)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	metadata := f.decode(f.get(f.Issuer()+"/.well-known/openid-configuration", "").Body)
	for name, want := range map[string]any{
		"issuer":                        f.Issuer(),
		"authorization_endpoint":        f.Endpoint().AuthURL,
		"token_endpoint":                f.Endpoint().TokenURL,
		"device_authorization_endpoint": f.Endpoint().DeviceAuthURL,
		"userinfo_endpoint":             f.UserInfoURL(),
		"introspection_endpoint":        f.IntrospectionURL(),
		"revocation_endpoint":           f.RevocationURL(),
	} {
		if metadata[name] != want {
			t.Errorf("%s = %v, want %v", name, metadata[name], want)
		}
	}
	keys, ok := metadata["jwks_uri"].(string)
	if !ok || f.get(keys, "").StatusCode != http.StatusOK {
		t.Errorf("no keys at %q", keys)
	}
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	b := browser.New("ada", "engine")
	answer, verifier, err := f.authorize(b)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := f.conf.Exchange(t.Context(), answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	idToken, _ := tok.Extra("id_token").(string)
	resp := f.get(f.Issuer()+"/end_session?"+url.Values{
		"id_token_hint": {idToken}, "post_logout_redirect_uri": {"http://127.0.0.1/bye"}, "state": {"s"},
	}.Encode(), "")
	if got, want := resp.Header.Get("Location"), "http://127.0.0.1/bye?state=s"; got != want {
		t.Errorf("Location = %q, want %q", got, want)
	}
	if f.active(tok.AccessToken) {
		t.Error("the access token is still active")
	}
	_, err = f.refresh(tok.RefreshToken)
	wantCode(t, err, "invalid_grant")
	b.Password = "forgotten"
	if _, _, err := f.authorize(b); err == nil {
		t.Error("the session goes on")
	}
	if resp := f.get(f.Issuer()+"/logged-out", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("logged-out page: status %d", resp.StatusCode)
	}
}

func TestFormsAreForTheirOwnPage(t *testing.T) {
	t.Parallel()
	f := start(t, 0)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, f.Issuer()+"/login?id=x", strings.NewReader("login=ada&password=engine"))
	req.RequestURI = ""
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if resp := f.do(req); resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d, want 403", resp.StatusCode)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		opts provider.Options
		want string
	}{
		{"another machine's address", provider.Options{Addr: "0.0.0.0:0"}, "Addr"},
		{"no port", provider.Options{Addr: "127.0.0.1"}, "Addr"},
		{"half a second", provider.Options{AccessTokenLifetime: time.Second / 2}, "AccessTokenLifetime"},
		{"negative", provider.Options{AccessTokenLifetime: -time.Second}, "AccessTokenLifetime"},
		{"no subject", provider.Options{Users: []provider.User{{Login: "ada"}}}, "Users"},
		{"colon in the subject", provider.Options{Users: []provider.User{{Subject: "a:b"}}}, "Users"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, err := provider.Start(test.opts)
			if err == nil {
				t.Error(p.Close())
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Start() = %v, want an error that names %s", err, test.want)
			}
		})
	}
}
