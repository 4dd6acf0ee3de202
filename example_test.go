package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/filestore"
)

// server is what the examples talk to in place of a real one.
func server(srv *authtriptest.Server) (site *authtriptest.Site, done func()) {
	t := new(exampleTB)
	return authtriptest.Start(t, srv), t.done
}

// exampleTB lets an example use helpers for tests.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (t *exampleTB) Helper()                   {}
func (t *exampleTB) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (t *exampleTB) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }

func (t *exampleTB) done() {
	for _, f := range t.cleanups {
		f()
	}
}

func Example() {
	srv := &authtriptest.Server{Rotate: true}
	site, done := server(srv)
	defer done()
	conf, token := srv.Config(site.URL), srv.Issue("alice")

	src := &authtrip.Source{
		Refresher: authtrip.RefreshToken(conf), // an *oauth2.Config
		Initial:   token,                       // the token at hand
	}
	defer func() { _ = src.Close() }()
	client := &http.Client{Transport: &authtrip.Transport{Source: src}}

	srv.RevokeAll() // the server does not accept the token any more
	resp, err := client.Get(site.URL + "/api")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Status, "after", srv.Counts().Token, "token request")
	// Output: 200 OK after 1 token request
}

func ExampleClientCredentials() {
	srv := new(authtriptest.Server)
	site, done := server(srv)
	defer done()

	client := &http.Client{Transport: &authtrip.Transport{
		Source: &authtrip.Source{Refresher: authtrip.ClientCredentials(&clientcredentials.Config{
			ClientID:     "client",
			ClientSecret: "client-secret",
			TokenURL:     site.URL + "/token",
		})},
	}}
	resp, err := client.Get(site.URL + "/api")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// An SDK that takes an http.Client takes a wrapped one.
func ExampleTransport() {
	srv := new(authtriptest.Server)
	site, done := server(srv)
	defer done()
	src := &authtrip.Source{Refresher: authtrip.ClientCredentials(srv.ClientCredentials(site.URL))}

	sdk := NewSDK(&http.Client{Transport: &authtrip.Transport{
		Source:  src,
		Origins: []string{site.URL}, // nobody else gets the token
		OnEvent: authtrip.LogEvents(slog.New(slog.DiscardHandler)),
	}}, site.URL)
	fmt.Println(sdk.Ping())
	// Output: 200 OK <nil>
}

// SDK is somebody else's client.
type SDK struct {
	client *http.Client
	base   string
}

func NewSDK(client *http.Client, base string) *SDK { return &SDK{client, base} }

func (s *SDK) Ping() (string, error) {
	resp, err := s.client.Get(s.base + "/api/ping")
	if err != nil {
		return "", err
	}
	return resp.Status, resp.Body.Close()
}

func ExampleSources() {
	srv := &authtriptest.Server{Rotate: true}
	site, done := server(srv)
	defer done()
	grant, token := authtrip.RefreshToken(srv.Config(site.URL)), srv.Issue("alice")
	store := new(authtrip.MemoryStore)
	ctx := context.Background()

	users := &authtrip.Sources{Each: authtrip.Source{Refresher: grant, Store: store}}
	client := &http.Client{Transport: &authtrip.Transport{Source: users}}
	defer func() { _ = users.Close() }()

	// After a login:
	if err := users.Source("alice").SetToken(ctx, token); err != nil {
		fmt.Println(err)
		return
	}

	// For each request:
	req, err := http.NewRequestWithContext(authtrip.WithKey(ctx, "alice"), http.MethodGet, site.URL+"/api", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

func ExampleUserInfoSource() {
	srv := &authtriptest.Server{
		Issuer: "https://login.example",
		Claims: func(string) map[string]any { return map[string]any{"name": "Alice"} },
	}
	site, done := server(srv)
	defer done()
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Initial: srv.Issue("alice")}

	ctx := context.Background()
	users := new(authtrip.Users) // in memory; with a Cache, for every process
	info := &authtrip.UserInfoSource{URL: site.URL + "/userinfo", Source: src, Users: users}
	for range 1000 {
		var claims struct{ Name string }
		user, err := info.UserInfo(ctx)
		if err == nil {
			err = user.Claims(&claims)
		}
		if err != nil || claims.Name != "Alice" {
			fmt.Println(err)
			return
		}
	}

	// Later, without a token of hers:
	alice, err := users.Get(ctx, "https://login.example", "alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(alice.Subject, "after", srv.Counts().UserInfo, "request")
	// Output: alice after 1 request
}

// One refresh token, and an access token for each of two APIs.
func ExampleSource() {
	srv := &authtriptest.Server{Rotate: true}
	site, done := server(srv)
	defer done()
	conf, token, store := srv.Config(site.URL), srv.Issue("alice"), new(authtrip.MemoryStore)

	source := func(resource string) *authtrip.Source {
		grant := authtrip.RefreshToken(conf)
		grant.Params = url.Values{"resource": {resource}}
		return &authtrip.Source{Refresher: grant, Initial: token, Store: store, Key: "alice", Variant: resource}
	}
	files, mail := source("https://files.example"), source("https://mail.example")

	one, err := files.Token()
	two, err2 := mail.Token()
	if err != nil || err2 != nil {
		fmt.Println(err, err2)
		return
	}
	fmt.Println(one.AccessToken != two.AccessToken)
	// Output: true
}

// A session that is still there when the program starts again.
func ExampleStore() {
	srv := &authtriptest.Server{Rotate: true}
	site, done := server(srv)
	defer done()
	conf, token := srv.Config(site.URL), srv.Issue("alice")
	home, err := os.MkdirTemp("", "store")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(home) }()
	dir := filepath.Join(home, "tokens")
	token.Expiry = time.Now().Add(-time.Minute) // so that it is refreshed

	src := &authtrip.Source{
		Refresher: authtrip.RefreshToken(conf),
		Store:     &filestore.Store{Dir: dir}, // example.com/authtrip/filestore; or redisstore's
		Key:       "alice",                    // names the session
		Initial:   token,                      // used if the Store has never had this session
	}
	defer func() { _ = src.Close() }()
	if _, err = src.Token(); err != nil {
		fmt.Println(err)
		return
	}

	src = &authtrip.Source{Refresher: src.Refresher, Store: src.Store, Key: src.Key} // the next start
	next, err := src.Token()
	fmt.Println(next.Valid(), srv.Counts().Token, err)
	// Output: true 1 <nil>
}

func ExampleErrReauthRequired() {
	srv := &authtriptest.Server{Rotate: true}
	site, done := server(srv)
	defer done()
	token := srv.Issue("alice")
	token.Expiry = time.Now().Add(-time.Minute)
	srv.Revoke(token.RefreshToken)
	client := &http.Client{Transport: &authtrip.Transport{Source: &authtrip.Source{
		Refresher: authtrip.RefreshToken(srv.Config(site.URL)),
		Initial:   token,
	}}}

	resp, err := client.Get(site.URL + "/api")
	switch {
	case errors.Is(err, authtrip.ErrReauthRequired):
		fmt.Println("send the user to the login page")
	case errors.Is(err, authtrip.ErrNotSaved):
		fmt.Println("repair the store before this process ends")
	case errors.Is(err, authtrip.ErrInDoubt):
		fmt.Println("the server did not answer: it will be asked again")
	case err != nil:
		fmt.Println("try again later, or fix the configuration:", err)
	default:
		defer func() { _ = resp.Body.Close() }()
	}
	// Output: send the user to the login page
}

func ExampleLogEvents() {
	plain := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "duration" {
				return slog.Attr{}
			}
			return a
		},
	}))
	src := &authtrip.Source{
		Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			return &oauth2.Token{AccessToken: "it-is-not-printed"}, nil
		}),
		OnEvent: authtrip.LogEvents(plain),
	}
	_, _ = src.Token()
	// Output: level=DEBUG msg=authtrip event=token_obtained requests=1
}

func ExampleFromTokenSource() {
	vendor := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "made-elsewhere"})
	src := &authtrip.Source{Refresher: authtrip.FromTokenSource(vendor)}
	token, err := src.Token()
	fmt.Println(token.Type(), err)
	// Output: Bearer <nil>
}
