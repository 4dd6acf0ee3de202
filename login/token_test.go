package login_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

func TestRule16TokenRequestIsPost(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	var method, query, contentType string
	o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) {
		method, query, contentType = r.Method, r.URL.RawQuery, r.Header.Get("Content-Type")
		o.serveToken(w, r)
	}
	if _, err := o.run(t, o.client(), nil); err != nil {
		t.Fatal(err)
	}
	if method != http.MethodPost || query != "" || contentType != "application/x-www-form-urlencoded" {
		t.Errorf("request = %s ?%s %s", method, query, contentType)
	}
}

func TestRule18BasicIsFormEncoded(t *testing.T) {
	t.Parallel()
	for raw, want := range map[bool]string{
		false: clientID + ":s3cr3t+with+space%2Bplus%25",
		true:  clientID + ":" + clientToken,
	} {
		o := newOP(t)
		o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Authorization")
			o.serveToken(w, r)
		}
		var got string
		o.token = func(map[string]any) {}
		c := o.client()
		c.RawBasic = raw
		o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) {
			b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "))
			got = string(b)
			r.Header.Del("Authorization")
			o.serveToken(w, r)
		}
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("RawBasic %v: %q, want %q", raw, got, want)
		}
	}
}

func TestRule19PlainHTTP(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, bad := range []string{"http://as.example", "as.example", "", "ftp://as.example", "https://as.example?x=1", "https://as.example#x", "https://u@as.example"} {
		if _, err := login.Discover(ctx, bad); err == nil {
			t.Errorf("issuer %q was taken", bad)
		}
	}
	for _, member := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
		for _, place := range []string{"http://as.example/x", "http://127.0.0.1:1/x", "/x", "https://as.example/x#y"} {
			o := newOP(t)
			o.metadata = func(m map[string]any) { m[member] = place }
			c := o.client()
			at, tx, err := c.AuthCodeURL(ctx, nil)
			if err == nil {
				u, _ := url.Parse(at)
				_, err = c.Exchange(ctx, tx, callback(o.consent(u.Query())))
			}
			if err == nil {
				t.Errorf("%s %s was taken", member, place)
			}
			noTokenRequest(t, o)
		}
	}
	o := newOP(t)
	o.issuer = "http://as.internal"
	o.network.Handle(o.issuer, o)
	c := o.client()
	c.Provider.AllowInsecureHTTP = true
	if _, err := o.run(t, c, nil); err != nil {
		t.Errorf("AllowInsecureHTTP: %v", err)
	}
}

func TestRule20RedirectsAreRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/token", "/par", "/revoke", "/introspect", "/device"} {
		o := newOP(t)
		o.handle[path] = func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
		}
		evil := 0
		o.network.Handle("https://evil.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { evil++ }))
		c := o.client()
		c.PushRequests = path == "/par"
		var err error
		switch path {
		case "/revoke":
			err = c.Revoke(t.Context(), &oauth2.Token{AccessToken: "x"})
		case "/introspect":
			_, err = c.Introspect(t.Context(), "x")
		case "/device":
			_, err = c.DeviceAuth(t.Context(), nil)
		default:
			at, tx, aerr := c.AuthCodeURL(t.Context(), nil)
			if err = aerr; err == nil {
				u, _ := url.Parse(at)
				_, err = c.Exchange(t.Context(), tx, callback(o.consent(u.Query())))
			}
		}
		if err == nil || evil != 0 {
			t.Errorf("%s: error %v, requests to where it points %d", path, err, evil)
		}
	}
}

func TestRule21TokenResponse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(o *op){
		"no access_token":         func(o *op) { o.token = func(m map[string]any) { delete(m, "access_token") } },
		"access_token no string":  func(o *op) { o.token = func(m map[string]any) { m["access_token"] = 7 } },
		"status 400 with a token": func(o *op) { o.status = http.StatusBadRequest },
		"error with status 200":   func(o *op) { o.token = func(m map[string]any) { m["error"] = "invalid_request" } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			change(o)
			s, err := o.run(t, o.client(), nil)
			if _, ok := errors.AsType[*authtrip.RefreshError](err); !ok || s != nil {
				t.Errorf("session %v, error %v", s, err)
			}
		})
	}
}

// TestRule21ForgivenTokenResponse: LinkedIn and Slack send no token_type, and 201 is a
// success.
func TestRule21ForgivenTokenResponse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(o *op){
		"no token_type": func(o *op) { o.token = func(m map[string]any) { delete(m, "token_type") } },
		"status 201":    func(o *op) { o.status = http.StatusCreated },
	} {
		o := newOP(t)
		change(o)
		if s, err := o.run(t, o.client(), nil); err != nil || s.Token.Type() != "Bearer" {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestRule22TokenType(t *testing.T) {
	t.Parallel()
	for typ, ok := range map[string]bool{"Bearer": true, "bearer": true, "BEARER": true, "mac": false, "DPoP": false, "N_A": false} {
		o := newOP(t)
		o.token = func(m map[string]any) { m["token_type"] = typ }
		_, err := o.run(t, o.client(), nil)
		if ok && err != nil {
			t.Errorf("%s: %v", typ, err)
		}
		if !ok {
			wantCheck(t, err, "token_type")
		}
	}
}

func TestRule23NoExpiry(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.token = func(m map[string]any) { delete(m, "expires_in") }
	s, err := o.run(t, o.client(), nil)
	if err != nil || !s.Token.Expiry.IsZero() {
		t.Errorf("error %v", err)
	}
}

func TestRule24AccessTokenIsOpaque(t *testing.T) {
	t.Parallel()
	// It looks like a JWT that ended long ago; nobody looks.
	o := newOP(t)
	jwt := "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1,"iss":"https://evil.example"}`)) + "."
	o.token = func(m map[string]any) { m["access_token"] = jwt }
	o.claims = func(c map[string]any) { delete(c, "at_hash") }
	s, err := o.run(t, o.client(), nil)
	if err != nil || s.Token.AccessToken != jwt || !s.Token.Valid() {
		t.Errorf("error %v", err)
	}
}

func TestRule25ScopeIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	for granted, want := range map[string]string{"": "[openid books]", "openid": "[openid]"} {
		o := newOP(t)
		o.token = func(m map[string]any) {
			if granted != "" {
				m["scope"] = granted
			}
		}
		s, err := o.run(t, o.client(), &login.AuthRequest{Scopes: []string{"openid", "books"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(s.Scopes); got != want {
			t.Errorf("Scopes = %s, want %s", got, want)
		}
	}
}

func TestRule29RefreshTokenGoesToItsIssuer(t *testing.T) {
	t.Parallel()
	// The server's metadata changes hands; the refresh token does not.
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		s, err := o.run(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		evil := 0
		o.network.Handle("https://evil.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { evil++ }))
		o.metadata = func(m map[string]any) {
			m["issuer"] = "https://evil.example"
			m["token_endpoint"] = "https://evil.example/token"
		}
		src := sourceOf(t, c, s)
		wait(2 * time.Hour) // both the metadata and the token are old
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wait(2 * time.Hour)
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		if n := o.count("/token"); n != 3 || evil != 0 {
			t.Errorf("token requests = %d, elsewhere %d, want 3 and 0", n, evil)
		}
		_ = src.Close()
		synctest.Wait()
	})
}

func TestRule51MetadataIsUsed(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { m["authorization_endpoint"] = issuer + "/elsewhere?tenant=1" }
	c := o.client()
	at, _, err := c.AuthCodeURL(t.Context(), nil)
	if err != nil || !strings.HasPrefix(at, issuer+"/elsewhere?tenant=1&") {
		t.Errorf("AuthCodeURL is not what the metadata says: %v", err)
	}
	o = newOP(t)
	o.metadata = func(m map[string]any) {
		m["authorization_endpoint"], m["end_session_endpoint"] = issuer+"/authorize?state=mine", issuer+"/logout?client_id=mine"
	}
	c = o.client()
	if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil {
		t.Error("an endpoint with a state of its own was taken")
	}
	if _, err := c.LogoutURL(t.Context(), nil); err == nil {
		t.Error("an endpoint with a client_id of its own was taken")
	}
}

// TestSourceWithoutALoginSaysSo also while the provider cannot be reached: there is
// nothing that it could be asked.
func TestSourceWithoutALoginSaysSo(t *testing.T) {
	t.Parallel()
	c := &login.Client{Provider: &login.Provider{Issuer: "http://127.0.0.1:1"}, ID: "cli"}
	src := c.Source()
	src.Store, src.Key = new(authtrip.MemoryStore), "alice"
	t.Cleanup(func() { _ = src.Close() })
	if _, err := src.Token(); !errors.Is(err, authtrip.ErrNoSession) {
		t.Errorf("Token() = %v, want %v", err, authtrip.ErrNoSession)
	}
}
