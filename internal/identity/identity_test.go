package identity_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"example.com/authtrip/internal/identity"
)

func TestURLOfAnEndpointIsHTTPSUnlessNamed(t *testing.T) {
	for raw, want := range map[string]struct{ never, loopback, insecure bool }{
		"https://as.example/token":       {true, true, true},
		"HTTPS://as.example/token?a=b":   {true, true, true},
		"http://127.0.0.1:8080/token":    {false, true, true},
		"http://[::1]/token":             {false, true, true},
		"http://localhost/token":         {false, true, true},
		"http://as.example/token":        {false, false, true},
		"http://127.0.0.1.evil.example/": {false, false, true},
		"http://localhost.evil.example/": {false, false, true},
		"http://10.0.0.1/token":          {false, false, true},
		"https://u:53CR3T@as.example/":   {},
		"https://as.example/#53CR3T":     {},
		"as.example/token":               {},
		"/token":                         {},
		"":                               {},
		"https:///token":                 {},
		"ftp://as.example/":              {},
		"file:///etc/passwd":             {},
		"javascript:alert(1)":            {},
		"https://[::1/53CR3T":            {},
	} {
		for _, tt := range []struct{ loopback, insecure, want bool }{
			{false, false, want.never}, {true, false, want.loopback}, {false, true, want.insecure},
		} {
			u, err := identity.URL(raw, tt.loopback, tt.insecure)
			if (err == nil) != tt.want || err == nil && u == nil {
				t.Errorf("URL(%q, %v, %v): error = %v", raw, tt.loopback, tt.insecure, err)
			}
			if err != nil && strings.Contains(err.Error(), "53CR3T") {
				t.Errorf("the error quotes the URL: %v", err)
			}
		}
	}
}

// Rule 20: credentials go where they were sent, and nowhere else.
func TestClientFollowsNoRedirect(t *testing.T) {
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{other.URL, "https://[53CR3T", ""} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", location)
				w.WriteHeader(status)
			}))
			own := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
			for _, c := range []*http.Client{nil, own} {
				resp, err := identity.Client(c).Post(server.URL, "text/plain", strings.NewReader("secret"))
				if err != nil {
					t.Fatalf("%d to %q: %v", status, location, err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != status {
					t.Errorf("status = %d, want %d", resp.StatusCode, status)
				}
			}
			server.Close()
		}
	}
	if followed {
		t.Error("a redirect was followed")
	}
}

// One user's request carried another one's cookie.
func TestClientKeepsNoCookies(t *testing.T) {
	var got []*http.Cookie
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Cookies()...)
		http.SetCookie(w, &http.Cookie{Name: "user", Value: "alice"})
	}))
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(u, []*http.Cookie{{Name: "own", Value: "x"}})
	own := &http.Client{Jar: jar}
	for range 2 {
		resp, err := identity.Client(own).Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if len(got) != 0 || len(jar.Cookies(u)) != 1 {
		t.Errorf("cookies sent: %v", got)
	}
	if own.Jar == nil || own.CheckRedirect != nil {
		t.Error("the caller's client was changed")
	}
}

// Many refreshes at once dial once each, and not at every request: the pool is that of the
// whole process.
func TestClientsShareTheirConnections(t *testing.T) {
	addrs := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { addrs[r.RemoteAddr] = true }))
	defer server.Close()
	for range 5 {
		c := identity.Client(nil)
		resp, err := c.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		c.CloseIdleConnections() // as retryablehttp does after a failure
	}
	if len(addrs) != 1 {
		t.Errorf("connections = %d, want 1", len(addrs))
	}
}

func TestClientUsesTheCallersTransport(t *testing.T) {
	var seen []string
	own := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		seen = append(seen, r.URL.Host)
		return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})}
	resp, err := identity.Client(own).Get("https://as.example/keys")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(seen) != 1 || seen[0] != "as.example" {
		t.Errorf("requests = %q", seen)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
