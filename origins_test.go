package authtrip_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestTokenDoesNotFollowRedirects(t *testing.T) {
	const home = "https://api.example"
	for _, tt := range []struct {
		name string
		hops []string // where home redirects to, and so on
	}{
		{"another host", []string{"https://evil.example/"}},
		{"another port", []string{"https://api.example:8443/"}},
		{"a subdomain", []string{"https://sub.api.example/"}},
		{"plain http", []string{"http://api.example/"}},
		{"and back", []string{"https://evil.example/", home + "/back"}},
		{"and on", []string{"https://api.example:8443/", "https://api.example:8443/on"}},
	} {
		for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
			t.Run(fmt.Sprintf("%s %d", tt.name, code), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					network := authtriptest.NewNetwork(t)
					seen := make(map[string][]string)
					visit := func(name string) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
							n := len(seen["hops"])
							seen["hops"] = append(seen["hops"], name+req.URL.Path)
							seen["auth"] = append(seen["auth"], req.Header.Get("Authorization"))
							if n < len(tt.hops) {
								http.Redirect(w, req, tt.hops[n], code)
							}
						})
					}
					for _, o := range []string{home, "https://evil.example", "https://api.example:8443", "https://sub.api.example", "http://api.example"} {
						network.Handle(o, visit(o))
					}
					client := &http.Client{Transport: &authtrip.Transport{Source: new(authtriptest.Source), Base: network}}
					resp, err := client.Get(home + "/start")
					if err != nil {
						t.Fatal(err)
					}
					_ = resp.Body.Close()
					if len(seen["hops"]) != len(tt.hops)+1 {
						t.Fatalf("hops = %v", seen["hops"])
					}
					for i, auth := range seen["auth"] {
						if (auth != "") != (i == 0) {
							t.Errorf("hop %d to %s: has a token: %v, want only the first to have it", i, seen["hops"][i], auth != "")
						}
					}
				})
			})
		}
	}
}

func TestTokenFollowsRedirectsInsideItsOrigin(t *testing.T) {
	inBubble(t, new(authtriptest.Server), nil, func(t *testing.T, r *rig) {
		r.srv.Fail(authtriptest.APIPath, authtriptest.Fault{Status: 302, Header: http.Header{"Location": {asURL + ":443" + authtriptest.APIPath + "/next"}}})
		r.mustGet(t)
		if got := r.srv.Counts().API; got != 2 {
			t.Errorf("API requests = %d, want 2", got)
		}
	})
}

func TestOriginsAreTheOnlyPlacesThatGetTheToken(t *testing.T) {
	var sent string
	base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
		sent = req.Header.Get("Authorization")
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
	})
	tr := &authtrip.Transport{Source: new(authtriptest.Source), Base: base, Origins: []string{"https://api.example.com", "https://b.example:8443"}}
	for target, want := range map[string]bool{
		"https://api.example.com/x":      true,
		"https://API.example.com:443/x":  true,
		"https://b.example:8443/":        true,
		"https://b.example/":             false,
		"http://api.example.com/":        false,
		"https://evil.example/":          false,
		"https://x.api.example.com/":     false,
		"https://api.example.com.evil/":  false,
		"https://api.example.com:8443/":  false,
		"https://api.example.com./":      false,
		"https://user@evil.example:443/": false,
	} {
		sent = ""
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Errorf("%s: %v, want it to go out", target, err)
			continue
		}
		_ = resp.Body.Close()
		if got := sent != ""; got != want {
			t.Errorf("%s: got a token: %v, want %v", target, got, want)
		}
	}
}

func TestPlainHTTPIsAnErrorUnlessNamed(t *testing.T) {
	base := roundTripFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})
	for _, tt := range []struct {
		target string
		allow  bool
		ok     bool
	}{
		{"http://api.example/", false, false},
		{"http://api.example/", true, true},
		{"http://localhost:8080/", false, true},
		{"http://127.0.0.1:8080/", false, true},
		{"http://[::1]:8080/", false, true},
		{"http://localhost.evil.example/", false, false},
		{"http://127.0.0.1.evil.example/", false, false},
		{"https://api.example/", false, true},
	} {
		tr := &authtrip.Transport{Source: new(authtriptest.Source), Base: base, AllowInsecureHTTP: tt.allow}
		body := &oneShot{Reader: strings.NewReader("x")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tt.target, body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.RoundTrip(req)
		if (err == nil) != tt.ok {
			t.Errorf("%s, AllowInsecureHTTP %v: error = %v", tt.target, tt.allow, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "AllowInsecureHTTP") || body.closed.Load() != 1) {
			t.Errorf("%s: %v; body closed %d times, want once", tt.target, err, body.closed.Load())
		}
	}
}

// TestCallersAuthorizationIsNotReplacedAfterARedirect: net/http takes the
// caller's header from a request to another host, and ours must not go instead.
func TestCallersAuthorizationIsNotReplacedAfterARedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := authtriptest.NewNetwork(t)
		network.Handle("https://a.example", http.RedirectHandler("https://b.example/", http.StatusFound))
		var sent string
		network.Handle("https://b.example", http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			sent = req.Header.Get("Authorization")
		}))
		client := &http.Client{Transport: &authtrip.Transport{
			Source: new(authtriptest.Source), Base: network, Origins: []string{"https://a.example", "https://b.example"},
		}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://a.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Basic bWU6bWU=")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if sent != "" {
			t.Error("a request with the caller's own credentials got the token on its way")
		}
	})
}

func TestBadOriginsNameTheField(t *testing.T) {
	tr := &authtrip.Transport{Source: new(authtriptest.Source), Origins: []string{"https://ok.example", "api.example.com"}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://ok.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tr.RoundTrip(req)
	if err == nil || !strings.Contains(err.Error(), "Transport.Origins[1]") {
		t.Errorf("error = %v, want one that names Origins[1]", err)
	}
}

func TestOpaqueURLThatNamesAnotherHostGetsNoToken(t *testing.T) {
	var sent string
	tr := &authtrip.Transport{Source: new(authtriptest.Source), Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
		sent = req.Header.Get("Authorization")
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})}
	req := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: "api.example", Opaque: "//evil.example/"}}
	if _, err := tr.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if sent != "" {
		t.Error("a request whose target is not its host got the token")
	}
}
