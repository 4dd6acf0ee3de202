package login_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// From an issuer URL to an HTTP client: a program on somebody's own machine.
func Example() {
	ctx := context.Background()
	issuer, browser := exampleServer()

	provider, err := login.Discover(ctx, issuer)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &login.Client{Provider: provider, ID: "my-cli"}
	session, err := (&login.Loopback{Client: client, Open: browser, Output: io.Discard}).Login(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	src := client.Source()
	if err := src.SetToken(ctx, session.Token); err != nil {
		fmt.Println(err)
		return
	}
	api := &http.Client{Transport: &authtrip.Transport{Source: src}}

	resp, err := api.Get(issuer + "/api")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(session.IDToken.Subject, resp.Status)
	// Output: alice 200 OK
}

// A web application mounts three handlers.
func ExampleHandlers() {
	issuer, browser := exampleServer()
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()

	h := &login.Handlers{
		Client: &login.Client{
			Provider:    &login.Provider{Issuer: issuer},
			ID:          "my-app",
			RedirectURL: app.URL + "/callback",
		},
		OnLogin: func(w http.ResponseWriter, _ *http.Request, s *login.Session) error {
			// Begin the application's own session here.
			fmt.Println(s.IDToken.Subject, "has logged in")
			return nil
		},
	}
	mux.HandleFunc("GET /login", h.Login)
	mux.HandleFunc("/callback", h.Callback)
	mux.HandleFunc("POST /logout", h.Logout)
	mux.HandleFunc("GET /inbox", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "You have mail.") })

	if err := browser(context.Background(), app.URL+"/login?return_to=/inbox"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// alice has logged in
	// You have mail.
}

// A web application with many users: each has a token of their own, which stays
// in the Store when the program ends.
func ExampleClient_Source() {
	issuer, browser := exampleServer()
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()

	client := &login.Client{
		Provider:    &login.Provider{Issuer: issuer},
		ID:          "my-app",
		RedirectURL: app.URL + "/callback",
	}
	store := new(authtrip.MemoryStore) // or one that others share
	users := &authtrip.Sources{Each: authtrip.Source{Refresher: client.RefreshToken(), Store: store}}
	api := &http.Client{Transport: &authtrip.Transport{Source: users}}

	var user string // in the application's own session
	h := &login.Handlers{
		Client: client,
		OnLogin: func(_ http.ResponseWriter, r *http.Request, s *login.Session) error {
			user = s.IDToken.Key()
			return users.Source(user).SetToken(r.Context(), s.Token)
		},
	}
	mux.HandleFunc("GET /login", h.Login)
	mux.HandleFunc("/callback", h.Callback)
	mux.HandleFunc("GET /inbox", func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(authtrip.WithKey(r.Context(), user), http.MethodGet, issuer+"/api", nil)
		resp, err := api.Do(req)
		if err != nil {
			fmt.Fprint(w, err)
			return
		}
		defer resp.Body.Close()
		fmt.Fprint(w, "The API says ", resp.Status)
	})

	if err := browser(context.Background(), app.URL+"/login?return_to=/inbox"); err != nil {
		fmt.Println(err)
	}
	// Output: The API says 200 OK
}

// The two halves of a login, for an application with handlers of its own.
func ExampleClient_Exchange() {
	ctx := context.Background()
	issuer, _ := exampleServer()
	client := &login.Client{
		Provider:    &login.Provider{Issuer: issuer},
		ID:          "my-app",
		RedirectURL: "https://app.example/callback",
	}
	at, tx, err := client.AuthCodeURL(ctx, &login.AuthRequest{Prompt: "login"})
	if err != nil {
		fmt.Println(err)
		return
	}
	redirect := comeBack(at) // the whole URL to which the user comes back

	session, err := client.Exchange(ctx, tx, redirect)
	var refused *login.CheckError
	var denied *login.AuthorizationError
	switch {
	case errors.As(err, &refused):
		fmt.Println("not ours:", refused.Check)
	case errors.As(err, &denied):
		fmt.Println("the server said", denied.Code)
	case err == nil:
		fmt.Println(session.IDToken.Subject, session.Scopes)
	}

	_, err = client.Exchange(ctx, tx, redirect)
	fmt.Println(err)
	// Output:
	// alice [openid]
	// login: transaction: the login is over: its state was used before
}

// A service in Kubernetes has no secret: the cluster signs who it is, in a file that
// the kubelet writes anew before it expires.
func ExampleClient_workloadIdentity() {
	const file = "/var/run/secrets/tokens/oauth"
	client := &login.Client{
		Provider:      &login.Provider{Issuer: "https://issuer.example"},
		ID:            "my-service",
		AssertionFunc: func(context.Context) (string, error) { b, err := os.ReadFile(file); return string(b), err },
	}
	src := &authtrip.Source{Refresher: client.ClientCredentials(nil)}
	_ = &http.Client{Transport: &authtrip.Transport{Source: src}}
}

// exampleServer is a provider where alice is always logged in and says yes, and a
// browser that follows redirects and prints the page at their end.
func exampleServer() (issuer string, browser func(context.Context, string) error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux) // lives as long as the example
	answer := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	mux.HandleFunc("/.well-known/openid-configuration", answer(map[string]any{
		"issuer": server.URL, "authorization_endpoint": server.URL + "/authorize", "token_endpoint": server.URL + "/token",
		"jwks_uri": server.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
	}))
	mux.HandleFunc("/keys", answer(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), Use: "sig"}}}))
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		back := url.Values{"code": {q.Get("client_id") + " " + q.Get("nonce")}, "state": {q.Get("state")}}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		var client, nonce string
		_, _ = fmt.Sscan(r.FormValue("code"), &client, &nonce)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
		if err != nil {
			panic(err)
		}
		now := time.Now()
		idToken, err := jwt.Signed(signer).Claims(map[string]any{
			"iss": server.URL, "sub": "alice", "aud": client, "nonce": nonce, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		}).Serialize()
		if err != nil {
			panic(err)
		}
		answer(map[string]any{"access_token": "secret", "token_type": "Bearer", "expires_in": 300, "id_token": idToken})(w, r)
	})
	mux.HandleFunc("/api", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	return server.URL, browse
}

// browse is a browser with cookies.
func browse(_ context.Context, at string) error {
	client := &http.Client{Jar: cookies{}}
	resp, err := client.Get(at)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err == nil && resp.Request.URL.Path == "/inbox" {
		fmt.Println(string(page))
	}
	return err
}

// cookies is the least that a cookie jar can be.
type cookies map[string]*http.Cookie

func (c cookies) SetCookies(_ *url.URL, set []*http.Cookie) {
	for _, k := range set {
		if k.MaxAge < 0 {
			delete(c, k.Name)
		} else {
			c[k.Name] = k
		}
	}
}

func (c cookies) Cookies(*url.URL) (all []*http.Cookie) {
	for _, k := range c {
		all = append(all, k)
	}
	return all
}

// comeBack asks the server as a browser does, and returns where it sends it.
func comeBack(at string) string {
	resp, err := http.DefaultTransport.RoundTrip(httptest.NewRequest(http.MethodGet, at, nil))
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	return resp.Header.Get("Location")
}
