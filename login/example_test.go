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
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"

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
	loopback := &login.Loopback{Client: client}
	loopback.Open, loopback.Output = browser, io.Discard // not in the README
	session, err := loopback.Login(ctx)
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

// A logout forgets the session in the Store, has the server revoke its tokens, and ends
// that of the server where it has an end_session_endpoint.
func ExampleHandlers_Logout() {
	issuer, browser := exampleServer()
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()

	client := &login.Client{
		Provider:    &login.Provider{Issuer: issuer},
		ID:          "my-app",
		RedirectURL: app.URL + "/callback",
	}
	users := &authtrip.Sources{Each: authtrip.Source{Refresher: client.RefreshToken(), Store: new(authtrip.MemoryStore)}}
	var user string // in the application's own session
	h := &login.Handlers{
		Client: client,
		OnLogin: func(_ http.ResponseWriter, r *http.Request, s *login.Session) error {
			user = s.IDToken.Key()
			return users.Source(user).SetToken(r.Context(), s.Token)
		},
	}
	h.OnLogout = func(_ http.ResponseWriter, r *http.Request) (*oauth2.Token, error) {
		// End the application's own session here. What Forget returns is revoked.
		return users.Source(user).Forget(r.Context())
	}
	mux.HandleFunc("GET /login", h.Login)
	mux.HandleFunc("/callback", h.Callback)
	mux.HandleFunc("POST /logout", h.Logout)

	if err := browser(context.Background(), app.URL+"/login"); err != nil {
		fmt.Println(err)
	}
	resp, err := http.Post(app.URL+"/logout", "", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	_, err = users.Source(user).Token()
	fmt.Println("logged out:", errors.Is(err, authtrip.ErrLoggedOut))
	// Output:
	// revoked: access_token
	// logged out: true
}

// A page with two providers has a client for each, with a redirect URL of its own.
func ExampleHandlers_clients() {
	issuer, browser := exampleServer()
	other, _ := exampleServer()
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()

	var user, loggedInAt string // in the application's own session
	clients := map[string]*login.Client{
		issuer: {Provider: &login.Provider{Issuer: issuer}, ID: "my-app", RedirectURL: app.URL + "/callback/one"},
		other:  {Provider: &login.Provider{Issuer: other}, ID: "my-app", RedirectURL: app.URL + "/callback/other"},
	}
	h := &login.Handlers{
		Clients: func(r *http.Request, tx *login.Transaction) (*login.Client, error) {
			switch {
			case tx != nil: // the callback: the server at which this login began
				return clients[tx.Issuer], nil
			case r.Method == http.MethodPost: // the logout: the server of the session
				return clients[loggedInAt], nil
			}
			return clients[r.FormValue("at")], nil // the link: /login?at=https://login.example
		},
		OnLogin: func(_ http.ResponseWriter, _ *http.Request, s *login.Session) error {
			// Keep both in the application's own session.
			user, loggedInAt = s.IDToken.Key(), s.IDToken.Issuer
			return nil
		},
	}
	mux.HandleFunc("GET /login", h.Login)
	mux.HandleFunc("/callback/", h.Callback)
	mux.HandleFunc("POST /logout", h.Logout)

	users := make(map[string]bool)
	for _, at := range []string{issuer, other} {
		if err := browser(context.Background(), app.URL+"/login?at="+url.QueryEscape(at)); err != nil {
			fmt.Println(err)
		}
		users[user] = true
		fmt.Println("logged in where asked for:", loggedInAt == at)
	}
	fmt.Println("users:", len(users)) // alice at one is not alice at the other
	// Output:
	// logged in where asked for: true
	// logged in where asked for: true
	// users: 2
}

// The server says that a session has ended, and the application ends its own.
func ExampleBackChannelLogout() {
	issuer, browser := exampleServer()
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()

	client := &login.Client{
		Provider:    &login.Provider{Issuer: issuer},
		ID:          "my-app",
		RedirectURL: app.URL + "/callback",
	}
	users := &authtrip.Sources{Each: authtrip.Source{Refresher: client.RefreshToken(), Store: new(authtrip.MemoryStore)}}
	// In an application a table of its database, with the columns key, sid and subject.
	var table [][3]string
	remember := func(key, sid, subject string) error {
		table = append(table, [3]string{key, sid, subject})
		return nil
	}
	keysOf := func(sid, subject string) (keys []string) {
		for _, row := range table {
			if sid == row[1] || sid == "" && subject == row[2] {
				keys = append(keys, row[0])
			}
		}
		return keys
	}
	h := &login.Handlers{
		Client: client,
		OnLogin: func(_ http.ResponseWriter, r *http.Request, s *login.Session) error {
			var claims struct{ SID string }
			if err := s.IDToken.Claims(&claims); err != nil {
				return err
			}
			if err := remember(s.ID, claims.SID, s.IDToken.Subject); err != nil {
				return err
			}
			return users.Source(s.ID).SetToken(r.Context(), s.Token)
		},
	}
	mux.HandleFunc("GET /login", h.Login)
	mux.HandleFunc("/callback", h.Callback)
	mux.Handle("POST /backchannel-logout", &login.BackChannelLogout{
		Client: client,
		OnLogout: func(ctx context.Context, t *login.LogoutToken) error {
			for _, key := range keysOf(t.SessionID, t.Subject) {
				// End the application's own session here.
				if _, err := users.Source(key).Forget(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	})

	if err := browser(context.Background(), app.URL+"/login"); err != nil {
		fmt.Println(err)
	}
	// An administrator ends the session at the server.
	resp, err := http.PostForm(issuer+"/end", url.Values{"client_id": {"my-app"}, "uri": {app.URL + "/backchannel-logout"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	_, err = users.Source(table[0][0]).Token()
	fmt.Println("logged out:", errors.Is(err, authtrip.ErrLoggedOut))
	// Output:
	// the application answers 200 OK
	// logged out: true
}

// A service in Kubernetes has no secret: the cluster signs who it is, in a file that
// the kubelet writes anew before it expires.
func ExampleClient_workloadIdentity() {
	dir, err := os.MkdirTemp("", "tokens")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "oauth") // such as /var/run/secrets/tokens/oauth
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("the service is", r.FormValue("client_assertion"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 300}`, "for "+r.FormValue("client_assertion"))
	}))
	defer server.Close()

	client := &login.Client{
		Provider:      &login.Provider{Issuer: server.URL, Static: &login.Metadata{TokenEndpoint: server.URL + "/token"}},
		ID:            "my-service",
		AssertionFunc: func(context.Context) (string, error) { b, err := os.ReadFile(file); return string(b), err },
	}
	src := &authtrip.Source{Refresher: client.ClientCredentials(nil)}
	defer func() { _ = src.Close() }()
	for _, signed := range []string{"the first token", "the second token"} {
		if err := os.WriteFile(file, []byte(signed), 0o600); err != nil {
			fmt.Println(err)
			return
		}
		if _, err := src.Refresh(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// the service is the first token
	// the service is the second token
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
		"jwks_uri": server.URL + "/keys", "revocation_endpoint": server.URL + "/revoke", "id_token_signing_alg_values_supported": []string{"ES256"},
	}))
	mux.HandleFunc("/keys", answer(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), Use: "sig"}}}))
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		back := url.Values{"code": {q.Get("client_id") + " " + q.Get("nonce")}, "state": {q.Get("state")}}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	})
	// signed is a token of this server about alice and her session, with one claim more.
	signed := func(audience, claim string, value any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
		if err != nil {
			panic(err)
		}
		now := time.Now()
		raw, err := jwt.Signed(signer).Claims(map[string]any{
			"iss": server.URL, "sub": "alice", "sid": "s1", "aud": audience, claim: value, "jti": rand.Text(),
			"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		}).Serialize()
		if err != nil {
			panic(err)
		}
		return raw
	}
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		var client, nonce string
		_, _ = fmt.Sscan(r.FormValue("code"), &client, &nonce)
		idToken := signed(client, "nonce", nonce)
		answer(map[string]any{"access_token": "secret", "token_type": "Bearer", "expires_in": 300, "id_token": idToken})(w, r)
	})
	mux.HandleFunc("POST /end", func(_ http.ResponseWriter, r *http.Request) {
		events := map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}
		resp, err := http.PostForm(r.FormValue("uri"), url.Values{"logout_token": {signed(r.FormValue("client_id"), "events", events)}})
		if err != nil {
			panic(err)
		}
		defer resp.Body.Close()
		fmt.Println("the application answers", resp.Status)
	})
	mux.HandleFunc("POST /revoke", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("revoked:", r.FormValue("token_type_hint"))
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
