package login_test

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip/login"
)

// wantCheck fails unless err is the refusal of that check.
func wantCheck(t *testing.T, err error, check string) *login.CheckError {
	t.Helper()
	ce, ok := errors.AsType[*login.CheckError](err)
	if !ok {
		t.Fatalf("error is %T %v, want a CheckError of %s", err, err, check)
	}
	if ce.Check != check {
		t.Fatalf("check = %q (%v), want %q", ce.Check, err, check)
	}
	return ce
}

// noTokenRequest fails if the code was sent.
func noTokenRequest(t *testing.T, o *op) {
	t.Helper()
	if n := o.count("/token"); n != 0 {
		t.Errorf("token requests = %d, want 0", n)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	s, err := o.run(t, o.client(), &login.AuthRequest{ReturnTo: "/inbox"})
	if err != nil {
		t.Fatal(err)
	}
	if s.IDToken.Subject != "alice" || s.IDToken.Issuer != issuer || s.ReturnTo != "/inbox" || s.Token.RefreshToken == "" {
		t.Errorf("session is not what the server sent")
	}
	var claims struct{ Name string }
	if err := s.IDToken.Claims(&claims); err != nil || claims.Name != "Alice" {
		t.Errorf("Claims = %+v, %v", claims, err)
	}
}

func TestRule01StateIsFreshAndUnguessable(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	seen := map[string]bool{}
	for range 50 {
		asked, tx := begin(t, c, nil)
		if asked.Get("state") != tx.State || len(tx.State) < 43 || seen[tx.State] || seen[tx.Nonce] || tx.State == tx.Nonce {
			t.Fatal("state or nonce is short, or was there before")
		}
		seen[tx.State], seen[tx.Nonce] = true, true
	}
}

func TestRule02StateIsComparedFirst(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(q url.Values){
		"missing":         func(q url.Values) { q.Del("state") },
		"empty":           func(q url.Values) { q.Set("state", "") },
		"other":           func(q url.Values) { q.Set("state", "AAAA") },
		"prefix":          func(q url.Values) { q.Set("state", q.Get("state")[:42]) },
		"other and error": func(q url.Values) { q.Set("state", "AAAA"); q.Set("error", "access_denied") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			c := o.client()
			asked, tx := begin(t, c, nil)
			good := o.consent(asked)
			bad := url.Values{}
			for k, v := range good {
				bad[k] = v
			}
			bad["state"] = []string{good.Get("state")}
			change(bad)
			_, err := c.Exchange(t.Context(), tx, callback(bad))
			wantCheck(t, err, "state")
			noTokenRequest(t, o)
			// A stranger's response does not end the login.
			if _, err := c.Exchange(t.Context(), tx, callback(good)); err != nil {
				t.Errorf("the real response afterwards: %v", err)
			}
		})
	}
}

func TestRule03TransactionServesOnce(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(q url.Values){
		"after success":     func(url.Values) {},
		"after an error":    func(q url.Values) { q.Set("error", "access_denied"); q.Del("code") },
		"after a wrong iss": func(q url.Values) { q.Set("iss", "https://evil.example") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			c := o.client()
			asked, tx := begin(t, c, nil)
			q := o.consent(asked)
			first(q)
			_, _ = c.Exchange(t.Context(), tx, callback(q))
			before := o.count("/token")
			_, err := c.Exchange(t.Context(), tx, callback(o.consent(asked)))
			wantCheck(t, err, "transaction")
			if n := o.count("/token"); n != before {
				t.Errorf("token requests = %d, want %d", n, before)
			}
		})
	}
}

func TestRule03OneOfManyAtOnce(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			app := newWeb(o, &login.Handlers{Transactions: keeper()})
			c := app.Client
			asked, tx := begin(t, c, nil)
			q := o.consent(asked)
			b := newBrowser(t, o)
			_, at := b.get("https://app.example/login")
			back := callback(o.consent(at.Query()))
			var wg sync.WaitGroup
			var good, sent atomic.Int32
			for range 20 {
				wg.Go(func() {
					if _, err := c.Exchange(t.Context(), tx, callback(q)); err == nil {
						good.Add(1)
					}
				})
				wg.Go(func() {
					resp, err := b.client.Get(back)
					if err != nil {
						t.Error(err)
						return
					}
					_ = resp.Body.Close()
					if resp.StatusCode == http.StatusSeeOther {
						sent.Add(1)
					}
				})
			}
			wg.Wait()
			// Requests of the one browser share the login while its cookie is there.
			if good.Load() != 1 || sent.Load() == 0 || o.count("/token") != 2 || len(app.users) == 0 {
				t.Errorf("sessions = %d, answers %d, token requests = %d, want 1, 1 to 20 and 2", good.Load(), sent.Load(), o.count("/token"))
			}
		})
	}
}

func TestRule04ErrorInTheRedirect(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"access_denied", "login_required", "server_error", "Looks like <b>this</b>"} {
		o := newOP(t)
		c := o.client()
		asked, tx := begin(t, c, nil)
		q := o.consent(asked) // a code beside it changes nothing
		q.Set("error", code)
		q.Set("error_description", "user alice@example.com said no\nand left")
		_, err := c.Exchange(t.Context(), tx, callback(q))
		ae, ok := errors.AsType[*login.AuthorizationError](err)
		if !ok {
			t.Fatalf("error is %T %v", err, err)
		}
		if strings.Contains(code, " ") {
			code = "unprintable"
		}
		if ae.Code != code || strings.Contains(err.Error(), "alice") || strings.ContainsAny(ae.Description, "\n@") {
			t.Errorf("error = %v %q", err, ae.Description)
		}
		if ae.Temporary() != (code == "server_error") {
			t.Errorf("Temporary() of %s = %v", code, ae.Temporary())
		}
		noTokenRequest(t, o)
	}
}

func TestRule05IssuerInTheRedirect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		supported bool
		change    func(q url.Values)
		refused   bool
	}{
		{"right", true, func(url.Values) {}, false},
		{"missing where it is never sent", false, func(q url.Values) { q.Del("iss") }, false},
		{"missing where it is always sent", true, func(q url.Values) { q.Del("iss") }, true},
		{"wrong", false, func(q url.Values) { q.Set("iss", "https://evil.example") }, true},
		{"slash at the end", true, func(q url.Values) { q.Set("iss", issuer+"/") }, true},
		{"upper case", true, func(q url.Values) { q.Set("iss", "HTTPS://as.example") }, true},
		{"wrong with an error", false, func(q url.Values) { q.Set("iss", "https://evil.example"); q.Set("error", "access_denied") }, true},
		{"missing with an error", true, func(q url.Values) { q.Del("iss"); q.Set("error", "access_denied") }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.metadata = func(m map[string]any) { m["authorization_response_iss_parameter_supported"] = tt.supported }
			c := o.client()
			asked, tx := begin(t, c, nil)
			q := o.consent(asked)
			tt.change(q)
			_, err := c.Exchange(t.Context(), tx, callback(q))
			if !tt.refused {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if ce := wantCheck(t, err, "iss"); ce.Want != issuer || ce.Got != q.Get("iss") {
				t.Errorf("Want, Got = %q, %q", ce.Want, ce.Got)
			}
			noTokenRequest(t, o)
		})
	}
}

func TestRule06ResponseOfAnotherServer(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	asked, tx := begin(t, c, nil)
	q := o.consent(asked)
	other := *c
	other.Provider = &login.Provider{Issuer: "https://other.example", Static: &login.Metadata{TokenEndpoint: "https://other.example/token"}}
	_, err := other.Exchange(t.Context(), tx, callback(q))
	wantCheck(t, err, "transaction issuer")
	for _, place := range []string{
		"https://app.example/callback/other", "https://evil.example/callback", "http://app.example/callback",
		"https://app.example:8443/callback", "https://app.example", "/callback", "",
	} {
		_, err := c.Exchange(t.Context(), tx, place+"?"+q.Encode())
		wantCheck(t, err, "redirect_uri")
	}
	req, _ := http.NewRequest(http.MethodGet, "/callback/other?"+q.Encode(), nil)
	_, err = c.Exchange(t.Context(), tx, req)
	wantCheck(t, err, "redirect_uri")
	noTokenRequest(t, o)
}

func TestRule07ParameterTwice(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"state", "code", "iss", "error", "error_description"} {
		o := newOP(t)
		c := o.client()
		asked, tx := begin(t, c, nil)
		q := o.consent(asked)
		q[name] = append(q[name], "x", "x")
		_, err := c.Exchange(t.Context(), tx, callback(q))
		wantCheck(t, err, "redirect")
		noTokenRequest(t, o)
	}
}

func TestRule08UnknownParameters(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	asked, tx := begin(t, c, nil)
	q := o.consent(asked)
	q["session_state"] = []string{"a", "b"}
	q.Set("scope", "openid email")
	if _, err := c.Exchange(t.Context(), tx, callback(q)+"#_=_"); err != nil {
		t.Fatal(err)
	}
}

func TestRule09PKCE(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	verifier := regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
	seen := map[string]bool{}
	for range 20 {
		asked, tx := begin(t, c, &login.AuthRequest{Scopes: []string{"books"}})
		if !verifier.MatchString(tx.Verifier) || seen[tx.Verifier] {
			t.Fatal("verifier has the wrong form, or was there before")
		}
		seen[tx.Verifier] = true
		if asked.Get("code_challenge_method") != "S256" || asked.Get("code_challenge") != oauth2.S256ChallengeFromVerifier(tx.Verifier) {
			t.Fatal("challenge is not that of the verifier")
		}
		if _, err := c.Exchange(t.Context(), tx, callback(o.consent(asked))); err != nil {
			t.Fatal(err)
		}
		if form, _ := o.last("/token"); form.Get("code_verifier") != tx.Verifier {
			t.Fatal("verifier was not sent")
		}
	}
	if _, _, err := c.AuthCodeURL(t.Context(), &login.AuthRequest{Params: url.Values{"code_challenge_method": {"plain"}}}); err == nil {
		t.Error("Params may set code_challenge_method")
	}
}

func TestRule10NoPlain(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	asked, tx := begin(t, c, nil)
	if asked.Get("code_challenge_method") != "S256" {
		t.Error("fell back to plain")
	}
	_, err := c.Exchange(t.Context(), tx, callback(url.Values{
		"state": {tx.State}, "error": {"invalid_request"}, "error_description": {"transform algorithm not supported"},
	}))
	if _, ok := errors.AsType[*login.AuthorizationError](err); !ok {
		t.Errorf("error is %v", err)
	}
	noTokenRequest(t, o)
}

func TestRule11TokenInTheRedirect(t *testing.T) {
	t.Parallel()
	for _, tail := range []string{"&access_token=x&token_type=bearer", "#access_token=x&token_type=bearer", "&id_token=x"} {
		o := newOP(t)
		c := o.client()
		asked, tx := begin(t, c, nil)
		_, err := c.Exchange(t.Context(), tx, callback(o.consent(asked))+tail)
		wantCheck(t, err, "redirect")
		noTokenRequest(t, o)
	}
}

func TestRule12RedirectURIIsTheSame(t *testing.T) {
	t.Parallel()
	const odd = "https://app.example:443/cb/%7Euser?tenant=a%20b"
	o := newOP(t)
	c := o.client()
	c.RedirectURL = odd
	asked, tx := begin(t, c, nil)
	c2 := *c
	c2.RedirectURL = redirectURL // changed meanwhile
	if _, err := c2.Exchange(t.Context(), tx, odd+"&"+o.consent(asked).Encode()); err != nil {
		t.Fatal(err)
	}
	if form, _ := o.last("/token"); form.Get("redirect_uri") != odd || asked.Get("redirect_uri") != odd {
		t.Errorf("redirect_uri = %q, then %q", asked.Get("redirect_uri"), form.Get("redirect_uri"))
	}
}

func TestRule13CodeIsSentOnce(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"503":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no answer":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"cut answer": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"access_token":`)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.handle["/token"] = h
			c := o.client()
			asked, tx := begin(t, c, nil)
			q := o.consent(asked)
			for range 3 {
				if _, err := c.Exchange(t.Context(), tx, callback(q)); err == nil {
					t.Fatal("no error")
				}
			}
			if n := o.count("/token"); n != 1 {
				t.Errorf("token requests = %d, want 1", n)
			}
		})
	}
}

func TestRule14RedirectURL(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	for raw, ok := range map[string]bool{
		"https://app.example/cb":       true,
		"http://127.0.0.1:8123/cb":     true,
		"http://[::1]:8123/cb":         true,
		"com.example.app:/cb":          true,
		"http://app.example/cb":        false,
		"/cb":                          false,
		"":                             false,
		"https://app.example/cb#f":     false,
		"https://u:p@app.example/cb":   false,
		"javascript:alert(1)":          false,
		"http://localhost.evil.com/cb": false,
	} {
		c := o.client()
		c.RedirectURL = raw
		_, _, err := c.AuthCodeURL(t.Context(), nil)
		if (err == nil) != ok {
			t.Errorf("RedirectURL %q: %v", raw, err)
		}
	}
}

func TestRule15Resources(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	c.Resources = []string{"https://api.example/", "urn:example:api"}
	asked, tx := begin(t, c, nil)
	if got := asked["resource"]; len(got) != 2 {
		t.Errorf("resource = %q", got)
	}
	if _, err := c.Exchange(t.Context(), tx, callback(o.consent(asked))); err != nil {
		t.Fatal(err)
	}
	if form, _ := o.last("/token"); len(form["resource"]) != 2 {
		t.Errorf("resource at the token endpoint = %q", form["resource"])
	}
	for _, bad := range []string{"api.example", "/api", "https://api.example/#a", ""} {
		if _, _, err := c.AuthCodeURL(t.Context(), &login.AuthRequest{Resources: []string{bad}}); err == nil {
			t.Errorf("resource %q was taken", bad)
		}
	}
}
