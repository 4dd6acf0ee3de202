package origin

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func mustURL(tb testing.TB, s string) *url.URL {
	tb.Helper()
	u, err := url.Parse(s)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

func TestOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		url  *url.URL
		want Origin
	}{
		{"nil", nil, Origin{}},
		{"https", mustURL(t, "https://api.example.com/v1?q#f"), Origin{"https", "api.example.com", "443"}},
		{"http", mustURL(t, "http://api.example.com"), Origin{"http", "api.example.com", "80"}},
		{"port", mustURL(t, "https://api.example.com:8443/"), Origin{"https", "api.example.com", "8443"}},
		{"empty port", mustURL(t, "https://api.example.com:/"), Origin{"https", "api.example.com", "443"}},
		{"upper case", mustURL(t, "HTTPS://API.Example.COM"), Origin{"https", "api.example.com", "443"}},
		{"upper-case scheme by hand", &url.URL{Scheme: "HTTPS", Host: "a"}, Origin{"https", "a", "443"}},
		{"user information", mustURL(t, "https://u:p@a/"), Origin{"https", "a", "443"}},
		{"trailing dot", mustURL(t, "https://a.example./"), Origin{"https", "a.example.", "443"}},
		{"IPv4", mustURL(t, "http://127.0.0.1:8080/"), Origin{"http", "127.0.0.1", "8080"}},
		{"IPv6", mustURL(t, "http://[2001:DB8::1]/"), Origin{"http", "[2001:db8::1]", "80"}},
		{"IPv6 with port", mustURL(t, "http://[::1]:8080/"), Origin{"http", "[::1]", "8080"}},
		{"IPv6 with zone", mustURL(t, "http://[FE80::1%25Eth0]/"), Origin{"http", "[fe80::1%Eth0]", "80"}},
		{"not ASCII", mustURL(t, "https://BÜCHER.example/"), Origin{"https", "bÜcher.example", "443"}},
		{"kelvin sign", mustURL(t, "https://\u212a.example/"), Origin{"https", "\u212a.example", "443"}},
		{"other scheme", mustURL(t, "ftp://a/"), Origin{"ftp", "a", ""}},
		{"empty host", mustURL(t, "https:///path"), Origin{"https", "", ""}},
		{"port without host", mustURL(t, "https://:8443/"), Origin{"https", "", "8443"}},
		{"relative", mustURL(t, "/path"), Origin{}},
		{"port that is none", &url.URL{Scheme: "https", Host: "a:http"}, Origin{"https", "a:http", "443"}},
		{"opaque", mustURL(t, "https:a"), Origin{"https", "", ""}},
		{"opaque path", &url.URL{Scheme: "https", Host: "a", Opaque: "/x%2Fy"}, Origin{"https", "a", "443"}},
		{"opaque to the same host", &url.URL{Scheme: "https", Host: "a", Opaque: "//a/x%2Fy"}, Origin{"https", "a", "443"}},
		{"opaque to another host", &url.URL{Scheme: "https", Host: "a", Opaque: "//b/x"}, Origin{"https", "", ""}},
		{"opaque to another host, absolute", &url.URL{Scheme: "http", Host: "a", Opaque: "http://b/x"}, Origin{"http", "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Of(tt.url); got != tt.want {
				t.Errorf("Of(%v) = %+v, want %+v", tt.url, got, tt.want)
			}
		})
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	const api = "https://api.example.com/v1"
	for _, tt := range []struct {
		name string
		a, b string
		want bool
	}{
		{"itself", api, api, true},
		{"other path and query", api, "https://api.example.com/v2?x=y", true},
		{"default port", api, "https://api.example.com:443", true},
		{"default port of http", "http://a", "http://a:80", true},
		{"upper case", api, "HTTPS://API.EXAMPLE.COM", true},
		{"user information", api, "https://me:secret@api.example.com/", true},
		{"other port", api, "https://api.example.com:8443", false},
		{"port of the other scheme", api, "https://api.example.com:80", false},
		{"plain http", api, "http://api.example.com", false},
		{"plain http to the port of https", api, "http://api.example.com:443", false},
		{"subdomain", api, "https://eu.api.example.com", false},
		{"parent domain", api, "https://example.com", false},
		{"host as user", api, "https://api.example.com@evil.example/", false},
		{"host as prefix", api, "https://api.example.com.evil.example/", false},
		{"host as suffix", api, "https://evilapi.example.com/", false},
		{"trailing dot", api, "https://api.example.com./", false},
		{"IPv6", "https://[::1]/", "https://[::1]:443/", true},
		{"IPv6 spelled otherwise", "https://[::1]/", "https://[0::1]/", false},
		{"other zone", "https://[fe80::1%25eth0]/", "https://[fe80::1%25ETH0]/", false},
		{"letter of another script", "https://\u212aiwi.example/", "https://kiwi.example/", false},
		{"no host", api, "/v1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := mustURL(t, tt.a), mustURL(t, tt.b)
			if got := Same(a, b); got != tt.want {
				t.Errorf("Same(%q, %q) = %t, want %t", tt.a, tt.b, got, tt.want)
			}
			if got := Same(b, a); got != tt.want {
				t.Errorf("Same(%q, %q) = %t, want %t", tt.b, tt.a, got, tt.want)
			}
		})
	}
}

// origins are strings that Parse reads, with what String makes of them.
var origins = map[string]string{
	"https://api.example.com":      "https://api.example.com",
	"https://api.example.com:443":  "https://api.example.com",
	"https://api.example.com:8443": "https://api.example.com:8443",
	"HTTP://API.example.com:80":    "http://api.example.com",
	"http://localhost:8080":        "http://localhost:8080",
	"https://a.example.":           "https://a.example.",
	"https://my_host":              "https://my_host",
	"https://[2001:DB8::1]":        "https://[2001:db8::1]",
	"https://[::1]:8443":           "https://[::1]:8443",
	"https://[fe80::1%25eth0]:1":   "https://[fe80::1%25eth0]:1",
	"https://bücher.example":       "https://bücher.example",
}

// notOrigins are strings that Parse refuses, with what its error has to name.
var notOrigins = map[string]string{
	"":                                     "empty",
	"*":                                    "wildcard",
	"*://a":                                "wildcard",
	"https://*":                            "wildcard",
	"https://*.example.com":                "wildcard",
	"api.example.com":                      "no scheme",
	"api.example.com:8443":                 "no scheme",
	"//api.example.com":                    "no scheme",
	"https:api.example.com":                "no scheme",
	"api.example.com/?u=https://a":         "no scheme",
	"ftp://api.example.com":                "not http or https",
	"https://":                             "no host",
	"https://:8443":                        "host is empty",
	"https://a/":                           "path",
	"https://a/v1?q":                       "path",
	"https://a?hunter2":                    "query",
	"https://a#hunter2":                    "fragment",
	"https://me:hunter2@a":                 "user information",
	"https://@a":                           "user information",
	"https://me:hunter2@*/":                "user information",
	"https://me:hun/ter2@a":                "path",
	"https://a:0":                          "port",
	"https://a:0443":                       "port",
	"https://a:65536":                      "port",
	"https://a:http":                       "port",
	"https://a,b":                          "','",
	"https://a b":                          "character",
	"https://a\\b":                         "character",
	"https://a\n":                          "control character",
	"https://[::1":                         "']'",
	"https://[a]":                          "",
	"https://[127.0.0.1]":                  "",
	"https://::1":                          "",
	"https://" + strings.Repeat("a|", 1e4): "character",
}

func TestParse(t *testing.T) {
	t.Parallel()
	for s, want := range origins {
		o, err := Parse(s)
		if err != nil {
			t.Errorf("Parse(%q): %v", s, err)
			continue
		}
		if got := o.String(); got != want {
			t.Errorf("Parse(%q) = %q, want %q", s, got, want)
		}
		if of := Of(mustURL(t, s)); o != of {
			t.Errorf("Parse(%q) = %+v, and Of gives %+v", s, o, of)
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for s, want := range notOrigins {
		o, err := Parse(s)
		if err == nil || o != (Origin{}) {
			t.Errorf("Parse(%q) = %+v, %v, want an error", s, o, err)
			continue
		}
		msg := err.Error()
		if !strings.Contains(msg, want) {
			t.Errorf("Parse(%q): %q does not name %q", s, msg, want)
		}
		if strings.Contains(msg, "hun") || strings.Contains(msg, "\n") || len(msg) > 500 {
			t.Errorf("Parse(%q): %q prints a secret or too much", s, msg)
		}
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost":              true,
		"127.0.0.1":              true,
		"127.255.0.3":            true,
		"::1":                    true,
		"[::1]":                  true,
		"0:0:0:0:0:0:0:1":        true,
		"::ffff:127.0.0.1":       true,
		"":                       false,
		"LOCALHOST":              false,
		"localhost.":             false,
		"a.localhost":            false,
		"localhost.evil.example": false,
		"127.0.0.1.evil.example": false,
		"127.1":                  false,
		"127.0.0.01":             false,
		"127.0.0.1.":             false,
		"[127.0.0.1]":            false,
		"[localhost]":            false,
		"128.0.0.1":              false,
		"0.0.0.0":                false,
		"10.0.0.1":               false,
		"::":                     false,
		"::2":                    false,
		"[::1":                   false,
		"::1]":                   false,
		"[[::1]]":                false,
		"::1%lo":                 false,
		"localhost:8080":         false,
		"127.0.0.1:8080":         false,
	} {
		if got := Loopback(host); got != want {
			t.Errorf("Loopback(%q) = %t, want %t", host, got, want)
		}
	}
}

// recorder is a RoundTripper that notes what Stayed says of each request, and that sends a clone as
// a middleware does.
type recorder struct {
	base   http.RoundTripper
	forget bool // leaves out resp.Request, as a careless middleware does
	stayed []bool
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	clone := req.Clone(req.Context())
	r.stayed = append(r.stayed, Stayed(clone))
	resp, err := r.base.RoundTrip(clone)
	if err == nil && r.forget {
		resp.Request = nil
	}
	return resp, err
}

func TestStayedFollowsTheRedirectsOfAClient(t *testing.T) {
	t.Parallel()
	// The path says where to go: "/here/there/end" is a hop on this server, then one to the other.
	var here, there *httptest.Server
	hop := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next, rest, more := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case !more:
			return
		case next == "here":
			http.Redirect(w, r, here.URL+"/"+rest, http.StatusTemporaryRedirect)
		case next == "there":
			http.Redirect(w, r, there.URL+"/"+rest, http.StatusTemporaryRedirect)
		case next == "name": // the same server and the same port by another name
			http.Redirect(w, r, strings.Replace(here.URL, "127.0.0.1", "localhost", 1)+"/"+rest, http.StatusTemporaryRedirect)
		case next == "user":
			http.Redirect(w, r, strings.Replace(here.URL, "//", "//me@", 1)+"/"+rest, http.StatusTemporaryRedirect)
		default:
			http.Redirect(w, r, "/"+rest, http.StatusFound)
		}
	})
	here, there = httptest.NewServer(hop), httptest.NewServer(hop)
	t.Cleanup(here.Close)
	t.Cleanup(there.Close)

	for _, tt := range []struct {
		name   string
		path   string
		forget bool
		want   []bool
	}{
		{"no redirect", "/end", false, []bool{true}},
		{"relative", "/relative/end", false, []bool{true, true}},
		{"absolute", "/here/here/end", false, []bool{true, true, true}},
		{"user information", "/user/end", false, []bool{true, true}},
		{"other port", "/there/end", false, []bool{true, false}},
		{"other port, and on there", "/there/relative/relative/end", false, []bool{true, false, false, false}},
		{"there and back", "/here/there/here/here/end", false, []bool{true, true, false, false, false}},
		{"other name", "/relative/name/end", false, []bool{true, true, false}},
		{"chain unknown", "/here/end", true, []bool{true, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := &http.Transport{}
			t.Cleanup(base.CloseIdleConnections)
			rec := &recorder{base: base, forget: tt.forget}
			resp, err := (&http.Client{Transport: rec}).Get(here.URL + tt.path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if len(rec.stayed) != len(tt.want) {
				t.Fatalf("Stayed = %t, want %t", rec.stayed, tt.want)
			}
			for i := range tt.want {
				if rec.stayed[i] != tt.want[i] {
					t.Errorf("Stayed = %t, want %t", rec.stayed, tt.want)
				}
			}
		})
	}
}

// chain returns a request behind n redirects that stayed.
func chain(tb testing.TB, n int) *http.Request {
	tb.Helper()
	req := &http.Request{URL: mustURL(tb, "https://api.example.com/v1")}
	for range n {
		req = &http.Request{URL: req.URL, Response: &http.Response{Request: req}}
	}
	return req
}

func TestStayedEnds(t *testing.T) {
	t.Parallel()
	if !Stayed(chain(t, maxHops)) || Stayed(chain(t, maxHops+1)) {
		t.Errorf("Stayed does not end after %d hops", maxHops)
	}
	loop := chain(t, 1)
	loop.Response.Request = loop
	if Stayed(loop) {
		t.Error("Stayed = true for a chain without a first request")
	}
	unknown := chain(t, 2)
	unknown.Response.Request.Response.Request.URL = nil
	if Stayed(unknown) {
		t.Error("Stayed = true for a chain with a hop to nowhere")
	}
}

func TestAllocations(t *testing.T) {
	a, b := mustURL(t, "https://api.example.com/v1"), mustURL(t, "https://api.example.com:443/v2")
	v6 := mustURL(t, "http://[fe80::1%25eth0]:8080/")
	direct, redirected := chain(t, 0), chain(t, 3)
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"Of", func() { Of(a) }},
		{"Same", func() { Same(a, b) }},
		{"Same IPv6", func() { Same(v6, v6) }},
		{"Stayed", func() { Stayed(direct) }},
		{"Stayed redirected", func() { Stayed(redirected) }},
		{"Loopback name", func() { Loopback("api.example.com") }},
		{"Loopback localhost", func() { Loopback("localhost") }},
		{"Loopback IPv4", func() { Loopback("127.0.0.1") }},
		{"Loopback IPv6", func() { Loopback("[::1]") }},
	} {
		if got := testing.AllocsPerRun(100, tt.f); got != 0 {
			t.Errorf("%s: %v allocations, want 0", tt.name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for s := range origins {
		f.Add(s)
	}
	for s := range notOrigins {
		f.Add(s[:min(len(s), 100)])
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := Parse(s)
		if err != nil {
			if o != (Origin{}) {
				t.Errorf("Parse(%q) = %+v with an error", s, o)
			}
			return
		}
		if o.Host == "" || o.Port == "" || o.Scheme != "http" && o.Scheme != "https" {
			t.Errorf("Parse(%q) = %+v", s, o)
		}
		back, err := Parse(o.String())
		if err != nil || back != o {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", o.String(), back, err, o)
		}
		if u := mustURL(t, s); Of(u) != o || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			t.Errorf("Parse(%q) = %+v left something out", s, o)
		}
	})
}

func FuzzSame(f *testing.F) {
	for s := range origins {
		f.Add(s, "https://api.example.com")
		f.Add(s+"/path", strings.ToUpper(s))
	}
	f.Add("https://api.example.com", "https://api.example.com@evil.example")
	f.Add("https:///", "https:api.example.com")
	f.Fuzz(func(t *testing.T, s1, s2 string) {
		a, err := url.Parse(s1)
		if err != nil {
			return
		}
		b, err := url.Parse(s2)
		if err != nil {
			return
		}
		same := Same(a, b)
		if !Same(a, a) || !Same(b, b) {
			t.Error("Same is not reflexive")
		}
		if Same(b, a) != same {
			t.Error("Same is not symmetric")
		}
		if (Of(a) == Of(b)) != same {
			t.Error("Same and Of disagree")
		}
		// Told apart by the library that dials: what is the same must lead to the same place.
		if same && (!strings.EqualFold(a.Scheme, b.Scheme) || !strings.EqualFold(a.Hostname(), b.Hostname())) {
			t.Errorf("Same(%q, %q), and they are not", s1, s2)
		}
		if same && a.Port() != "" && b.Port() != "" && a.Port() != b.Port() {
			t.Errorf("Same(%q, %q), and the ports differ", s1, s2)
		}
	})
}

func BenchmarkOf(b *testing.B) {
	for name, s := range map[string]string{
		"lower": "https://api.example.com/v1",
		"port":  "https://api.example.com:8443/v1",
		"upper": "https://API.example.com/v1",
	} {
		b.Run(name, func(b *testing.B) {
			u := mustURL(b, s)
			b.ReportAllocs()
			for b.Loop() {
				Of(u)
			}
		})
	}
}

func BenchmarkSame(b *testing.B) {
	u, v := mustURL(b, "https://api.example.com/v1"), mustURL(b, "https://api.example.com:443/v2")
	b.ReportAllocs()
	for b.Loop() {
		Same(u, v)
	}
}

func BenchmarkStayed(b *testing.B) {
	for name, n := range map[string]int{"direct": 0, "redirected": 3} {
		b.Run(name, func(b *testing.B) {
			req := chain(b, n)
			b.ReportAllocs()
			for b.Loop() {
				Stayed(req)
			}
		})
	}
}

func BenchmarkLoopback(b *testing.B) {
	for _, host := range []string{"api.example.com", "127.0.0.1"} {
		b.Run(host, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Loopback(host)
			}
		})
	}
}
