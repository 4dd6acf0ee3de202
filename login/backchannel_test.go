package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutClaims are those of a right logout token.
func logoutClaims() map[string]any {
	return map[string]any{
		"iss": issuer, "aud": clientID, "iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Minute).Unix(),
		"jti": "1", "sub": "alice", "sid": "s1", "events": map[string]any{logoutEvent: map[string]any{}},
	}
}

// sayLogout posts a form as the server does.
func sayLogout(h http.Handler, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/backchannel", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestRule66LogoutToken has the cases of the OpenID Foundation's test plan for
// back-channel logout of relying parties, and more.
func TestRule66LogoutToken(t *testing.T) {
	t.Parallel()
	set := func(name string, v any) func(map[string]any) {
		return func(c map[string]any) {
			if c[name] = v; v == nil {
				delete(c, name)
			}
			if d, ok := v.(time.Duration); ok {
				c[name] = time.Now().Add(d).Unix()
			}
		}
	}
	for name, tt := range map[string]struct {
		typ    string
		change func(c map[string]any)
		check  string
	}{
		"right":                  {"logout+jwt", nil, ""},
		"typ as a media type":    {"application/logout+jwt", nil, ""},
		"typ that says nothing":  {"JWT", nil, ""},
		"typ of an access token": {"at+jwt", nil, "logout_token typ"},
		"only sid":               {"logout+jwt", set("sub", nil), ""},
		"only sub":               {"logout+jwt", set("sid", nil), ""},
		"neither":                {"logout+jwt", func(c map[string]any) { delete(c, "sub"); delete(c, "sid") }, "logout_token sub"},
		"another server":         {"logout+jwt", set("iss", "https://evil.example"), "logout_token iss"},
		"no iss":                 {"logout+jwt", set("iss", nil), "logout_token iss"},
		"another client":         {"logout+jwt", set("aud", "other"), "logout_token aud"},
		"no aud":                 {"logout+jwt", set("aud", nil), "logout_token aud"},
		"a nonce":                {"logout+jwt", set("nonce", "n"), "logout_token nonce"},
		"an empty nonce":         {"logout+jwt", set("nonce", ""), "logout_token nonce"},
		"no events":              {"logout+jwt", set("events", nil), "logout_token events"},
		"another event":          {"logout+jwt", set("events", map[string]any{"https://x.example": map[string]any{}}), "logout_token events"},
		"event of a wrong type":  {"logout+jwt", set("events", map[string]any{logoutEvent: true}), "logout_token events"},
		"events are a string":    {"logout+jwt", set("events", logoutEvent), "logout_token claims"},
		"no iat":                 {"logout+jwt", set("iat", nil), "logout_token iat"},
		"iat of the future":      {"logout+jwt", set("iat", time.Hour), "logout_token iat"},
		"expired":                {"logout+jwt", func(c map[string]any) { set("iat", -10*time.Minute)(c); set("exp", -5*time.Minute)(c) }, "logout_token exp"},
		"no exp, new":            {"logout+jwt", set("exp", nil), ""},
		"no exp, old":            {"logout+jwt", func(c map[string]any) { delete(c, "exp"); set("iat", -10*time.Minute)(c) }, "logout_token exp"},
		"no jti":                 {"logout+jwt", set("jti", nil), "logout_token jti"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			claims := logoutClaims()
			if tt.change != nil {
				tt.change(claims)
			}
			got, err := o.client().VerifyLogoutToken(t.Context(), sign(t, signingKey(o.keys[0]), typeOf(tt.typ), claims))
			if tt.check != "" {
				wantCheck(t, err, tt.check)
				return
			}
			sub, _ := claims["sub"].(string)
			sid, _ := claims["sid"].(string)
			if err != nil || got.Subject != sub || got.SessionID != sid || got.Issuer != issuer {
				t.Fatalf("error = %v", err)
			}
			if text := printed(got, *got); strings.Contains(text, "alice") {
				t.Error("it prints the user")
			}
		})
	}
	o := newOP(t)
	_, err := o.client().VerifyLogoutToken(t.Context(), unsigned(logoutClaims()))
	wantCheck(t, err, "logout_token alg")
	_, err = o.client().VerifyLogoutToken(t.Context(), o.signedBy(newKey(t, "k1"), logoutClaims()))
	wantCheck(t, err, "logout_token signature")
	_, err = o.client().VerifyLogoutToken(t.Context(), o.idToken("nonce", "at"))
	wantCheck(t, err, "logout_token events")
}

// The server's word ends what it names: the Source is logged out, and stays so.
func TestRule66BackChannelLogoutEndsTheSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		o.claims = func(c map[string]any) { c["sid"] = "s1" }
		c := o.client()
		s, err := o.run(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		src := sourceOf(t, c, s)
		defer src.Close()
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		var more struct{ SID string }
		if err := s.IDToken.Claims(&more); err != nil {
			t.Fatal(err)
		}
		sessions := map[string]*authtrip.Source{more.SID: src, "s2": nil}
		h := &login.BackChannelLogout{Client: c, OnLogout: func(ctx context.Context, t *login.LogoutToken) error {
			_, err := sessions[t.SessionID].Forget(ctx)
			delete(sessions, t.SessionID)
			return err
		}}
		raw := sign(t, signingKey(o.keys[0]), "logout+jwt", logoutClaims())
		if w := sayLogout(h, url.Values{"logout_token": {raw}}); w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("status %d", w.Code)
		}
		if _, err := src.Token(); !errors.Is(err, authtrip.ErrReauthRequired) || len(sessions) != 1 {
			t.Errorf("Token() = %v", err)
		}
	})
}

func TestRule66TokenServesOnce(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]func() authtrip.Cache{
		"memory": func() authtrip.Cache { return nil },
		"cache":  func() authtrip.Cache { return new(authtrip.MemoryCache) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			calls, fails := 0, true
			var told error
			h := &login.BackChannelLogout{
				Client: o.client(), Cache: cache(),
				OnError: func(_ *http.Request, err error) { told = err },
				OnLogout: func(context.Context, *login.LogoutToken) error {
					if calls++; fails {
						return errors.New("database is away")
					}
					return nil
				},
			}
			raw := sign(t, signingKey(o.keys[0]), "logout+jwt", logoutClaims())
			if w := sayLogout(h, url.Values{"logout_token": {raw}}); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "server_error") {
				t.Errorf("a logout that failed: status %d %s", w.Code, w.Body)
			}
			fails = false
			for i, want := range []int{http.StatusOK, http.StatusBadRequest, http.StatusBadRequest} {
				if w := sayLogout(h, url.Values{"logout_token": {raw}}); w.Code != want {
					t.Errorf("time %d: status %d, want %d", i+1, w.Code, want)
				}
			}
			wantCheck(t, told, "logout_token jti")
			if calls != 2 {
				t.Errorf("calls = %d, want 2", calls)
			}
		})
	}
}

func TestBackChannelLogoutRequests(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	h := &login.BackChannelLogout{
		Clients: func(_ context.Context, iss string) (*login.Client, error) {
			if iss == issuer {
				return c, nil
			}
			return nil, nil
		},
		OnLogout: func(context.Context, *login.LogoutToken) error { return nil },
	}
	raw := sign(t, signingKey(o.keys[0]), "logout+jwt", logoutClaims())
	other := logoutClaims()
	other["iss"] = "https://evil.example"
	for name, tt := range map[string]struct {
		form url.Values
		want int
	}{
		"nothing":        {url.Values{}, http.StatusBadRequest},
		"twice":          {url.Values{"logout_token": {raw, raw}}, http.StatusBadRequest},
		"rubbish":        {url.Values{"logout_token": {"x"}}, http.StatusBadRequest},
		"unknown server": {url.Values{"logout_token": {sign(t, signingKey(o.keys[0]), "logout+jwt", other)}}, http.StatusBadRequest},
		"right":          {url.Values{"logout_token": {raw}}, http.StatusOK},
	} {
		if w := sayLogout(h, tt.form); w.Code != tt.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, tt.want)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?logout_token="+raw, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", w.Code)
	}
}

// A logout whose OnLogout panicked was never done: the server, which sends it again, was
// told that the token was there before.
func TestLogoutThatPanickedCanBeSentAgain(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	times := 0
	h := &login.BackChannelLogout{Client: o.client(), OnLogout: func(context.Context, *login.LogoutToken) error {
		if times++; times == 1 {
			panic("oops")
		}
		return nil
	}}
	form := url.Values{"logout_token": {o.signed(logoutClaims())}}
	func() {
		defer func() { _ = recover() }()
		sayLogout(h, form)
	}()
	if w := sayLogout(h, form); w.Code != http.StatusOK || times != 2 {
		t.Errorf("status %d", w.Code)
	}
}

// A server may number the logout tokens of each client on its own: of two clients that share
// a Cache, the second one's logout was refused as a replay.
func TestLogoutTokensOfTwoClientsMayHaveTheSameID(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	cache, ended := new(authtrip.MemoryCache), 0
	for _, id := range []string{clientID, "other"} {
		c := o.client()
		c.ID = id
		h := &login.BackChannelLogout{Client: c, Cache: cache, OnLogout: func(context.Context, *login.LogoutToken) error { ended++; return nil }}
		claims := logoutClaims()
		claims["aud"] = id
		form := url.Values{"logout_token": {o.signed(claims)}}
		if w := sayLogout(h, form); w.Code != http.StatusOK {
			t.Errorf("%s: status %d", id, w.Code)
		}
		if w := sayLogout(h, form); w.Code != http.StatusBadRequest {
			t.Errorf("%s, again: status %d", id, w.Code)
		}
	}
	if ended != 2 {
		t.Errorf("ended %d sessions, want 2", ended)
	}
}
