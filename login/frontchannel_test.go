package login_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"example.com/authtrip/login"
)

// The page ends the session that the server names, in a frame of that server alone; what
// names no session, or another server, ends nothing.
func TestFrontChannelLogout(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	good := url.Values{"iss": {issuer}, "sid": {"s1"}}
	with := func(edit func(q url.Values)) string {
		q := url.Values{"iss": {issuer}, "sid": {"s1"}}
		edit(q)
		return q.Encode()
	}
	for name, tt := range map[string]struct {
		query  string
		method string
		status int
	}{
		"as it should be": {good.Encode(), "GET", 200},
		"another server":  {with(func(q url.Values) { q.Set("iss", "https://evil.example") }), "GET", 400},
		"no iss":          {with(func(q url.Values) { q.Del("iss") }), "GET", 400},
		"no sid":          {with(func(q url.Values) { q.Del("sid") }), "GET", 400},
		"empty sid":       {with(func(q url.Values) { q.Set("sid", "") }), "GET", 400},
		"sid twice":       {with(func(q url.Values) { q.Add("sid", "s2") }), "GET", 400},
		"a POST":          {good.Encode(), "POST", 405},
		"no query":        {"%", "GET", 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ended []string
			h := &login.FrontChannelLogout{Client: o.client(), OnLogout: func(_ http.ResponseWriter, _ *http.Request, iss, sid string) error {
				ended = append(ended, iss+" "+sid)
				return nil
			}}
			w := httptest.NewRecorder()
			r := httptest.NewRequest(tt.method, "https://app.example/frontchannel", nil)
			r.URL.RawQuery = tt.query
			h.ServeHTTP(w, r)
			if w.Code != tt.status || (len(ended) == 1) != (tt.status == 200) {
				t.Errorf("status %d, ended %v", w.Code, ended)
			}
			policy := w.Header().Get("Content-Security-Policy")
			if tt.status == 200 && (!strings.HasSuffix(policy, "frame-ancestors "+issuer) || w.Header().Get("Cache-Control") != "no-store") {
				t.Errorf("the page can be in another frame, or be kept: %q", policy)
			}
		})
	}
}

// Of several clients it is that of the issuer; what goes wrong is told.
func TestFrontChannelLogoutOfManyIssuers(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	var failed error
	h := &login.FrontChannelLogout{
		Clients: func(_ *http.Request, iss string) (*login.Client, error) {
			if iss != issuer {
				return nil, nil
			}
			return o.client(), nil
		},
		OnLogout: func(http.ResponseWriter, *http.Request, string, string) error {
			return errors.New("the database is down")
		},
		OnError: func(_ *http.Request, err error) { failed = err },
	}
	for iss, status := range map[string]int{issuer: 500, "https://evil.example": 400} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "https://app.example/?"+url.Values{"iss": {iss}, "sid": {"s"}}.Encode(), nil))
		if w.Code != status || failed == nil {
			t.Errorf("%s: status %d, %v", iss, w.Code, failed)
		}
	}
}
