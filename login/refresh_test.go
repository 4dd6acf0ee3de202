package login_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// A login for one resource was refreshed for those of the Client. A server that
// compares them answered invalid_target, and the session ended.
func TestRefreshAsksForTheResourcesOfItsLogin(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		client, login, want []string
	}{
		"of the login":           {[]string{"https://a.example"}, []string{"https://b.example", "urn:c"}, []string{"https://b.example", "urn:c"}},
		"of the client":          {[]string{"https://a.example"}, nil, []string{"https://a.example"}},
		"none, by choice":        {[]string{"https://a.example"}, []string{}, nil},
		"none":                   {nil, nil, nil},
		"of the login, no other": {nil, []string{"https://b.example"}, []string{"https://b.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				c := o.client()
				c.Resources = tt.client
				s, err := o.run(t, c, &login.AuthRequest{Resources: tt.login})
				if err != nil {
					t.Fatal(err)
				}
				tok := s.Token
				for range 2 { // the second one with what the first has returned
					if tok, err = c.RefreshToken().Refresh(t.Context(), tok); err != nil {
						t.Fatal(err)
					}
					if form, _ := o.last("/token"); !slices.Equal(form["resource"], tt.want) {
						t.Errorf("resource = %q, want %q", form["resource"], tt.want)
					}
				}
				src := sourceOf(t, c, s)
				defer src.Close()
				wait(time.Hour)
				if _, err := src.Token(); err != nil {
					t.Fatal(err)
				}
				if form, _ := o.last("/token"); !slices.Equal(form["resource"], tt.want) {
					t.Errorf("resource of the Source = %q, want %q", form["resource"], tt.want)
				}
				if id, ok := s.Token.Extra("id_token").(string); !ok || id == "" || s.Token.Extra("token_type") != "Bearer" {
					t.Error("members of the token response are lost")
				}
			})
		})
	}
}

// silent is a token endpoint that takes a request and never answers.
func silent(o *op) (stop func()) {
	ctx, stop := context.WithCancel(context.Background())
	o.handle["/token"] = func(http.ResponseWriter, *http.Request) { <-ctx.Done() }
	return stop
}

// A token endpoint that takes the request and says nothing held up the login for
// ever.
func TestExchangeHasADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		asked, tx := begin(t, c, nil)
		q := callback(o.consent(asked))
		defer silent(o)()
		start := time.Now()
		_, err := c.Exchange(t.Context(), tx, q)
		if took := time.Since(start); err == nil || took != 30*time.Second {
			t.Errorf("took %v, error %v", took, err)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want a deadline's", err)
		}
	})
}

// The same for a device login: one poll without an answer, and the login never
// ended.
func TestDevicePollHasADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		device(o)
		answers := o.handle["/token"]
		c := o.client()
		d, err := c.DeviceAuth(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		stop := silent(o)
		defer stop()
		go func() { wait(20 * time.Second); o.mu.Lock(); o.handle["/token"] = answers; o.mu.Unlock() }()
		if _, err := c.DeviceToken(t.Context(), d, nil); err != nil {
			t.Error(err)
		}
	})
}

// A grant without a user has one too.
func TestClientCredentialsHaveADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		if _, err := c.Provider.Metadata(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer silent(o)()
		start := time.Now()
		if _, err := c.ClientCredentials(nil).Refresh(t.Context(), nil); err == nil || time.Since(start) > time.Minute {
			t.Errorf("took %v, error %v", time.Since(start), err)
		}
	})
}

// A browser that went away while the code was exchanged took the answer with it:
// the code was spent, and the tokens were lost.
func TestRule65ExchangeOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) { wait(3 * time.Second); o.serveToken(w, r) }
		c := o.client()
		asked, tx := begin(t, c, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err := c.Exchange(ctx, tx, callback(o.consent(asked)))
		if err != nil || s.IDToken.Subject != "alice" {
			t.Errorf("error = %v", err)
		}
		// One that has left before finds nothing spent.
		asked, tx = begin(t, c, nil)
		q := callback(o.consent(asked))
		n := o.count("/token")
		if _, err = c.Exchange(ctx, tx, q); !errors.Is(err, context.DeadlineExceeded) || o.count("/token") != n {
			t.Errorf("error = %v, codes spent %d", err, o.count("/token")-n)
		}
		if _, err = c.Exchange(t.Context(), tx, q); err != nil {
			t.Error(err)
		}
	})
}

// RFC 8693 has token_type N_A for a token that is none for a request's header; the
// exchange refused it.
func TestTokenExchangeTakesATokenThatIsNoAccessToken(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.token = func(m map[string]any) {
		m["token_type"], m["issued_token_type"] = "N_A", "urn:ietf:params:oauth:token-type:saml2"
	}
	c := o.client()
	subject := func(context.Context) (string, string, error) { return "theirs", "their:type", nil }
	tok, err := c.TokenExchange(nil, subject).Refresh(t.Context(), nil)
	if err != nil || tok.Extra("issued_token_type") != "urn:ietf:params:oauth:token-type:saml2" {
		t.Errorf("error = %v", err)
	}
	_, err = c.ClientCredentials(nil).Refresh(t.Context(), nil)
	wantCheck(t, err, "token_type")
}

// A token_type of no known kind in the answer to one refresh ended the session, and its
// successor was dropped: with a server that rotates, the login was lost. Rule 22 has such a
// token not used; Rule 54 has nothing but the server's no end a session, and this is none.
// So the refresh token is kept, the request is an error that names the type, and the next
// refresh goes on.
func TestRefreshedTokenOfAnUnknownTypeEndsNoSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		o.network.Handle("https://api.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		c := o.client()
		s, err := o.run(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		src := sourceOf(t, c, s)
		defer src.Close()
		api := &http.Client{Transport: &authtrip.Transport{Source: src, Base: o.network}}
		o.token = func(m map[string]any) { m["token_type"], m["refresh_token"] = "mac", "successor" }
		wait(20 * time.Minute)
		if _, err = api.Get("https://api.example/"); err == nil || !strings.Contains(err.Error(), `token has type "mac", want Bearer`) {
			t.Errorf("error = %v, want one that names the type", err)
		}
		if errors.Is(err, authtrip.ErrReauthRequired) || src.Status().NeedsLogin() {
			t.Errorf("the session has ended: %v", err)
		}
		o.token = nil
		wait(20 * time.Minute)
		resp, err := api.Get("https://api.example/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if form, _ := o.last("/token"); form.Get("refresh_token") != "successor" {
			t.Error("the successor was not kept")
		}
	})
}

// A server went over to another algorithm, and the metadata at hand did not say so yet:
// every user who was refreshed then was logged out. The ID token that cannot be verified
// is left out, and the one from before stays.
func TestRefreshAfterAChangeOfAlgorithmEndsNoSession(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(o *op){
		"another algorithm": func(o *op) {
			key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				o.t.Fatal(err)
			}
			o.sign = func(c map[string]any) string { return o.signedBy(opKey{"k2", key, jose.ES384}, c) }
		},
		"none": func(o *op) { o.sign = unsigned },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			c := o.client()
			s, err := o.run(t, c, nil)
			if err != nil {
				t.Fatal(err)
			}
			change(o)
			tok, err := c.RefreshToken().Refresh(t.Context(), s.Token)
			if err != nil || tok.Extra("id_token") != nil {
				t.Errorf("error = %v, or the ID token that nobody can verify is kept", err)
			}
		})
	}
}

// Step-up dropped what the session could do before, and asked for openid where no
// login ever had.
func TestRule67StepUpAsksForTheUnion(t *testing.T) {
	t.Parallel()
	ch := authtrip.Challenge{Scope: "books.write openid2 books.read", ACRValues: []string{"mfa"}, MaxAge: -1}
	for name, tt := range map[string]struct {
		req  *login.AuthRequest
		want string
	}{
		"of the client":            {login.StepUp(ch), "openid books.read books.write openid2"},
		"of the session":           {(&login.Session{Scopes: []string{"a"}}).StepUp(ch), "a books.write openid2 books.read"},
		"of a session with openid": {(&login.Session{Scopes: []string{"a"}, IDToken: new(login.IDToken)}).StepUp(ch), "openid a books.write openid2 books.read"},
		"without a scope":          {(&login.Session{Scopes: []string{"a"}}).StepUp(authtrip.Challenge{MaxAge: -1}), "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			c := o.client()
			c.Scopes = []string{"openid", "books.read"}
			asked, _ := begin(t, c, tt.req)
			if asked.Get("scope") != tt.want {
				t.Errorf("scope = %q, want %q", asked.Get("scope"), tt.want)
			}
		})
	}
}

// At a server that is none of OpenID Connect a login failed after the user had
// logged in, with a word about keys.
func TestOpenIDAtAServerWithoutKeysIsSaidBeforeTheBrowserOpens(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { delete(m, "jwks_uri") }
	c := o.client()
	_, _, err := c.AuthCodeURL(t.Context(), nil)
	_, derr := c.DeviceAuth(t.Context(), nil)
	for _, err := range []error{err, derr} {
		if err == nil || err.Error() != "login: Client.Scopes: openid is asked for (as it is if Scopes is nil), and the provider has no jwks_uri: without ID tokens, set Scopes to those of the API" {
			t.Errorf("error = %v", err)
		}
	}
	c.Scopes = []string{"books"}
	if s, err := o.run(t, c, login.StepUp(authtrip.Challenge{Scope: "more"})); err != nil || s.IDToken != nil {
		t.Errorf("without openid: %v", err)
	}
}

// Handlers asked for keys that a login without openid does not need, and failed where
// they could not be had.
func TestHandlersNeedNoKeysWithoutOpenID(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	c := o.client()
	c.Scopes = []string{"books"}
	h := &login.Handlers{Client: c}
	app := newWeb(o, h)
	var got *oauth2.Token
	h.OnLogin = func(_ http.ResponseWriter, _ *http.Request, s *login.Session) error { got = s.Token; return nil }
	b := newBrowser(t, o)
	_, at := b.get("https://app.example/login")
	if resp, _ := b.get(callback(o.consent(at.Query()))); resp.StatusCode != http.StatusSeeOther || got == nil {
		t.Errorf("status %d %v", resp.StatusCode, app.failed)
	}
}

// User info was asked for at the endpoint for clients without a certificate, and a
// client with a key whose tokens are bound to its certificate could use none of the
// endpoints that are for it.
func TestAliasesForCertificates(t *testing.T) {
	t.Parallel()
	key := newKey(t, "").key
	for name, change := range map[string]func(c *login.Client){
		"tls_client_auth":             func(c *login.Client) { c.Secret, c.AuthMethod = "", "tls_client_auth" },
		"self_signed_tls_client_auth": func(c *login.Client) { c.Secret, c.AuthMethod = "", "self_signed_tls_client_auth" },
		"private_key_jwt": func(c *login.Client) {
			c.Secret, c.AuthMethod, c.Key, c.CertificateBoundTokens = "", "private_key_jwt", key, true
		},
		"a secret":               func(c *login.Client) { c.CertificateBoundTokens = true },
		"a public client":        func(c *login.Client) { c.Secret, c.AuthMethod, c.CertificateBoundTokens = "", "none", true },
		"without a certificate":  func(*login.Client) {},
		"a key, no certificates": func(c *login.Client) { c.Secret, c.AuthMethod, c.Key = "", "private_key_jwt", key },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // a device login waits
				o := newOP(t)
				var mu sync.Mutex
				hosts := map[string]string{}
				for _, at := range []string{issuer, mtlsIssuer} {
					o.network.Handle(at, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						mu.Lock()
						if before, ok := hosts[r.URL.Path]; ok && before != at {
							t.Errorf("%s is asked at both places", r.URL.Path)
						}
						hosts[r.URL.Path] = at
						mu.Unlock()
						o.ServeHTTP(w, r)
					}))
				}
				aliases := map[string]string{}
				for name, path := range mtlsEndpoints() {
					aliases[name] = mtlsIssuer + path
				}
				o.metadata = func(m map[string]any) { m["mtls_endpoint_aliases"] = aliases }
				c := o.client()
				change(c)
				useEverything(t, o, c)
				want := mtlsIssuer
				if !c.CertificateBoundTokens && !strings.Contains(c.AuthMethod, "tls") {
					want = issuer
				}
				for endpoint, path := range mtlsEndpoints() {
					if hosts[path] != want {
						t.Errorf("%s: asked at %q, want %q", endpoint, hosts[path], want)
					}
				}
			})
		})
	}
}

// A server that is none of OpenID Connect, and sends an id_token all the same, could not be
// logged in at: there are no keys to verify it with, and nobody had asked for it.
func TestIDTokenThatNobodyAskedForNorCanVerifyIsLeftOut(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { delete(m, "jwks_uri") }
	o.token = func(m map[string]any) { m["id_token"] = "a.b.c" }
	c := o.client()
	c.Scopes = []string{"books"}
	s, err := o.run(t, c, nil)
	if err != nil || s.IDToken != nil || s.Token.Extra("id_token") != nil {
		t.Errorf("error = %v, or the ID token is there", err)
	}
}

const mtlsIssuer = "https://mtls.example"

// mtlsEndpoints are those at which a client shows who it is (RFC 8705, section 5), and their
// paths.
func mtlsEndpoints() map[string]string {
	return map[string]string{
		"token_endpoint": "/token", "userinfo_endpoint": "/userinfo", "revocation_endpoint": "/revoke",
		"introspection_endpoint": "/introspect", "device_authorization_endpoint": "/device",
		"pushed_authorization_request_endpoint": "/par",
	}
}

// useEverything asks each endpoint of a server.
func useEverything(t *testing.T, o *op, c *login.Client) {
	t.Helper()
	var pushed url.Values
	o.handle["/par"] = func(w http.ResponseWriter, r *http.Request) {
		pushed = r.PostForm
		reply(w, http.StatusCreated, map[string]any{"request_uri": "urn:ietf:params:oauth:request_uri:1", "expires_in": 60})
	}
	o.handle["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, map[string]any{"sub": "alice"}) }
	o.handle["/revoke"] = func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, map[string]any{}) }
	o.handle["/introspect"] = func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, map[string]any{"active": true}) }
	deviceAnswer(o, func(map[string]any) {})
	c.PushRequests = true
	_, tx := begin(t, c, nil)
	s, err := c.Exchange(t.Context(), tx, callback(o.consent(pushed)))
	if err != nil {
		t.Fatal(err)
	}
	src := sourceOf(t, c, s)
	defer src.Close()
	users := c.UserInfoSource(src)
	defer users.Close()
	d, err := c.DeviceAuth(t.Context(), &login.AuthRequest{Scopes: []string{"books"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := users.UserInfo(t.Context())
	_, err2 := src.Refresh(t.Context())
	_, err3 := c.Introspect(t.Context(), s.Token.AccessToken)
	_, err4 := c.DeviceToken(t.Context(), d, &login.AuthRequest{Scopes: []string{"books"}})
	_, err5 := c.ClientCredentials(nil).Refresh(t.Context(), nil)
	if err := errors.Join(err1, err2, err3, err4, err5, c.Revoke(t.Context(), s.Token)); err != nil {
		t.Error(err)
	}
}
