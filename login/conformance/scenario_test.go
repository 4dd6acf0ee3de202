package conformance

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// redirectURL is never asked: the browser stops in front of it.
const redirectURL = "http://127.0.0.1:9/callback"

// A server is one of those that package login is tried with.
type server struct {
	client         *login.Client
	request        *login.AuthRequest // what it takes to get a refresh token
	name, password string

	places places
	// redirect is where the browser stops; "" for redirectURL.
	redirect string
	// ownCodes is set where a spent token is another error than invalid_grant.
	ownCodes bool

	// What the server has.
	pkce, userInfo, revocation, introspection, logout bool
}

// places are where a browser comes back to; servers want them registered.
type places struct {
	app      *webApp
	loopback string // the address of a command-line program
}

// A webApp has its address before it has its handlers.
type webApp struct {
	*httptest.Server
	handler atomic.Pointer[http.ServeMux]
}

func newPlaces(t testing.TB) places {
	t.Helper()
	app := new(webApp)
	app.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app.handler.Load().ServeHTTP(w, r)
	}))
	t.Cleanup(app.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return places{app, l.Addr().String()}
}

func (p places) redirectURLs() []string {
	return []string{redirectURL, p.app.URL + "/callback", "http://" + p.loopback + "/callback"}
}

func (s *server) browser(t testing.TB) *browser { return newBrowser(t, s.name, s.password) }

// signIn is a whole login.
func (s *server) signIn(t testing.TB) *login.Session {
	t.Helper()
	at, tx, err := s.client.AuthCodeURL(t.Context(), s.request)
	if err != nil {
		t.Fatal(err)
	}
	back, page := s.browser(t).visit(at, cmp.Or(s.redirect, redirectURL))
	if back == "" {
		t.Fatalf("the login ends at a page: %.500s", page)
	}
	session, err := s.client.Exchange(t.Context(), tx, back)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Exchange(t.Context(), tx, back); err == nil {
		t.Error("a second Exchange was no error")
	}
	return session
}

// run tries everything that the server has.
func (s *server) run(t *testing.T) {
	t.Run("login", s.testLogin)
	t.Run("wrong responses", s.testWrongResponses)
	t.Run("API", s.testAPI)
	t.Run("expiry and rotation", s.testRotation)
	if s.userInfo {
		t.Run("user info", s.testUserInfo)
	}
	if s.revocation {
		t.Run("revocation", s.testRevocation)
	}
	if s.introspection {
		t.Run("introspection", s.testIntrospection)
	}
	if s.logout {
		t.Run("logout", s.testLogout)
	}
	t.Run("loopback", s.testLoopback)
	t.Run("handlers", s.testHandlers)
}

func (s *server) testLogin(t *testing.T) {
	session := s.signIn(t)
	if session.IDToken.Issuer != s.client.Provider.Issuer || session.IDToken.Subject == "" || session.Token.RefreshToken == "" {
		t.Error("the session is incomplete")
	}
}

func (s *server) testWrongResponses(t *testing.T) {
	at, tx, err := s.client.AuthCodeURL(t.Context(), s.request)
	if err != nil {
		t.Fatal(err)
	}
	back, _ := s.browser(t).visit(at, redirectURL)
	wrong := strings.Replace(back, "state=", "state=x", 1)
	var refused *login.CheckError
	if _, err := s.client.Exchange(t.Context(), tx, wrong); !errors.As(err, &refused) || refused.Check != "state" {
		t.Errorf("wrong state: %v", err)
	}
	// A code that the server did not make.
	u, err := url.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("code", "made-up")
	u.RawQuery = q.Encode()
	_, err = s.client.Exchange(t.Context(), tx, u)
	var failed *authtrip.RefreshError
	if !errors.As(err, &failed) {
		t.Errorf("a code that is made up: %v", err)
	}
	// Another login's verifier does not fit: PKCE.
	if s.pkce {
		at, tx, err = s.client.AuthCodeURL(t.Context(), s.request)
		if err != nil {
			t.Fatal(err)
		}
		back, _ = s.browser(t).visit(at, redirectURL)
		tx.Verifier = oauth2.GenerateVerifier()
		if _, err := s.client.Exchange(t.Context(), tx, back); !errors.As(err, &failed) || failed.Code != "invalid_grant" {
			t.Errorf("another verifier: %v", err)
		}
	}
}

// api accepts the token that it was told to, and refuses all others.
type api struct {
	mu      sync.Mutex
	good    func(token string) bool
	refused int
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !a.good(token) {
		a.refused++
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// testAPI has an API refuse the first token: it is replaced, and the request sent
// again.
func (s *server) testAPI(t *testing.T) {
	session := s.signIn(t)
	first := session.Token.AccessToken
	a := &api{good: func(token string) bool { return token != "" && token != first }}
	books := httptest.NewServer(a)
	defer books.Close()
	src := s.client.Source()
	if err := src.SetToken(t.Context(), session.Token); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	client := &http.Client{Transport: &authtrip.Transport{Source: src}}
	for range 2 {
		resp, err := client.Get(books.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if a.refused != 1 {
		t.Errorf("refused requests = %d, want 1", a.refused)
	}
}

// testRotation spends a refresh token, and spends it again.
func (s *server) testRotation(t *testing.T) {
	spent := s.signIn(t).Token
	next, err := s.client.RefreshToken().Refresh(t.Context(), spent)
	if err != nil {
		t.Fatal(err)
	}
	if next.RefreshToken == "" || next.RefreshToken == spent.RefreshToken || next.AccessToken == spent.AccessToken {
		t.Error("the server does not rotate")
	}
	_, err = s.client.RefreshToken().Refresh(t.Context(), spent)
	if err == nil || !s.ownCodes && !errors.Is(err, authtrip.ErrReauthRequired) {
		t.Errorf("a spent refresh token: %v", err)
	}
	// A token that has ended is replaced before it is sent.
	ended := *s.signIn(t).Token
	ended.Expiry = time.Now().Add(-time.Hour)
	src := &authtrip.Source{Refresher: s.client.RefreshToken(), Initial: &ended}
	defer func() { _ = src.Close() }()
	got, err := src.TokenContext(t.Context())
	if err != nil || got.AccessToken == ended.AccessToken {
		t.Errorf("an expired token: %v", err)
	}
}

func (s *server) testUserInfo(t *testing.T) {
	session := s.signIn(t)
	src := s.client.Source()
	if err := src.SetToken(t.Context(), session.Token); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	users := s.client.UserInfoSource(src)
	defer func() { _ = users.Close() }()
	info, err := users.UserInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Subject != session.IDToken.Subject || info.Issuer != session.IDToken.Issuer {
		t.Error("user info is somebody else's")
	}
}

func (s *server) testRevocation(t *testing.T) {
	session := s.signIn(t)
	if err := s.client.Revoke(t.Context(), session.Token); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.RefreshToken().Refresh(t.Context(), session.Token); !errors.Is(err, authtrip.ErrReauthRequired) {
		t.Errorf("the revoked refresh token: %v", err)
	}
	// Once more is no error: RFC 7009, section 2.2.
	if err := s.client.Revoke(t.Context(), session.Token); err != nil {
		t.Errorf("again: %v", err)
	}
}

func (s *server) testIntrospection(t *testing.T) {
	session := s.signIn(t)
	for token, want := range map[string]bool{session.Token.AccessToken: true, "made-up": false} {
		i, err := s.client.Introspect(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if i.Active != want || want && i.Subject != session.IDToken.Subject {
			t.Errorf("active = %v, want %v", i.Active, want)
		}
	}
}

func (s *server) testLogout(t *testing.T) {
	session := s.signIn(t)
	raw, _ := session.Token.Extra("id_token").(string)
	at, err := s.client.LogoutURL(t.Context(), &login.LogoutRequest{IDToken: raw})
	if err != nil {
		t.Fatal(err)
	}
	if _, page := s.browser(t).visit(at, "nowhere"); page == "" {
		t.Error("the logout ends nowhere")
	}
}

func (s *server) testLoopback(t *testing.T) {
	pages := make(chan string, 1)
	b := s.browser(t)
	l := &login.Loopback{
		Client: s.client, Request: s.request, Addr: s.places.loopback, Output: io.Discard,
		Open: func(_ context.Context, at string) error {
			go func() {
				_, page := b.visit(at, "nowhere")
				pages <- page
			}()
			return nil
		},
	}
	session, err := l.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if page := <-pages; session.IDToken.Subject == "" || !strings.Contains(page, "You are logged in") {
		t.Errorf("the page says: %s", page)
	}
}

func (s *server) testHandlers(t *testing.T) {
	app := s.places.app.URL
	client := *s.client
	client.RedirectURL = app + "/callback"
	var who *login.IDToken
	h := &login.Handlers{
		Client:       &client,
		Transactions: &login.Transactions{Keys: [][]byte{[]byte(strings.Repeat("k", 32))}},
		Request:      func(*http.Request) (*login.AuthRequest, error) { return s.request, nil },
		OnLogin: func(_ http.ResponseWriter, _ *http.Request, s *login.Session) error {
			who = s.IDToken
			return nil
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", h.Login)
	mux.HandleFunc("/callback", h.Callback)
	s.places.app.handler.Store(mux)
	if back, _ := s.browser(t).visit(app+"/login?return_to=/inbox", app+"/inbox"); back == "" || who == nil || who.Subject == "" {
		t.Error("nobody has logged in")
	}
}

// testHasNot asks for what the server's metadata does not have: each is said before anybody is
// sent away.
func (s *server) testHasNot(t *testing.T) {
	pushes, signs := *s.client, *s.client
	pushes.PushRequests, signs.SignedResponses = true, true
	_, _, pushed := pushes.AuthCodeURL(t.Context(), nil)
	_, registered := s.client.Provider.Register(t.Context(), &login.ClientMetadata{RedirectURIs: []string{redirectURL}}, "")
	for what, err := range map[string]error{"PAR": pushed, "registration": registered} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: error = %v, want ErrUnsupported", what, err)
		}
	}
	m, err := s.client.Provider.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := signs.AuthCodeURL(t.Context(), nil); m.ResponseModesSupported != nil && err == nil {
		t.Error("JARM: no error, and the server lists its response modes")
	}
	var more struct {
		BackChannel bool `json:"backchannel_logout_supported"`
		Documents   bool `json:"client_id_metadata_document_supported"`
	}
	if err := m.Claims(&more); err != nil || more.BackChannel || more.Documents {
		t.Errorf("the server has more than this test knows: %v, %v", more, err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refused *login.AuthorizationError
	if !errors.As(err, &refused) || refused.Code != code {
		t.Errorf("error is %v, want %s", err, code)
	}
}
