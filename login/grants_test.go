package login_test

import (
	"context"
	"encoding/json"
	"errors"
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

func TestGrants(t *testing.T) {
	t.Parallel()
	const urn = "urn:ietf:params:oauth:grant-type:"
	req := &login.TokenRequest{
		Scopes: []string{"books"}, Resources: []string{"https://api.example"}, Params: url.Values{"audience": {"api"}},
		Form: func(_ context.Context, form url.Values) error { form.Set("actor_token", "actor"); return nil },
	}
	for name, tt := range map[string]struct {
		make func(c *login.Client) authtrip.Refresher
		want url.Values
	}{
		"client credentials": {
			func(c *login.Client) authtrip.Refresher { return c.ClientCredentials(req) },
			url.Values{"grant_type": {"client_credentials"}},
		},
		"JWT bearer": {
			func(c *login.Client) authtrip.Refresher {
				return c.JWTBearer(req, func(context.Context) (string, error) { return "assertion", nil })
			},
			url.Values{"grant_type": {urn + "jwt-bearer"}, "assertion": {"assertion"}},
		},
		"token exchange": {
			func(c *login.Client) authtrip.Refresher {
				return c.TokenExchange(req, func(context.Context) (string, string, error) { return "theirs", "their:type", nil })
			},
			url.Values{"grant_type": {urn + "token-exchange"}, "subject_token": {"theirs"}, "subject_token_type": {"their:type"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			src := &authtrip.Source{Refresher: tt.make(o.client())}
			if tok, err := src.Token(); err != nil || tok.AccessToken == "" {
				t.Fatal(err)
			}
			form, header := o.last("/token")
			for k := range tt.want {
				if form.Get(k) != tt.want.Get(k) {
					t.Errorf("%s = %q, want %q", k, form.Get(k), tt.want.Get(k))
				}
			}
			if form.Get("scope") != "books" || form.Get("audience") != "api" || form.Get("resource") != "https://api.example" ||
				form.Get("actor_token") != "actor" || methods(form, header) != 1 {
				t.Errorf("form = %v", form)
			}
			_ = src.Close()
		})
	}
}

func TestGrantErrors(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	broken := errors.New("no assertion today")
	for name, r := range map[string]authtrip.Refresher{
		"reserved parameter": c.ClientCredentials(&login.TokenRequest{Params: url.Values{"grant_type": {"password"}}}),
		"bad resource":       c.ClientCredentials(&login.TokenRequest{Resources: []string{"x"}}),
		"assertion":          c.JWTBearer(nil, func(context.Context) (string, error) { return "", broken }),
		"no endpoint": (&login.Client{Provider: &login.Provider{Issuer: issuer, Static: new(login.Metadata)}, ID: clientID}).
			ClientCredentials(nil),
		"no client": (&login.Client{Provider: o.provider()}).ClientCredentials(nil),
	} {
		_, err := r.Refresh(t.Context(), nil)
		if re, ok := errors.AsType[*authtrip.RefreshError](err); !ok || errors.Is(err, authtrip.ErrReauthRequired) {
			t.Errorf("%s: error is %T %v, want a RefreshError", name, err, re)
		}
	}
	noTokenRequest(t, o)
}

// device answers the device endpoints; each poll is answered by the next step.
func device(o *op, steps ...http.HandlerFunc) {
	o.handle["/device"] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{
			"device_code": "dc-secret", "user_code": "ABCD-EFGH", "verification_uri": issuer + "/activate",
			"expires_in": 300, "interval": 5,
		})
	}
	n := 0
	o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) {
		n++
		if n <= len(steps) {
			steps[n-1](w, r)
			return
		}
		r.PostForm.Set("scope", "openid")
		o.serveToken(w, r)
	}
}

func deviceError(code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusBadRequest, map[string]any{"error": code})
	}
}

func TestDeviceLogin(t *testing.T) {
	t.Parallel()
	lose := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	fail := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	pending, slow := deviceError("authorization_pending"), deviceError("slow_down")
	for name, tt := range map[string]struct {
		steps []http.HandlerFunc
		took  time.Duration
		code  string
	}{
		"at once":        {nil, 5 * time.Second, ""},
		"pending":        {[]http.HandlerFunc{pending, pending}, 15 * time.Second, ""},
		"slow_down":      {[]http.HandlerFunc{pending, slow, pending}, 30 * time.Second, ""},
		"a lost answer":  {[]http.HandlerFunc{pending, lose}, 20 * time.Second, ""},
		"a failed proxy": {[]http.HandlerFunc{fail, pending}, 25 * time.Second, ""},
		"denied":         {[]http.HandlerFunc{pending, deviceError("access_denied")}, 10 * time.Second, "access_denied"},
		"expired":        {[]http.HandlerFunc{deviceError("expired_token")}, 5 * time.Second, "expired_token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				device(o, tt.steps...)
				c := o.client()
				d, err := c.DeviceAuth(t.Context(), nil)
				if err != nil || d.UserCode != "ABCD-EFGH" {
					t.Fatal(err)
				}
				start := time.Now()
				s, err := c.DeviceToken(t.Context(), d, nil)
				if took := time.Since(start).Round(time.Second); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if tt.code == "" {
					if err != nil || s.IDToken.Subject != "alice" {
						t.Fatal(err)
					}
					return
				}
				if ae, ok := errors.AsType[*login.AuthorizationError](err); !ok || ae.Code != tt.code {
					t.Errorf("error is %T %v", err, err)
				}
			})
		})
	}
}

func TestDeviceLoginEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		device(o)
		o.handle["/token"] = deviceError("authorization_pending")
		c := o.client()
		d, err := c.DeviceAuth(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		if _, err := c.DeviceToken(ctx, d, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v", err)
		}
		_, err = c.DeviceToken(t.Context(), d, nil)
		if ae, ok := errors.AsType[*login.AuthorizationError](err); !ok || ae.Code != "expired_token" {
			t.Errorf("error is %T %v", err, err)
		}
		if n := o.count("/token"); n > 62 {
			t.Errorf("polls = %d", n)
		}
	})
}

func TestPushedRequest(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { m["require_pushed_authorization_requests"] = true }
	o.handle["/par"] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusCreated, map[string]any{"request_uri": "urn:example:1", "expires_in": 60})
	}
	c := o.client()
	asked, tx := begin(t, c, nil)
	if len(asked) != 2 || asked.Get("request_uri") != "urn:example:1" || asked.Get("client_id") != clientID {
		t.Errorf("the browser carries %v", asked)
	}
	form, header := o.last("/par")
	if form.Get("state") != tx.State || form.Get("code_challenge") == "" || methods(form, header) != 1 {
		t.Error("the request was not pushed whole")
	}
	if _, err := c.Exchange(t.Context(), tx, callback(o.consent(form))); err != nil {
		t.Error(err)
	}
	o.handle["/par"] = deviceError("invalid_request")
	_, tx, err := c.AuthCodeURL(t.Context(), nil)
	if ee, ok := errors.AsType[*login.EndpointError](err); !ok || ee.Code != "invalid_request" || tx != nil {
		t.Errorf("error is %T %v", err, err)
	}
}

func TestAuthRequest(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	asked, _ := begin(t, o.client(), &login.AuthRequest{
		Scopes: []string{"openid", "email"}, Prompt: "login", LoginHint: "alice", MaxAge: time.Minute,
		ACRValues: []string{"mfa", "pwd"}, UILocales: []string{"de", "en"}, FormPost: true,
		Resources: []string{"https://api.example"}, Params: url.Values{"display": {"page"}},
	})
	for k, v := range map[string]string{
		"response_type": "code", "scope": "openid email", "prompt": "login", "login_hint": "alice", "max_age": "60",
		"acr_values": "mfa pwd", "ui_locales": "de en", "response_mode": "form_post", "resource": "https://api.example",
		"display": "page", "redirect_uri": redirectURL,
	} {
		if asked.Get(k) != v {
			t.Errorf("%s = %q, want %q", k, asked.Get(k), v)
		}
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	status, code := http.StatusOK, ""
	var hints []string
	o.handle["/revoke"] = func(w http.ResponseWriter, r *http.Request) {
		hints = append(hints, r.PostForm.Get("token_type_hint"))
		if status != http.StatusOK && r.PostForm.Get("token_type_hint") == "access_token" {
			reply(w, status, map[string]any{"error": code})
		}
	}
	c := o.client()
	both := &oauth2.Token{AccessToken: "a", RefreshToken: "r"}
	if err := c.Revoke(t.Context(), both); err != nil || len(hints) != 2 || hints[0] != "refresh_token" {
		t.Errorf("hints = %q, %v", hints, err)
	}
	status, code = http.StatusBadRequest, "unsupported_token_type"
	if err := c.Revoke(t.Context(), both); err != nil {
		t.Error(err)
	}
	err := c.Revoke(t.Context(), &oauth2.Token{AccessToken: "a"})
	if ee, ok := errors.AsType[*login.EndpointError](err); !ok || ee.Code != code {
		t.Errorf("error is %T %v", err, err)
	}
	if c.Revoke(t.Context(), nil) == nil || c.Revoke(t.Context(), new(oauth2.Token)) == nil {
		t.Error("nothing was revoked, without an error")
	}
}

func TestIntrospect(t *testing.T) {
	t.Parallel()
	active := map[string]any{"active": true, "scope": "a b", "sub": "alice", "client_id": "x", "exp": 5}
	typed := func(o *op, typ string, claims map[string]any) []byte {
		k := o.keys[0]
		return []byte(sign(o.t, signingKey(k), typeOf(typ), claims))
	}
	body := func(iss, aud string) map[string]any {
		return map[string]any{"iss": iss, "aud": aud, "iat": 1, "token_introspection": active}
	}
	const right = "token-introspection+jwt"
	for name, tt := range map[string]struct {
		jwt   func(o *op) []byte // nil: JSON
		check string
	}{
		"JSON":           {nil, ""},
		"JWT":            {func(o *op) []byte { return typed(o, right, body(issuer, clientID)) }, ""},
		"another type":   {func(o *op) []byte { return typed(o, "JWT", body(issuer, clientID)) }, "introspection typ"},
		"another server": {func(o *op) []byte { return typed(o, right, body("https://evil.example", clientID)) }, "introspection iss"},
		"another client": {func(o *op) []byte { return typed(o, right, body(issuer, "other")) }, "introspection aud"},
		"no iss":         {func(o *op) []byte { return typed(o, right, body("", clientID)) }, "introspection"},
		"alg none":       {func(*op) []byte { return []byte(unsigned(body(issuer, clientID))) }, "introspection alg"},
		"nothing in it":  {func(o *op) []byte { return typed(o, right, map[string]any{"iss": issuer, "aud": clientID}) }, "introspection"},
		"a stranger's": {func(o *op) []byte {
			return []byte(sign(o.t, signingKey(newKey(o.t, "k1")), right, body(issuer, clientID)))
		}, "introspection signature"},
		"not a JWT":        {func(*op) []byte { return []byte("x") }, "introspection"},
		"JSON as a string": {func(*op) []byte { return []byte(`"x"`) }, "introspection"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.metadata = func(m map[string]any) { m["introspection_signing_alg_values_supported"] = []string{"ES256"} }
			o.handle["/introspect"] = func(w http.ResponseWriter, _ *http.Request) {
				if tt.jwt == nil {
					reply(w, http.StatusOK, active)
					return
				}
				w.Header().Set("Content-Type", "application/token-introspection+jwt")
				_, _ = w.Write(tt.jwt(o))
			}
			i, err := o.client().Introspect(t.Context(), "some-token")
			if tt.check != "" {
				wantCheck(t, err, tt.check)
				return
			}
			if err != nil || !i.Active || i.Subject != "alice" || len(i.Scopes) != 2 {
				t.Fatalf("%+v, %v", i, err)
			}
			var c struct{ Exp int }
			if err := i.Claims(&c); err != nil || c.Exp != 5 {
				t.Error(err)
			}
		})
	}
	o := newOP(t)
	o.handle["/introspect"] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"active": false, "sub": "alice"})
	}
	if i, err := o.client().Introspect(t.Context(), "x"); err != nil || i.Active || i.Subject != "" {
		t.Errorf("%+v, %v", i, err)
	}
}

// What is asked for in detail is one JSON document, and what was granted comes back.
func TestAuthorizationDetails(t *testing.T) {
	t.Parallel()
	type payment struct {
		Type   string `json:"type"`
		Amount string `json:"amount"`
	}
	const want = `[{"type":"payment","amount":"10.00"},{"type":"account"}]`
	details := []any{payment{"payment", "10.00"}, map[string]any{"type": "account"}}
	o := newOP(t)
	o.token = func(m map[string]any) {
		m["authorization_details"] = []any{map[string]any{"type": "payment", "max": json.Number("1234567")}}
	}
	c := o.client()
	asked, tx := begin(t, c, &login.AuthRequest{AuthorizationDetails: details, TokenParams: url.Values{"audience": {"api"}}})
	if got := asked.Get("authorization_details"); got != want {
		t.Errorf("authorization_details = %s", got)
	}
	s, err := c.Exchange(t.Context(), tx, callback(o.consent(asked)))
	if err != nil || string(s.AuthorizationDetails) != `[{"max":1234567,"type":"payment"}]` {
		t.Errorf("granted %s, %v", s.AuthorizationDetails, err)
	}
	if form, _ := o.last("/token"); form.Get("audience") != "api" {
		t.Error("TokenParams were not sent")
	}
	if _, err := c.ClientCredentials(&login.TokenRequest{AuthorizationDetails: details}).Refresh(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if form, _ := o.last("/token"); form.Get("authorization_details") != want {
		t.Errorf("authorization_details at the token endpoint = %s", form.Get("authorization_details"))
	}
	for _, bad := range [][]any{{7}, {map[string]any{}}, {payment{}}, {"payment"}, {func() {}}} {
		if _, _, err := c.AuthCodeURL(t.Context(), &login.AuthRequest{AuthorizationDetails: bad}); err == nil || !strings.HasPrefix(err.Error(), "login: AuthorizationDetails: ") {
			t.Errorf("%T: %v", bad[0], err)
		}
	}
	if _, _, err := c.AuthCodeURL(t.Context(), &login.AuthRequest{TokenParams: url.Values{"code_verifier": {"x"}}}); err == nil {
		t.Error("TokenParams may set code_verifier")
	}
}
