package login_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

func TestHandlersLogin(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			app := newWeb(o, &login.Handlers{Transactions: keeper()})
			b := newBrowser(t, o)
			resp, at := b.get("https://app.example/login?return_to=/inbox%3Fpage=2")
			if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("status %d", resp.StatusCode)
			}
			cookie := resp.Cookies()[0]
			if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" ||
				cookie.Domain != "" || !strings.HasPrefix(cookie.Name, "__Host-") || cookie.MaxAge <= 0 || cookie.MaxAge > 4200 {
				t.Errorf("cookie is not safe: %s", cookie.Name)
			}
			q := o.consent(at.Query())
			if strings.Contains(cookie.Value, at.Query().Get("state")) || strings.Contains(cookie.Name, at.Query().Get("state")) {
				t.Error("the cookie tells the state")
			}
			resp, at = b.get(callback(q))
			if resp.StatusCode != http.StatusSeeOther || at.String() != "https://app.example/inbox?page=2" {
				t.Fatalf("status %d to %v: %v", resp.StatusCode, at, app.failed)
			}
			if gone := resp.Cookies()[0]; gone.Name != cookie.Name || gone.MaxAge >= 0 {
				t.Error("the cookie stays")
			}
			if !slices.Equal(app.users, []string{"alice"}) {
				t.Errorf("users = %q", app.users)
			}
			// Rule 3: with the same cookie once more.
			req, _ := http.NewRequest(http.MethodGet, callback(q), nil)
			req.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
			again, at := newBrowser(t, o).read(o.network.RoundTrip(req))
			if again.StatusCode != http.StatusSeeOther || at.Path != "/login" || len(app.users) != 1 || o.count("/token") != 1 {
				t.Errorf("second callback: status %d, token requests %d", again.StatusCode, o.count("/token"))
			}
		})
	}
}

func TestRule01StateIsBoundToTheBrowser(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			app := newWeb(o, &login.Handlers{Transactions: keeper()})
			mine, other := newBrowser(t, o), newBrowser(t, o)
			_, at := mine.get("https://app.example/login")
			q := o.consent(at.Query())
			other.get("https://app.example/login") // has cookies of its own
			resp, _ := other.get(callback(q))
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("another browser: status %d", resp.StatusCode)
			}
			wantCheck(t, app.failed[0], "browser")
			noTokenRequest(t, o)
			// It has not ended the login of the first one.
			if resp, _ := mine.get(callback(q)); resp.StatusCode != http.StatusSeeOther {
				t.Errorf("the browser itself: status %d %v", resp.StatusCode, app.failed)
			}
		})
	}
}

func TestWrongBindingInTheRightCookie(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			newWeb(o, &login.Handlers{Transactions: keeper()})
			b := newBrowser(t, o)
			resp, at := b.get("https://app.example/login")
			q := o.consent(at.Query())
			name := resp.Cookies()[0].Name
			for _, value := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 400)} {
				req, _ := http.NewRequest(http.MethodGet, callback(q), nil)
				req.AddCookie(&http.Cookie{Name: name, Value: value})
				if resp, _ := b.read(o.network.RoundTrip(req)); resp.StatusCode != http.StatusBadRequest {
					t.Errorf("status %d", resp.StatusCode)
				}
			}
			noTokenRequest(t, o)
			if resp, _ := b.get(callback(q)); resp.StatusCode != http.StatusSeeOther {
				t.Errorf("the right cookie afterwards: status %d", resp.StatusCode)
			}
		})
	}
}

func TestPain21ParallelTabs(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			app := newWeb(o, &login.Handlers{Transactions: keeper()})
			b := newBrowser(t, o)
			var back []string
			for range 3 {
				_, at := b.get("https://app.example/login")
				back = append(back, callback(o.consent(at.Query())))
			}
			for _, i := range []int{1, 2, 0} {
				if resp, _ := b.get(back[i]); resp.StatusCode != http.StatusSeeOther {
					t.Errorf("tab %d: status %d %v", i, resp.StatusCode, app.failed)
				}
			}
		})
	}
}

func TestCookiesDoNotGrow(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	newWeb(o, &login.Handlers{Transactions: &login.Transactions{Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}}})
	b := newBrowser(t, o)
	var last *url.URL
	for range 30 {
		_, last = b.get("https://app.example/login")
	}
	u, _ := url.Parse("https://app.example/")
	if n := len(b.client.Jar.Cookies(u)); n > 8 {
		t.Errorf("cookies = %d", n)
	}
	if resp, _ := b.get(callback(o.consent(last.Query()))); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the newest login: status %d", resp.StatusCode)
	}
}

func TestLoginEndsAfterItsTime(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				newWeb(o, &login.Handlers{Transactions: keeper()})
				b := newBrowser(t, o)
				resp, at := b.get("https://app.example/login?return_to=/inbox")
				cookie := resp.Cookies()[0]
				wait(10*time.Minute + time.Second)
				req, _ := http.NewRequest(http.MethodGet, callback(o.consent(at.Query())), nil)
				req.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
				if resp, at := b.read(o.network.RoundTrip(req)); resp.StatusCode != http.StatusSeeOther || at.Path != "/login" {
					t.Errorf("status %d", resp.StatusCode)
				}
				noTokenRequest(t, o)
			})
		})
	}
}

func TestKeyRotationOfSealedCookies(t *testing.T) {
	t.Parallel()
	old, next := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	o := newOP(t)
	newWeb(o, &login.Handlers{Transactions: &login.Transactions{Keys: [][]byte{old}}})
	b := newBrowser(t, o)
	_, at := b.get("https://app.example/login")
	newWeb(o, &login.Handlers{Transactions: &login.Transactions{Keys: [][]byte{next}}})
	q := callback(o.consent(at.Query()))
	if resp, _ := b.get(q); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("without the old key: status %d", resp.StatusCode)
	}
	newWeb(o, &login.Handlers{Transactions: &login.Transactions{Keys: [][]byte{next, old}}})
	if resp, _ := b.get(q); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("with the old key: status %d", resp.StatusCode)
	}
	newWeb(o, &login.Handlers{Transactions: &login.Transactions{Keys: [][]byte{[]byte("short")}}})
	if resp, _ := b.get("https://app.example/login"); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("a short key: status %d", resp.StatusCode)
	}
}

func TestFormPost(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			app := newWeb(o, &login.Handlers{
				Transactions: keeper(),
				Request:      func(*http.Request) (*login.AuthRequest, error) { return &login.AuthRequest{FormPost: true}, nil },
			})
			b := newBrowser(t, o)
			resp, at := b.get("https://app.example/login")
			if at.Query().Get("response_mode") != "form_post" || resp.Cookies()[0].SameSite != http.SameSiteNoneMode {
				t.Error("form_post was not asked for, or the cookie will stay away")
			}
			q := o.consent(at.Query())
			resp, _ = b.read(b.client.PostForm(redirectURL, q))
			if resp.StatusCode != http.StatusSeeOther {
				t.Errorf("status %d %v", resp.StatusCode, app.failed)
			}
			_, at = b.get("https://app.example/login")
			q = o.consent(at.Query())
			q.Del("code")
			q.Set("error", "access_denied")
			if resp, _ = b.read(b.client.PostForm(redirectURL, q)); resp.StatusCode != http.StatusForbidden || o.count("/token") != 1 {
				t.Errorf("an error: status %d", resp.StatusCode)
			}
		})
	}
}

func TestPostThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	post := func(target string, form url.Values) *http.Request {
		r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r
	}
	asked, tx := begin(t, c, nil)
	_, err := c.Exchange(t.Context(), tx, post("/callback", o.consent(asked)))
	wantCheck(t, err, "redirect")

	asked, tx = begin(t, c, &login.AuthRequest{FormPost: true})
	q := o.consent(asked)
	_, err = c.Exchange(t.Context(), tx, post("/callback?"+q.Encode(), q))
	wantCheck(t, err, "redirect")
	_, err = c.Exchange(t.Context(), tx, post("/callback", url.Values{"state": {tx.State}, "x": {strings.Repeat("x", 70<<10)}}))
	wantCheck(t, err, "redirect")
	bare := httptest.NewRequest(http.MethodPost, "/callback", strings.NewReader(q.Encode()))
	_, err = c.Exchange(t.Context(), tx, bare)
	wantCheck(t, err, "redirect")
	_, err = c.Exchange(t.Context(), tx, httptest.NewRequest(http.MethodPut, "/callback?"+q.Encode(), nil))
	wantCheck(t, err, "redirect")
	noTokenRequest(t, o)
	if _, err = c.Exchange(t.Context(), tx, post("/callback", q)); err != nil {
		t.Error(err)
	}
}

func TestNoOpenRedirect(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
		"javascript:alert(1)", "evil.example", "", " /x", "/x\r\nSet-Cookie: a=b", "/" + strings.Repeat("x", 2000),
		"///evil.example", "/%0d%0a/../x y", "http:evil.example",
	} {
		o := newOP(t)
		newWeb(o, &login.Handlers{Home: "/home"})
		b := newBrowser(t, o)
		_, at := b.get("https://app.example/login?return_to=" + url.QueryEscape(bad))
		_, at = b.get(callback(o.consent(at.Query())))
		if at == nil || at.String() != "https://app.example/home" {
			t.Errorf("return_to %q leads to %v", bad, at)
		}
	}
}

func TestHandlersErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(o *op, q url.Values)
		status int
	}{
		"denied":       {func(_ *op, q url.Values) { q.Del("code"); q.Set("error", "access_denied") }, http.StatusForbidden},
		"busy":         {func(_ *op, q url.Values) { q.Set("error", "temporarily_unavailable") }, http.StatusServiceUnavailable},
		"wrong state":  {func(_ *op, q url.Values) { q.Set("state", "x") }, http.StatusBadRequest},
		"no state":     {func(_ *op, q url.Values) { q.Del("state") }, http.StatusBadRequest},
		"wrong iss":    {func(_ *op, q url.Values) { q.Set("iss", "https://evil.example") }, http.StatusBadRequest},
		"wrong nonce":  {func(o *op, _ url.Values) { o.claims = func(c map[string]any) { c["nonce"] = "x" } }, http.StatusBadGateway},
		"server fails": {func(o *op, _ url.Values) { o.status = http.StatusInternalServerError }, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			app := newWeb(o, &login.Handlers{})
			app.OnError = nil
			b := newBrowser(t, o)
			_, at := b.get("https://app.example/login")
			q := o.consent(at.Query())
			tt.change(o, q)
			if resp, _ := b.get(callback(q)); resp.StatusCode != tt.status {
				t.Errorf("status = %d, want %d", resp.StatusCode, tt.status)
			}
			if len(app.users) != 0 {
				t.Error("somebody has logged in")
			}
		})
	}
}

// The page can be reloaded when the server was out of reach for a moment.
func TestCallbackWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		newWeb(o, &login.Handlers{})
		b := newBrowser(t, o)
		_, at := b.get("https://app.example/login")
		o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
		q := callback(o.consent(at.Query()))
		if resp, _ := b.get(q); resp.StatusCode != http.StatusBadGateway {
			t.Errorf("status = %d", resp.StatusCode)
		}
		o.handle["/keys"] = nil
		wait(time.Second)
		if resp, _ := b.get(q); resp.StatusCode != http.StatusSeeOther {
			t.Errorf("status = %d", resp.StatusCode)
		}
	})
}

// TestRevocationThatFailsAtALogoutIsTold: the logout went on, and nobody learned that the
// tokens stayed good at the server.
func TestRevocationThatFailsAtALogoutIsTold(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.handle["/revoke"] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusServiceUnavailable, map[string]any{})
	}
	app := newWeb(o, &login.Handlers{})
	app.OnLogout = func(http.ResponseWriter, *http.Request) (*oauth2.Token, error) {
		return &oauth2.Token{AccessToken: "a", RefreshToken: "r"}, nil
	}
	var told []authtrip.EventKind
	app.Client.Provider.OnEvent = func(e authtrip.Event) { told = append(told, e.Kind) }
	b := newBrowser(t, o)
	req, _ := http.NewRequest(http.MethodPost, "https://app.example/logout", nil)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if resp, _ := b.read(b.client.Do(req)); resp.StatusCode != http.StatusSeeOther || !slices.Contains(told, login.EventRevocationFailed) {
		t.Errorf("status %d, events %v, want 303 and %s", resp.StatusCode, told, login.EventRevocationFailed)
	}
}

func TestHandlersLogout(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	var revoked []string
	o.handle["/revoke"] = func(_ http.ResponseWriter, r *http.Request) {
		revoked = append(revoked, r.PostForm.Get("token_type_hint"))
	}
	tok := (&oauth2.Token{AccessToken: "a", RefreshToken: "r"}).WithExtra(map[string]any{"id_token": "raw"})
	app := newWeb(o, &login.Handlers{LoggedOutURL: "https://app.example/bye"})
	ended := 0
	app.OnLogout = func(http.ResponseWriter, *http.Request) (*oauth2.Token, error) { ended++; return tok, nil }
	b := newBrowser(t, o)
	if resp, _ := b.get("https://app.example/logout"); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", resp.StatusCode)
	}
	post := func(site string) (*http.Response, *url.URL) {
		req, _ := http.NewRequest(http.MethodPost, "https://app.example/logout", nil)
		req.Header.Set("Sec-Fetch-Site", site)
		return b.read(b.client.Do(req))
	}
	if resp, _ := post("cross-site"); resp.StatusCode != http.StatusForbidden || ended != 0 {
		t.Errorf("another site: status %d", resp.StatusCode)
	}
	resp, at := post("same-origin")
	if resp.StatusCode != http.StatusSeeOther || ended != 1 || !slices.Equal(revoked, []string{"refresh_token", "access_token"}) {
		t.Fatalf("status %d, ended %d, revoked %q", resp.StatusCode, ended, revoked)
	}
	if q := at.Query(); at.Path != "/logout" || at.Host != "as.example" || q.Get("id_token_hint") != "raw" ||
		q.Get("post_logout_redirect_uri") != "https://app.example/bye" || q.Get("client_id") != clientID {
		t.Errorf("logout leads to %s%s", at.Host, at.Path)
	}
	// A server that has no logout, and cannot revoke.
	app.Client.Provider.Static = &login.Metadata{TokenEndpoint: issuer + "/token"}
	if _, at := post("same-origin"); at.Host+at.Path != "app.example/bye" {
		t.Errorf("logout leads to %v", at)
	}
	app.LoggedOutURL = ""
	if _, at := post("same-origin"); at.String() != "https://app.example/" {
		t.Errorf("logout leads to %v", at)
	}
}

// A Cache that fails is an error of the application, not a wrong login.
type brokenCache struct{ authtrip.MemoryCache }

var errBroken = errors.New("cache is broken")

func (*brokenCache) Get(context.Context, string) ([]byte, error) { return nil, errBroken }

func TestBrokenCache(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	app := newWeb(o, &login.Handlers{Transactions: &login.Transactions{Cache: new(brokenCache)}})
	b := newBrowser(t, o)
	_, at := b.get("https://app.example/login")
	resp, _ := b.get(callback(o.consent(at.Query())))
	if resp.StatusCode != http.StatusInternalServerError || !errors.Is(app.failed[0], errBroken) {
		t.Errorf("status %d, %v", resp.StatusCode, app.failed)
	}
	noTokenRequest(t, o)
}

func TestPain20RedirectURLIsNeverMadeFromARequest(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	c.RedirectURL, c.StrippedPrefix = "https://app.example/auth/callback", "/auth"
	h := &login.Handlers{Client: c, OnLogin: func(http.ResponseWriter, *http.Request, *login.Session) error { return nil }}
	// What a server behind a proxy sees, which takes /auth away.
	r := httptest.NewRequest(http.MethodGet, "http://10.0.0.1:8080/login", nil)
	r.Header.Set("X-Forwarded-Host", "evil.example")
	w := httptest.NewRecorder()
	h.Login(w, r)
	at, err := w.Result().Location()
	if err != nil {
		t.Fatal(err)
	}
	if got := at.Query().Get("redirect_uri"); got != c.RedirectURL {
		t.Errorf("redirect_uri = %q", got)
	}
	back := httptest.NewRequest(http.MethodGet, "http://10.0.0.1:8080/callback?"+o.consent(at.Query()).Encode(), nil)
	back.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	h.Callback(w, back)
	if form, _ := o.last("/token"); w.Code != http.StatusSeeOther || form.Get("redirect_uri") != c.RedirectURL {
		t.Errorf("status %d, redirect_uri = %q", w.Code, form.Get("redirect_uri"))
	}
}
