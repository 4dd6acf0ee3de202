package login_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"example.com/authtrip/login"
)

// A client of two servers that send no iss tells them apart by its redirect URIs. A
// response of the one was taken for the other's, as the query was not compared,
// and of the path only its end.
func TestRule64RedirectURIIsComparedWhole(t *testing.T) {
	t.Parallel()
	const base = "https://app.example"
	for _, tt := range []struct {
		registered, came string
		ok               bool
	}{
		{"/callback?as=one", "/callback?as=one", true},
		{"/callback?as=one", "/callback?as=two", false},
		{"/callback?as=one", "/callback?as=one&as=two", false},
		{"/callback?as=one", "/callback", false},
		{"/callback?as=one&b=2", "/callback?b=2&as=one", true},
		{"/one/callback", "/callback", false},
		{"/one/callback", "/one/callback", true},
		{"/callback", "/one/callback", false},
		{"/callback", "/callback/", false},
		{"/a%2Fb", "/a/b", false},
		{"", "/", true},
	} {
		for _, form := range []bool{false, true} {
			o := newOP(t)
			c := o.client()
			c.RedirectURL = base + tt.registered
			asked, tx := begin(t, c, &login.AuthRequest{FormPost: form})
			q := o.consent(asked)
			q.Del("iss")
			r := httptest.NewRequest(http.MethodPost, tt.came, strings.NewReader(q.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if !form {
				at, _ := url.Parse(tt.came)
				if at.RawQuery != "" {
					at.RawQuery += "&"
				}
				at.RawQuery += q.Encode()
				r = httptest.NewRequest(http.MethodGet, at.String(), nil)
			}
			_, err := c.Exchange(t.Context(), tx, r)
			if tt.ok && err != nil {
				t.Errorf("%s came to %s (form %v): %v", tt.registered, tt.came, form, err)
			}
			if !tt.ok {
				wantCheck(t, err, "redirect_uri")
				noTokenRequest(t, o)
			}
		}
	}
}

// What a handler that is mounted with http.StripPrefix sees is not what the
// browser was sent to.
func TestStripPrefixDoesNotHideWhereTheResponseCame(t *testing.T) {
	t.Parallel()
	for path, ok := range map[string]bool{"/one/callback": true, "/two/callback": false} {
		o := newOP(t)
		c := o.client()
		c.RedirectURL = "https://app.example/one/callback"
		asked, tx := begin(t, c, nil)
		var err error
		strip := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, err = c.Exchange(r.Context(), tx, r) })
		r := httptest.NewRequest(http.MethodGet, path+"?"+o.consent(asked).Encode(), nil)
		http.StripPrefix(path[:4], strip).ServeHTTP(httptest.NewRecorder(), r)
		if ok != (err == nil) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
