package main

import (
	"context"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/authtrip/login"
)

// What a browser without a script sees, and what is behind it.

func TestLoginLeadsToWhereTheUserWas(t *testing.T) {
	t.Parallel()
	v := start(t, time.Minute).visitor()
	v.get("/").want(t, 200, "/", "Everything you ordered", `href="/login"`)
	p := v.get("/orders?show=open")
	p.want(t, 200, "/ended?return_to=%2Forders%3Fshow%3Dopen", "You are not logged in", `href="/login?return_to=%2Forders%3Fshow%3Dopen"`)
	p = v.logIn("/login?return_to=%2Forders%3Fshow%3Dopen", demoLogin, demoPassword)
	p.want(t, 200, "/orders?show=open", demoName, "Punched cards", "/picture/42", "2 to come, 5 in all")
	if strings.Contains(p.body, "Lamp oil") {
		t.Error("what has arrived is among what is to come")
	}
	v.get("/").want(t, 200, "/orders", "Lamp oil")
	for range 3 {
		v.get("/orders")
	}
	if got := v.demo.provider.Stats(); got.UserInfoRequests != 1 || got.TokenRequests != 1 {
		t.Errorf("%d user info requests and %d token requests, want one of each", got.UserInfoRequests, got.TokenRequests)
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	v := start(t, time.Minute).visitor()
	v.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	tok, key := v.token(), v.keys.last()
	if !v.kept(key, tok) {
		t.Fatal("the token is not in the store")
	}
	v.send(http.MethodPost, "/logout", nil).want(t, 200, "/home", "You are logged out")
	v.wantLoggedOut(key, tok)
	said, err := v.app.services[0].client.Introspect(t.Context(), tok.AccessToken)
	if err != nil || said.Active {
		t.Errorf("the access token is active after the logout, or %v", err)
	}
	if got := v.demo.provider.Stats().RevocationRequests; got != 2 {
		t.Errorf("%d revocation requests, want 2", got)
	}
	if got := v.cookies(); len(got) > 0 {
		t.Errorf("%d cookies are left", len(got))
	}
	v.get("/orders").want(t, 200, "/ended?return_to=%2Forders", "You are not logged in")
	if p := v.get("/login"); !strings.Contains(p.body, "Password") {
		t.Error("the provider knows the user still")
	}
	v.send(http.MethodPost, "/logout", nil).want(t, 200, "/home") // once more does no harm
}

func TestLogoutWithoutTheProvider(t *testing.T) {
	t.Parallel()
	v := start(t, time.Minute).visitor()
	v.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	tok, key := v.token(), v.keys.last()
	if err := v.demo.provider.Close(); err != nil {
		t.Fatal(err)
	}
	v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	v.send(http.MethodPost, "/logout", nil).want(t, http.StatusSeeOther, "/logout")
	v.wantLoggedOut(key, tok)
	v.get("/").want(t, 200, "/", "Everything you ordered")
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	v := start(t, time.Minute).visitor()
	v.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://attacker.example"},
		{"Origin", "null"},
	} {
		v.send(http.MethodPost, "/logout", url.Values{}, header...).want(t, 403, "/logout", "another site")
	}
	v.get("/orders").want(t, 200, "/orders", demoName)
	v.send(http.MethodPost, "/logout", url.Values{}, "Origin", v.conf.baseURL).want(t, 200, "/home")
}

func TestSessionIDChangesAtLogin(t *testing.T) {
	t.Parallel()
	v := start(t, time.Minute).visitor()
	const name = "weblogin-session"
	base, _ := url.Parse(v.conf.baseURL)
	v.client.Jar.SetCookies(base, []*http.Cookie{{Name: name, Value: "chosen by somebody else", Path: "/", Quoted: true}})
	v.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	first, key := v.cookies()[name], v.keys.last()
	if len(first) != 43 || strings.Contains(first, "chosen") {
		t.Fatalf("the session ID has %d characters, want 43 new ones", len(first))
	}
	tok := v.token()
	v.get("/login").want(t, 200, "/orders") // the provider knows the user
	second := v.cookies()[name]
	if second == first {
		t.Error("the session ID is the same after a second login")
	}
	v.wantLoggedOut(key, tok)
	if said, err := v.app.services[0].client.Introspect(t.Context(), tok.AccessToken); err != nil || said.Active {
		t.Errorf("the token of the first login is active, or %v", err)
	}
	v.client.Jar.SetCookies(base, []*http.Cookie{{Name: name, Value: first, Path: "/"}})
	v.get("/orders").want(t, 200, "/ended?return_to=%2Forders", "Your session has ended")
}

func TestCookie(t *testing.T) {
	t.Parallel()
	site := httptest.NewUnstartedServer(nil)
	for _, test := range []struct {
		name, cookie string
		secure       bool
	}{
		{"http", "weblogin-session", false},
		{"https", "__Host-session", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, time.Minute, func(c *config) {
				if test.secure {
					c.baseURL = "https://" + site.Listener.Addr().String()
				}
			})
			v := w.visitor()
			if test.secure {
				site.Config.Handler = w.app.handler()
				site.StartTLS()
				t.Cleanup(site.Close)
				v.client.Transport = site.Client().Transport
			}
			var set *http.Cookie
			v.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
				for _, c := range r.Response.Cookies() {
					if c.Name == test.cookie {
						set = c
					}
				}
				return nil
			}
			p := v.logIn("/login", demoLogin, demoPassword)
			p.want(t, 200, "/orders")
			if set == nil {
				t.Fatalf("no cookie is called %s", test.cookie)
			}
			if !set.HttpOnly || set.SameSite != http.SameSiteLaxMode || set.Secure != test.secure || set.Path != "/" || set.Domain != "" || set.MaxAge != 12*60*60 {
				set.Value = ""
				t.Errorf("the cookie is %v", set)
			}
			if got := p.Header.Get("Strict-Transport-Security") != ""; got != test.secure {
				t.Errorf("Strict-Transport-Security is there: %v, want %v", got, test.secure)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	v := start(t, time.Minute).visitor()
	v.logIn("/login", demoLogin, demoPassword)
	for path, cache := range map[string]string{
		"/orders": "no-store", "/ended": "no-store", "/home": "no-store", "/logged-out": "no-store", "/nowhere": "no-store",
		"/callback": "no-store", "/static/app.css": "no-cache", "/static/app.js": "no-cache", "/static/": "no-store",
	} {
		h := v.get(path).Header
		if got := h.Get("Cache-Control"); got != cache {
			t.Errorf("%s: Cache-Control = %q, want %q", path, got, cache)
		}
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: Content-Security-Policy = %q, want %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" {
			t.Errorf("%s: headers = %v", path, h)
		}
	}
	csp := v.get("/orders").Header.Get("Content-Security-Policy")
	if want := "img-src 'self' " + v.conf.providers[0].issuer + ";"; !strings.Contains(csp, want) {
		t.Errorf("Content-Security-Policy = %q, want %q", csp, want)
	}
	if want := "form-action 'self' " + v.conf.providers[0].issuer + ";"; !strings.Contains(csp, want) {
		t.Errorf("Content-Security-Policy = %q, want %q", csp, want)
	}
	tag := v.get("/static/app.js").Header.Get("ETag")
	if got := v.send(http.MethodGet, "/static/app.js", nil, "If-None-Match", tag).StatusCode; got != http.StatusNotModified {
		t.Errorf("a file that the browser has: status %d, want 304", got)
	}
}

// TestNoSecretIsOnAPage; that none is in the log is looked at after each test.
func TestNoSecretIsOnAPage(t *testing.T) {
	t.Parallel()
	v := start(t, time.Second).visitor()
	page := v.logIn("/login", demoLogin, demoPassword).body + v.get("/orders").body
	tok := v.token()
	for _, secret := range []string{tok.AccessToken, tok.RefreshToken, v.conf.providers[0].clientSecret, v.cookies()["weblogin-session"], v.keys.last()} {
		if secret == "" || strings.Contains(page+v.logs.String(), secret) {
			t.Error("a secret is on a page or in the log")
		}
	}
	if !strings.Contains(v.logs.String(), `route="GET /callback"`) {
		t.Errorf("the log has no requests:\n%s", v.logs.String())
	}
}

func TestLoginIsRefused(t *testing.T) {
	t.Parallel()
	v := start(t, time.Minute).visitor()
	at, err := url.Parse(v.get("/login").Request.URL.String())
	if err != nil || at.Path != "/login" {
		t.Fatalf("GET /login leads to %v, %v", at, err)
	}
	// The state is in the URL to which the application sends the browser.
	v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	to, err := v.get("/login").Location()
	if err != nil {
		t.Fatal(err)
	}
	answer := url.Values{
		"error": {"access_denied"}, "error_description": {"<b>no</b>"},
		"state": {to.Query().Get("state")}, "iss": {v.conf.providers[0].issuer},
	}
	p := v.get("/callback?" + answer.Encode())
	p.want(t, 403, answer.Encode(), "The login was denied", `href="/login"`)
	if strings.Contains(p.body, "<b>") || strings.Contains(p.body, "access_denied") {
		t.Errorf("what came with the redirect is on the page:\n%s", p.body)
	}
	// Once more, as after a click on the browser's button: it begins anew.
	if to, err := v.get("/callback?" + answer.Encode()).Location(); err != nil || to.Path != "/login" {
		t.Errorf("a login that is over leads to %v, want /login", to)
	}
	v.get("/callback?code=c&state=s").want(t, 400, "", "This login is over", `href="/login"`)
}

func TestProviderIsDown(t *testing.T) {
	t.Parallel()
	w := start(t, time.Minute)
	v := w.visitor()
	v.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	if err := w.demo.provider.Close(); err != nil {
		t.Fatal(err)
	}
	// The API cannot ask about the token. The user is known still.
	p := v.get("/orders")
	p.want(t, 503, "/orders", demoName, "The orders cannot be shown right now", "Refresh")
	// A process that has just started does not even know where to send the browser.
	w.restart()
	v.get("/").want(t, 200, "/", "Everything you ordered")
	p = w.visitor().get("/login?return_to=%2Forders%3Fshow%3Dopen")
	p.want(t, 502, "/login?return_to=%2Forders%3Fshow%3Dopen", "The login service does not answer", `href="">Try again`)
}

func TestAPIIsDown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ api, page int }{{500, 502}, {503, 503}, {404, 502}, {401, 502}, {200, 502}} {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.api)
			_, _ = w.Write([]byte("<html>")) // no JSON
		}))
		t.Cleanup(api.Close)
		v := start(t, time.Minute, func(c *config) { c.apiURL = api.URL }).visitor()
		p := v.logIn("/login", demoLogin, demoPassword)
		p.want(t, test.page, "/orders", demoName, "The orders cannot be shown right now")
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	listener := listen(t, "127.0.0.1:0")
	addr := listener.Addr().String()
	_ = listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	env := func(name string) string { return map[string]string{"ADDR": addr}[name] }
	var out, log logs
	done := make(chan error, 1)
	go func() { done <- run(ctx, env, &out, slog.New(slog.NewTextHandler(&log, nil))) }()
	until(t, "the URL is printed", func() bool { return strings.Contains(out.String(), "http://localhost:") })
	if !strings.Contains(out.String(), demoPassword) || !strings.Contains(log.String(), "SESSION_KEY is not set") {
		t.Errorf("the output is\n%s\nand the log\n%s", out.String(), log.String())
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run() = %v", err)
	}
}

// The login page offers both providers, each login goes to its own, and the tokens of
// each are refreshed and revoked there.
func TestTwoProviders(t *testing.T) {
	t.Parallel()
	w := start(t, time.Second, bothProviders)
	home, work := w.visitor(), w.visitor()
	p := home.get("/login?return_to=%2Forders%3Fshow%3Dopen")
	p.want(t, 200, "", "Account at home", "Account at work")
	links := regexp.MustCompile(`/login\?provider=\w+&amp;return_to=[^"]*`).FindAllString(p.body, -1)
	if len(links) != 2 {
		t.Fatalf("%d links to a login, want 2", len(links))
	}
	for i, v := range []*visitor{home, work} {
		form := v.get(html.UnescapeString(links[i]))
		if !strings.HasPrefix(form.at, w.conf.providers[i].issuer) {
			t.Fatalf("link %d leads to %s", i, form.at)
		}
		p := v.send(http.MethodPost, form.at, url.Values{"login": {demoLogin}, "password": {demoPassword}})
		p.want(t, 200, "/orders?show=open", []string{demoName, "Ada King"}[i])
	}
	tok, key := w.token(), w.keys.last()
	until(t, "the access token has expired", func() bool {
		said, err := w.app.services[1].client.Introspect(t.Context(), tok.AccessToken)
		return err == nil && !said.Active
	})
	work.get("/orders").want(t, 200, "/orders", "Ada King", "Magnetic tape")
	home.get("/orders").want(t, 200, "/orders", demoName, "Punched cards")
	if got := w.demo.second.Stats(); got.RefreshTokensSpent == 0 || got.RefreshTokensReused > 0 {
		t.Errorf("at the second provider %d refresh tokens were used, %d of them twice", got.RefreshTokensSpent, got.RefreshTokensReused)
	}
	tok = w.token()
	work.send(http.MethodPost, "/logout", nil).want(t, 200, "/home", "You are logged out")
	w.wantLoggedOut(key, tok)
	if got := w.demo.second.Stats().RevocationRequests; got != 2 {
		t.Errorf("%d revocation requests at the second provider, want 2", got)
	}
	home.get("/orders").want(t, 200, "/orders", demoName)
	home.get("/login?provider=nowhere").want(t, 400, "", "This login is over")
}

// The pages of somebody who was never here do not speak of what that user did.
func TestFirstVisit(t *testing.T) {
	t.Parallel()
	v := start(t, time.Minute).visitor()
	for _, path := range []string{"/", "/orders", "/login", "/nowhere"} {
		if p := v.get(path); strings.Contains(p.body, "another tab") || strings.Contains(p.body, "again") {
			t.Errorf("%s: the page speaks of an earlier visit:\n%s", path, p.body)
		}
	}
}

// The page of the account lists this session and those elsewhere, of this user only,
// and says how each stands. A session that has ended is not on it any more.
func TestAccountPage(t *testing.T) {
	t.Parallel()
	w := start(t, time.Minute)
	here, there, grace := w.visitor(), w.visitor(), w.visitor()
	here.get("/account").want(t, 200, "/ended?return_to=%2Faccount", "You are not logged in")
	there.logIn("/login", demoLogin, demoPassword)
	here.logIn("/login", demoLogin, demoPassword)
	grace.logIn("/login", "grace", "compiler").want(t, 200, "/orders")
	before := w.demo.provider.Stats()
	p := here.get("/account")
	p.want(t, 200, "/account", "this browser", "Connected", "Access usable until", "Refreshed", "Session ends", "Login needed")
	if n := strings.Count(p.body, "<h2>"); n != 2 {
		t.Errorf("%d sessions are on the page, want 2", n)
	}
	if after := w.demo.provider.Stats(); after != before {
		t.Errorf("the page asked the provider: %+v, before %+v", after, before)
	}
	there.send(http.MethodPost, "/logout", nil)
	if p := here.get("/account"); strings.Count(p.body, "<h2>") != 1 || !strings.Contains(p.body, "this browser") {
		t.Errorf("after a logout elsewhere the page is\n%s", p.body)
	}
}

// A logout token ends the sessions of its user, and no other's.
func TestProviderLogout(t *testing.T) {
	t.Parallel()
	w := start(t, time.Minute)
	grace, ada := w.visitor(), w.visitor()
	grace.logIn("/login", "grace", "compiler").want(t, 200, "/orders")
	ada.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	tok, key := w.token(), w.keys.last()
	ada.get("/session").want(t, 200, "/session")
	if err := w.demo.provider.EndSessions(t.Context(), "42"); err != nil {
		t.Fatal(err)
	}
	w.wantLoggedOut(key, tok)
	ada.get("/session").want(t, 401, "/session")
	ada.get("/orders").want(t, 200, "/ended?return_to=%2Forders", "Your session has ended")
	grace.get("/orders").want(t, 200, "/orders", "Grace Hopper")
	grace.send(http.MethodPost, "/backchannel-logout", url.Values{"logout_token": {"made up"}}).want(t, 400, "/backchannel-logout")
	grace.get("/session").want(t, 200, "/session")
}

// Where the provider names one of its sessions, only that one ends.
func TestProviderLogoutOfOneSession(t *testing.T) {
	t.Parallel()
	a := start(t, time.Minute).app
	s := a.services[0]
	issuer, expires := s.client.Provider.Issuer, time.Now().Add(time.Hour)
	for key, sid := range map[string]string{"one": "first", "two": "second"} {
		sess := &session{key: key, service: s, Issuer: issuer, Subject: "42", SID: sid, Expires: expires}
		if err := a.index.add(t.Context(), sess); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.providerLogout(t.Context(), &login.LogoutToken{Issuer: issuer, SessionID: "first"}); err != nil {
		t.Fatal(err)
	}
	left, err := a.index.list(t.Context(), userKey(issuer, "42"))
	if err != nil || len(left) != 1 || left[0].key != "two" {
		t.Errorf("%d sessions are left, error %v, want the other one", len(left), err)
	}
}

// While the provider is down, the page of the account says what is wrong.
func TestAccountPageInAnOutage(t *testing.T) {
	t.Parallel()
	v := start(t, time.Second).visitor()
	v.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	if err := v.demo.provider.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the page shows an error", func() bool {
		v.get("/orders")
		return strings.Contains(v.get("/account").body, "Last error")
	})
	v.get("/account").want(t, 200, "/account", demoName, "Will be refreshed at the next use", ">No</dd>")
}
