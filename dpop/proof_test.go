package dpop_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
)

// proverOf has a new key, and makes proofs for a token.
func proverOf(t *testing.T, keys *dpop.Keys) authtrip.Prover {
	t.Helper()
	key, err := keys.NewKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := keys.Prover(key, "token")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A URL with Opaque, or with a colon and no port, had a proof for another URL than the one that
// is asked: the API found it wrong, each time.
func TestRule40ProofIsForTheURLThatIsAsked(t *testing.T) {
	t.Parallel()
	keys := new(dpop.Keys)
	prover := proverOf(t, keys)
	for want, u := range map[string]*url.URL{
		"https://api.example/a%2Fb": {Scheme: "https", Host: "api.example", Opaque: "/a%2Fb", RawQuery: "q"},
		"https://api.example/a%2fc": {Scheme: "https", Host: "api.example", Opaque: "//api.example/a%2fc"},
		"https://api.example/d":     {Scheme: "https", Host: "API.example:", Path: "/d"},
		"http://api.example/e":      {Scheme: "HTTP", Host: "api.example:80", Path: "/e"},
		"https://[::1]:8443/f":      {Scheme: "https", Host: "[::1]:8443", Path: "/f"},
		"https://[::1]/g":           {Scheme: "https", Host: "[::1]:443", Path: "/g", User: url.UserPassword("me", "secret")},
	} {
		req := &http.Request{URL: u, Header: http.Header{}, Method: http.MethodGet}
		if err := prover.Prove(req); err != nil {
			t.Fatal(err)
		}
		var claims struct{ HTU, HTM string }
		b, err := base64.RawURLEncoding.DecodeString(strings.Split(req.Header.Get("Dpop"), ".")[1])
		if err != nil || json.Unmarshal(b, &claims) != nil || claims.HTU != want || claims.HTM != http.MethodGet {
			t.Errorf("%v: htu %q, want %q", u, claims.HTU, want)
		}
	}
}

// The same server under another spelling had no nonce, and each spelling cost a request of its
// own. RFC 3986, section 6.2.
func TestNonceIsThatOfTheServerHoweverItIsWritten(t *testing.T) {
	t.Parallel()
	keys := new(dpop.Keys)
	prover := proverOf(t, keys)
	nonce := func(at string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := prover.Prove(req); err != nil {
			t.Fatal(err)
		}
		defer prover.Answered(req, &http.Response{StatusCode: 200, Header: http.Header{"Dpop-Nonce": {"nonce"}}}, "")
		b, _ := base64.RawURLEncoding.DecodeString(strings.Split(req.Header.Get("Dpop"), ".")[1])
		var claims struct{ Nonce string }
		_ = json.Unmarshal(b, &claims)
		return claims.Nonce
	}
	nonce("https://api.example/")
	for _, same := range []string{"https://API.example/", "https://api.example:443/", "https://Api.Example:443/x"} {
		if nonce(same) == "" {
			t.Errorf("%s: no nonce", same)
		}
	}
	for _, other := range []string{"http://api.example/", "https://api.example:8443/", "https://api.example./", "https://a.api.example/"} {
		if nonce(other) != "" {
			t.Errorf("%s: the nonce of another server", other)
		}
	}
}

// A caller that left while the Cache was asked had it never asked again for that server.
func TestCallerThatLeavesDoesNotKeepTheCacheFromBeingAsked(t *testing.T) {
	t.Parallel()
	cache := new(asking)
	keys := &dpop.Keys{Cache: cache}
	prover := proverOf(t, keys)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{gone, t.Context()} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := prover.Prove(req); err != nil {
			t.Fatal(err)
		}
	}
	if n := cache.n; n != 2 {
		t.Errorf("the Cache was asked %d times, want 2", n)
	}
}

type asking struct {
	authtrip.MemoryCache
	n int
}

func (a *asking) Get(ctx context.Context, key string) ([]byte, error) {
	a.n++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return a.MemoryCache.Get(ctx, key)
}

// TestLateAnswerDoesNotBringAnOldNonceBack: answers to requests that were sent before the
// nonce changed came after it, the next requests had the old one again, and where that
// happened to a second try as well its caller got a 401.
func TestLateAnswerDoesNotBringAnOldNonceBack(t *testing.T) {
	keys := new(dpop.Keys)
	p := proverOf(t, keys)
	request := func() *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Prove(req); err != nil {
			t.Fatal(err)
		}
		return req
	}
	answer := func(req *http.Request, status int, nonce, code string) bool {
		return p.Answered(req, &http.Response{StatusCode: status, Header: http.Header{"Dpop-Nonce": {nonce}}}, code)
	}
	answer(request(), http.StatusOK, "first", "")
	late, asked := request(), request()
	if !answer(asked, http.StatusUnauthorized, "second", "use_dpop_nonce") {
		t.Fatal("no second try for another nonce")
	}
	answer(late, http.StatusOK, "first", "")
	if nonce := nonceOf(t, request()); nonce != "second" {
		t.Errorf("the next proof has the nonce %q, want the second", nonce)
	}
	answer(request(), http.StatusOK, "third", "")
	if nonce := nonceOf(t, request()); nonce != "third" {
		t.Errorf("the next proof has the nonce %q, want the third", nonce)
	}
}

// nonceOf is that of the proof of a request.
func nonceOf(t *testing.T, req *http.Request) string {
	t.Helper()
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(req.Header.Get("Dpop"), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal(body, &claims); err != nil {
		t.Fatal(err)
	}
	return claims.Nonce
}
