package login_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// A sibling host can set any cookie but one with the prefix __Host-. It took a login
// of its own that far, planted its cookie without the prefix, and the victim was
// logged in as somebody else.
func TestRule63CookieWithoutItsPrefixIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			app := newWeb(o, &login.Handlers{Transactions: keeper()})
			attacker, victim := newBrowser(t, o), newBrowser(t, o)
			resp, at := attacker.get("https://app.example/login")
			planted := resp.Cookies()[0]
			back := callback(o.consent(at.Query()))
			req, _ := http.NewRequest(http.MethodGet, back, nil)
			req.AddCookie(&http.Cookie{Name: strings.TrimPrefix(planted.Name, "__Host-"), Value: planted.Value})
			if resp, _ := victim.read(victim.client.Do(req)); resp.StatusCode != http.StatusBadRequest || len(app.users) != 0 {
				t.Errorf("status %d, users %d", resp.StatusCode, len(app.users))
			}
			noTokenRequest(t, o)
			// The login itself goes on.
			if resp, _ := attacker.get(back); resp.StatusCode != http.StatusSeeOther {
				t.Errorf("with the prefix: status %d", resp.StatusCode)
			}
		})
	}
}

// A scheme in capitals made a cookie that went out in clear text too.
func TestCookieOfAnHTTPSRedirectInCapitalsIsSecure(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	c.RedirectURL = "HTTPS://app.example/callback"
	app := newWeb(o, &login.Handlers{Client: c})
	b := newBrowser(t, o)
	resp, at := b.get("https://app.example/login")
	if cookie := resp.Cookies()[0]; !cookie.Secure || !strings.HasPrefix(cookie.Name, "__Host-") {
		t.Errorf("cookie %s is not safe", cookie.Name)
	}
	if resp, _ := b.get(callback(o.consent(at.Query()))); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("status %d %v", resp.StatusCode, app.failed)
	}
}

// A browser drops a cookie with such a name, and each login failed with a word
// about another browser.
func TestCookieNameThatNoBrowserKeepsIsAnError(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	for name, ok := range map[string]bool{"my login": false, "a;b": false, "ü": false, "a=b": false, "__Host-x": false, "my-login_1": true} {
		app := newWeb(o, &login.Handlers{Transactions: &login.Transactions{CookieName: name}})
		b := newBrowser(t, o)
		resp, _ := b.get("https://app.example/login")
		if ok != (resp.StatusCode == http.StatusSeeOther) {
			t.Errorf("CookieName %q: status %d %v", name, resp.StatusCode, app.failed)
		}
		if !ok && (len(app.failed) == 0 || !strings.Contains(app.failed[0].Error(), "Transactions.CookieName")) {
			t.Errorf("CookieName %q: %v", name, app.failed)
		}
	}
}

// Eight logins with a long return_to made 15 kB of cookies, and the proxy in front
// refused every request of that browser.
func TestSealedCookiesStayBelowAProxysLimit(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	newWeb(o, &login.Handlers{Transactions: &login.Transactions{Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}}})
	b := newBrowser(t, o)
	var last *url.URL
	for range 8 {
		_, last = b.get("https://app.example/login?return_to=/" + strings.Repeat("x", 1000))
	}
	u, _ := url.Parse("https://app.example/")
	size := 0
	for _, c := range b.client.Jar.Cookies(u) {
		size += len(c.Name) + len(c.Value) + len("=; ")
	}
	if size > 4096 {
		t.Errorf("cookies have %d bytes, want 4096 at most", size)
	}
	if resp, _ := b.get(callback(o.consent(last.Query()))); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the newest login: status %d", resp.StatusCode)
	}
}

// The code exchange of one user took the cookies along that the token endpoint had
// set for another one.
func TestCodeExchangeHasNoCookies(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "user", Value: "first"})
		o.serveToken(w, r)
	}
	c := o.client()
	c.HTTPClient = newBrowser(t, o).client
	for range 2 {
		s, err := o.run(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.RefreshToken().Refresh(t.Context(), s.Token); err != nil {
			t.Fatal(err)
		}
		if _, header := o.last("/token"); header.Get("Cookie") != "" {
			t.Error("the request has a cookie")
		}
	}
}

// Printing a Client for a look at its settings put its secret into the log.
func TestConfigurationsPrintNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = "53CR3T-of-the-client"
	c := &login.Client{ID: clientID, Secret: secret}
	key := []byte(secret + secret)
	text := printed(c, *c, &login.Transactions{Keys: [][]byte{key}}, &login.LogoutRequest{IDToken: secret, State: secret},
		login.LogoutRequest{IDToken: secret}, &login.IDToken{Issuer: issuer, Subject: secret}, login.IDToken{Subject: secret},
		login.Introspection{Subject: secret}, &login.Introspection{Subject: secret}, login.Session{ReturnTo: secret},
		&login.AuthRequest{LoginHint: secret, TokenParams: url.Values{"x": {secret}}}, login.AuthRequest{LoginHint: secret},
		&login.Loopback{Client: c, Request: &login.AuthRequest{LoginHint: secret}}, struct{ C *login.Client }{c}, struct{ C login.Client }{*c})
	for _, bad := range []string{secret, "35334352", "53 67 82", "0x35"} {
		if strings.Contains(text, bad) {
			t.Errorf("a secret is printed, as %q", bad)
		}
	}
	if !strings.Contains(text, clientID) {
		t.Error("a Client does not print its ID")
	}
}

// A request that carries the binding of a cookie in the clear still serves plain
// http on this machine.
func TestPlainHTTPOnThisMachineKeepsItsCookie(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	c.RedirectURL = "http://127.0.0.1:8080/callback"
	h := &login.Handlers{
		Client: c, Transactions: &login.Transactions{Cache: new(authtrip.MemoryCache)},
		OnLogin: func(http.ResponseWriter, *http.Request, *login.Session) error { return nil },
	}
	w := httptest.NewRecorder()
	h.Login(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8080/login", nil))
	at, err := w.Result().Location()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/callback?"+o.consent(at.Query()).Encode(), nil)
	r.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	if h.Callback(w, r); w.Code != http.StatusSeeOther {
		t.Errorf("status %d", w.Code)
	}
}

// The key to which a login's tokens are bound was lost where the login was kept in memory
// or in a Cache: the code was redeemed with a proof of another key, and a server that
// compares them (RFC 9449, section 10) refused it.
func TestDPoPKeyComesBackFromWhereverTheLoginIsKept(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.token = func(m map[string]any) { m["token_type"] = "DPoP" }
			c := o.client()
			c.DPoP = new(counted)
			w := newWeb(o, &login.Handlers{Client: c, Transactions: keeper()})
			b := newBrowser(t, o)
			_, at := b.get("https://app.example/login")
			b.get(callback(o.consent(at.Query())))
			_, header := o.last("/token")
			if got, want := "thumbprint of "+header.Get("DPoP"), at.Query().Get("dpop_jkt"); got != want || len(w.users) != 1 {
				t.Errorf("asked for the %s, redeemed with that: %s, %v", want, got, w.failed)
			}
		})
	}
}

// counted is an [authtrip.Binder] whose keys are words, and whose proof is the key.
type counted struct{ n atomic.Int64 }

func (b *counted) NewKey(context.Context) (string, error) {
	return "key " + strconv.FormatInt(b.n.Add(1), 10), nil
}

func (b *counted) Prover(key, _ string) (authtrip.Prover, error) { return proof(key), nil }

type proof string

func (p proof) Prove(r *http.Request) error                                 { r.Header.Set("DPoP", string(p)); return nil }
func (p proof) Answered(*http.Request, *http.Response, string) (again bool) { return false }
func (p proof) Thumbprint() string                                          { return "thumbprint of " + string(p) }
