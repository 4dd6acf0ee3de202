package login_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/login"
)

// A request_uri under another case of its name was taken as the server's.
func TestRule62PushedRequest(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.handle["/par"] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusCreated, map[string]any{"REQUEST_URI": "urn:evil"})
	}
	c := o.client()
	c.PushRequests = true
	if at, _, err := c.AuthCodeURL(t.Context(), nil); err == nil {
		t.Errorf("REQUEST_URI is taken for request_uri: %s", at)
	}
}

// What is shown to a user came from a member under another case of its name.
func TestRule62DeviceAnswer(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.handle["/device"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"device_code":"d","user_code":"RIGHT","verification_uri":"https://as.example/device","expires_in":60,"USER_CODE":"WRONG"}`)
	}
	d, err := o.client().DeviceAuth(t.Context(), nil)
	if err != nil || d.UserCode != "RIGHT" {
		t.Errorf("user_code is that of USER_CODE: %v", err)
	}
}

// What a server writes into its status line, or a proxy into its, is in no error.
func TestErrorsDoNotQuoteTheServersStatusLine(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte("HTTP/1.1 53CR3T-echo\r\n\r\n"))
		_ = conn.Close()
	}))
	defer server.Close()
	_, err := login.Discover(t.Context(), server.URL)
	if err == nil || strings.Contains(fmt.Sprintf("%+v", err), "53CR3T") {
		t.Errorf("error = %v", err)
	}
}

// A Location that cannot be parsed is quoted by net/http.
func TestErrorsDoNotQuoteALocation(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	asked, tx := begin(t, c, nil)
	o.handle["/token"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://[53CR3T")
		w.WriteHeader(http.StatusFound)
	}
	if _, err := c.Exchange(t.Context(), tx, callback(o.consent(asked))); err == nil || strings.Contains(err.Error(), "53CR3T") {
		t.Errorf("error = %v", err)
	}
}

// A sealed cookie opens under its own name only: one login's is not another one's.
func TestSealedCookieUnderAnotherNameDoesNotOpen(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	tr := &login.Transactions{Keys: [][]byte{[]byte(strings.Repeat("k", 32))}}
	c := o.client()
	var cookies [2]*http.Cookie
	var asked [2]url.Values
	for i := range cookies {
		q, tx := begin(t, c, nil)
		w := httptest.NewRecorder()
		if err := tr.Keep(t.Context(), w, nil, tx); err != nil {
			t.Fatal(err)
		}
		asked[i], cookies[i] = q, w.Result().Cookies()[0]
	}
	r := httptest.NewRequest("GET", callback(o.consent(asked[0])), nil)
	r.AddCookie(&http.Cookie{Name: cookies[0].Name, Value: cookies[1].Value})
	if _, err := tr.Take(t.Context(), httptest.NewRecorder(), r); err == nil {
		t.Error("the cookie of one login opens another one")
	}
}

// A second cookie of the same name, as one with another Path, does not hide the right one.
func TestPlantedCookieOfTheSameNameCannotBreakOrTakeOver(t *testing.T) {
	t.Parallel()
	for keeper, transactions := range keepers() {
		t.Run(keeper, func(t *testing.T) {
			t.Parallel()
			o, tr := newOP(t), transactions()
			if tr == nil {
				tr = new(login.Transactions)
			}
			q, tx := begin(t, o.client(), nil)
			w := httptest.NewRecorder()
			if err := tr.Keep(t.Context(), w, nil, tx); err != nil {
				t.Fatal(err)
			}
			own := w.Result().Cookies()[0]
			r := httptest.NewRequest("GET", callback(o.consent(q)), nil)
			r.AddCookie(&http.Cookie{Name: own.Name, Value: "planted"})
			if _, err := tr.Take(t.Context(), httptest.NewRecorder(), r); err == nil {
				t.Fatal("a planted cookie is taken")
			}
			r = httptest.NewRequest("GET", callback(o.consent(q)), nil)
			r.AddCookie(own)
			if _, err := tr.Take(t.Context(), httptest.NewRecorder(), r); err != nil {
				t.Errorf("a planted cookie has ended the login: %v", err)
			}
		})
	}
}

// Huge inputs end early, each with an error of a check.
func TestHugeInputsAreRefused(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	huge := strings.Repeat("x", 1<<20)
	for name, response := range map[string]any{
		"string":   redirectURL + "?state=" + huge,
		"URL":      &url.URL{Scheme: "https", Host: "app.example", Path: "/callback", RawQuery: "state=" + huge},
		"fragment": &url.URL{Scheme: "https", Host: "app.example", Path: "/callback", Fragment: huge},
		"form":     formRequest("state=" + huge),
		"JWT":      redirectURL + "?response=" + huge,
	} {
		_, tx := begin(t, c, nil)
		_, err := c.Exchange(t.Context(), tx, response)
		if ce, ok := errors.AsType[*login.CheckError](err); !ok || len(ce.Error()) > 300 {
			t.Errorf("%s: %.100v", name, err)
		}
	}
	if _, err := c.VerifyLogoutToken(t.Context(), huge+"."+huge+"."+huge); err == nil {
		t.Error("a huge logout token is taken")
	}
	c = o.client() // one that has no keys yet
	o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":["`+huge+huge+`"]}`) }
	asked, tx := begin(t, c, nil)
	if _, err := c.Exchange(t.Context(), tx, callback(o.consent(asked))); err == nil || o.count("/token") != 0 {
		t.Errorf("huge keys: %.100v", err)
	}
}

func formRequest(body string) *http.Request {
	r := httptest.NewRequest("POST", redirectURL, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// An ID token with deeply nested claims is an error, and no crash.
func TestDeeplyNestedClaims(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	signRaw(o, func(doc string) string {
		return doc[:len(doc)-1] + `,"amr":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`
	})
	_, err := o.run(t, o.client(), nil)
	if err == nil {
		t.Error("twenty thousand levels are taken")
	}
}

// Times that make no sense refuse the token, whatever their size or sign.
func TestAbsurdTimesInAnIDToken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claim string
		value any
	}{
		{"exp", -1}, {"exp", 1e300}, {"exp", "tomorrow"}, {"iat", 1e300}, {"nbf", 1 << 39}, {"auth_time", -5}, {"iat", nil},
	} {
		o := newOP(t)
		o.claims = func(claims map[string]any) { claims[c.claim] = c.value }
		if _, err := o.run(t, o.client(), &login.AuthRequest{MaxAge: time.Hour}); err == nil {
			t.Errorf("%s = %v is taken", c.claim, c.value)
		}
	}
}

// A stranger who sends made-up states does not fill the memory of the callback, nor the
// server's time.
func TestMadeUpStatesCostNothing(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	w := newWeb(o, new(login.Handlers))
	b := newBrowser(t, o)
	for i := range 200 {
		if resp, _ := b.get(fmt.Sprintf("%s?state=%d&code=x", redirectURL, i)); resp.StatusCode != http.StatusBadRequest {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if o.count("/token")+o.count("/keys") != 0 || len(w.users) != 0 {
		t.Error("the server was asked")
	}
}

// Of a hundred callbacks at once one spends the code, with every keeper, and all that
// belong to the browser get the result.
func TestHundredCallbacksAtOnceSpendOneCode(t *testing.T) {
	t.Parallel()
	for keeper, transactions := range keepers() {
		t.Run(keeper, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			newWeb(o, &login.Handlers{Transactions: transactions()})
			b := newBrowser(t, o)
			_, at := b.get("https://app.example/login")
			back := callback(o.consent(at.Query()))
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					resp, err := b.client.Get(back)
					if err == nil {
						_ = resp.Body.Close()
					}
				})
			}
			all.Wait()
			if n := o.count("/token"); n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

// The callback's error parameter cannot end somebody's login: it needs the state and the
// cookie.
func TestErrorOfAStrangerEndsNoLogin(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	w := newWeb(o, new(login.Handlers))
	victim, stranger := newBrowser(t, o), newBrowser(t, o)
	_, at := victim.get("https://app.example/login")
	state := at.Query().Get("state")
	stranger.get(redirectURL + "?" + url.Values{"state": {state}, "error": {"access_denied"}}.Encode())
	if _, to := victim.get(callback(o.consent(at.Query()))); to == nil || len(w.users) != 1 {
		t.Errorf("the login is gone: %v", w.failed)
	}
}

// A HEAD of the login page, as link previews send, begins nothing.
func TestHEADBeginsNoLogin(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	h := &login.Handlers{Client: o.client(), OnLogin: func(http.ResponseWriter, *http.Request, *login.Session) error { return nil }}
	w := httptest.NewRecorder()
	h.Login(w, httptest.NewRequest("HEAD", "https://app.example/login", nil))
	if w.Code != http.StatusMethodNotAllowed || len(w.Result().Cookies()) != 0 {
		t.Errorf("status %d", w.Code)
	}
}

// A server whose clock is half a minute behind, and whose tokens live for seconds, logs users in.
func TestServersClockIsBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		o.claims = func(c map[string]any) {
			now := time.Now().Add(-30 * time.Second)
			c["iat"], c["nbf"], c["exp"] = now.Unix(), now.Unix(), now.Add(5*time.Second).Unix()
		}
		if _, err := o.run(t, o.client(), nil); err != nil {
			t.Errorf("half a minute behind: %v", err)
		}
	})
}

// Scope and token parameters cannot smuggle in what the package sets.
func TestParamsCannotReplaceWhatThePackageSets(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	for _, name := range []string{"state", "response", "response_mode", "code_verifier", "client_assertion", "redirect_uri", "request_uri"} {
		for _, req := range []*login.AuthRequest{{Params: url.Values{name: {"x"}}}, {TokenParams: url.Values{name: {"x"}}}} {
			if _, _, err := o.client().AuthCodeURL(t.Context(), req); err == nil && name != "response" {
				t.Errorf("%s can be set", name)
			}
		}
	}
}

// The registry keeps one issuer's provider apart from another's that differs in a slash.
func TestIssuersThatDifferInASlash(t *testing.T) {
	t.Parallel()
	ps := new(login.Providers)
	a, err := ps.Provider("https://as.example")
	b, berr := ps.Provider("https://as.example/")
	if err != nil || berr != nil || a == b {
		t.Errorf("they share a provider: %v, %v", err, berr)
	}
}

// A keys endpoint that hangs costs time and no login.
func TestHangingKeysEndpointSpendsNoLogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		asked, tx := begin(t, c, nil)
		o.handle["/keys"] = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		back := callback(o.consent(asked))
		for range 2 {
			if _, err := c.Exchange(t.Context(), tx, back); err == nil {
				t.Fatal("without keys")
			}
		}
		o.mu.Lock()
		delete(o.handle, "/keys")
		o.mu.Unlock()
		wait(2 * time.Minute)
		if _, err := c.Exchange(t.Context(), tx, back); err != nil {
			t.Errorf("the login was spent while the keys hung: %v", err)
		}
	})
}
