package login_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/authtrip/login"
)

// fuzzClient is a client whose server cannot be reached: what gets as far as a
// token request ends in an error that says so.
func fuzzClient(transport http.RoundTripper) *login.Client {
	return &login.Client{
		Provider: &login.Provider{
			Issuer:     issuer,
			Static:     &login.Metadata{TokenEndpoint: issuer + "/token", AuthorizationEndpoint: issuer + "/authorize"},
			HTTPClient: &http.Client{Transport: transport},
		},
		ID: clientID, RedirectURL: redirectURL, Scopes: []string{"books"},
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var errReached = errors.New("the token endpoint was reached")

// Whatever comes back, the code is sent only with the right state, once each,
// without an error and without another server's iss.
func FuzzRedirectResponse(f *testing.F) {
	for _, seed := range []string{
		redirectURL + "?code=c&state=STATE", redirectURL + "?code=c&state=STATE&iss=https%3A%2F%2Fas.example",
		redirectURL + "?state=STATE&error=access_denied", redirectURL + "?code=c&code=d&state=STATE",
		redirectURL + "?code=c&state=STATE#access_token=t", redirectURL + "?code=c;state=STATE", "?", "%", redirectURL,
		"https://app.example/callback?code=c&state=STATE&iss=x", redirectURL + "?code=%00&state=STATE&state=",
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	reached := false
	c := fuzzClient(roundTripper(func(*http.Request) (*http.Response, error) { reached = true; return nil, errReached }))
	f.Fuzz(func(t *testing.T, response string, post bool) {
		_, tx, err := c.AuthCodeURL(t.Context(), &login.AuthRequest{FormPost: post})
		if err != nil {
			t.Fatal(err)
		}
		tx.State = "STATE"
		reached = false
		var q url.Values
		if post {
			r := httptest.NewRequest(http.MethodPost, "/callback", strings.NewReader(response))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			q, _ = url.ParseQuery(response)
			_, err = c.Exchange(t.Context(), tx, r)
		} else {
			if u, uerr := url.Parse(strings.TrimSpace(response)); uerr == nil {
				q, _ = url.ParseQuery(u.RawQuery)
			}
			_, err = c.Exchange(t.Context(), tx, response)
		}
		if err == nil {
			t.Fatal("a session without a server")
		}
		if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("error has more than one line: %q", err)
		}
		if !reached {
			return
		}
		if len(q["state"]) != 1 || q.Get("state") != "STATE" || len(q["code"]) != 1 || q.Get("code") == "" ||
			q.Get("error") != "" || q.Get("iss") != "" && q.Get("iss") != issuer || q.Has("access_token") {
			t.Errorf("the code was sent for %q", response)
		}
	})
}

// Metadata that is accepted is the issuer's, and its endpoints are on https.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{
		`{"issuer":"https://as.example","authorization_endpoint":"https://as.example/a"}`,
		`{"issuer":"https://as.example","authorization_endpoint":"http://as.example/a"}`,
		`{"issuer":"https://as.example","Issuer":"https://evil.example","authorization_endpoint":"javascript:x"}`,
		`{"issuer":"https://as.example/"}`, `{}`, `[]`, `null`, `{"issuer":7}`, `{"issuer":"https://as.example"}{}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := fuzzClient(roundTripper(func(*http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			_, _ = w.Write(body)
			return w.Result(), nil
		}))
		c.Provider.Static = nil
		m, err := c.Provider.Metadata(t.Context())
		if err != nil {
			return
		}
		if m.Issuer != issuer {
			t.Fatalf("issuer = %q", m.Issuer)
		}
		at, _, err := c.AuthCodeURL(t.Context(), nil)
		if err == nil && !strings.HasPrefix(strings.ToLower(at), "https://") {
			t.Errorf("the user is sent to %q", at)
		}
	})
}

// An ID token that is accepted was signed by the server.
func FuzzIDToken(f *testing.F) {
	o := newOP(f)
	good := o.idToken("", "at")
	parts := strings.Split(good, ".")
	f.Add(good)
	f.Add(unsigned(map[string]any{"iss": issuer, "sub": "alice", "aud": clientID, "exp": time.Now().Add(time.Hour).Unix()}))
	f.Add(parts[0] + "." + parts[1] + ".")
	f.Add(parts[0] + ".e30." + parts[2])
	f.Add("..")
	f.Add(`{"payload":"","signatures":[]}`)
	f.Add("")
	raw := ""
	o.token = func(m map[string]any) { m["access_token"], m["id_token"] = "at", raw }
	c := o.client()
	c.Scopes = []string{"books"} // no nonce, so that the seed is good
	f.Fuzz(func(t *testing.T, idToken string) {
		raw = idToken
		s, err := o.run(t, c, nil)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("error has more than one line: %q", err)
			}
			return
		}
		if s.IDToken == nil {
			if idToken != "" {
				t.Errorf("%q was overlooked", idToken)
			}
			return
		}
		if got := strings.Split(idToken, "."); got[0] != parts[0] || got[1] != parts[1] {
			t.Errorf("%q was accepted", idToken)
		}
	})
}
