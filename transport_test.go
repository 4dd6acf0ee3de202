package authtrip_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// A wired is a server on a socket, and the wrapped client of one user.
type wired struct {
	srv       *authtriptest.Server
	site      *authtriptest.Site
	src       *authtrip.Source
	transport *authtrip.Transport
	client    *http.Client
	events    *eventLog
}

// overBoth runs f over HTTP/1.1 and over HTTP/2.
func overBoth(t *testing.T, f func(t *testing.T, w *wired)) {
	authtriptest.EachProtocol(t, func(t *testing.T, start func(http.Handler) *authtriptest.Site) {
		srv := rotating(time.Hour)
		w := &wired{srv: srv, site: start(srv), events: new(eventLog)}
		grant := authtrip.RefreshToken(srv.Config(w.site.URL))
		grant.HTTPClient = w.site.Client
		w.src = &authtrip.Source{Refresher: grant, Initial: srv.Issue("alice")}
		w.transport = &authtrip.Transport{Source: w.src, Base: w.site.Client.Transport, OnEvent: w.events.add}
		w.client = &http.Client{Transport: w.transport}
		t.Cleanup(func() { _ = w.src.Close() })
		f(t, w)
	})
}

func (w *wired) do(t *testing.T, method string, body io.Reader, edit func(*http.Request)) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.site.URL+authtriptest.APIPath, body)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// oneShot hides what NewRequest knows about a body.
type oneShot struct {
	io.Reader
	closed atomic.Int32
}

func (o *oneShot) Close() error {
	o.closed.Add(1)
	return nil
}

func TestPostIsReplayedWithTheSameBytes(t *testing.T) {
	overBoth(t, func(t *testing.T, w *wired) {
		body := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
		w.srv.RevokeAll()
		resp := w.do(t, http.MethodPost, bytes.NewReader(body), nil)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status = %d, want 200", resp.StatusCode)
		}
		if got := authtriptest.ReadEcho(t, resp); got.SHA256 != sum(body) || got.Length != int64(len(body)) {
			t.Errorf("the replay carried %d bytes, want the same %d", got.Length, len(body))
		}
	})
}

func TestSmallBodyWithoutGetBodyIsKeptAndReplayed(t *testing.T) {
	overBoth(t, func(t *testing.T, w *wired) {
		body := bytes.Repeat([]byte("x"), 64<<10)
		one := &oneShot{Reader: bytes.NewReader(body)}
		w.srv.RevokeAll()
		resp := w.do(t, http.MethodPost, one, func(r *http.Request) { r.ContentLength = int64(len(body)) })
		if got := authtriptest.ReadEcho(t, resp); got.SHA256 != sum(body) {
			t.Errorf("the replay carried %d bytes, want the same %d", got.Length, len(body))
		}
		if got := one.closed.Load(); got != 1 {
			t.Errorf("the body was closed %d times, want once", got)
		}
	})
}

func TestOneShotBodyIsNotReplayed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		length int64
		edit   func(*authtrip.Transport)
	}{
		{"length not known", 0, nil},
		{"over the cap", 64<<10 + 1, nil},
		{"cap set to none", 10, func(tr *authtrip.Transport) { tr.RetryBodyLimit = -1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, w *wired) {
				if tt.edit != nil {
					tt.edit(w.transport)
				}
				size := max(tt.length, 10)
				body := &oneShot{Reader: bytes.NewReader(make([]byte, size))}
				w.srv.RevokeAll()
				resp := w.do(t, http.MethodPost, body, func(r *http.Request) {
					r.ContentLength = tt.length
					if tt.length == 0 {
						r.ContentLength = -1
					}
				})
				text, err := io.ReadAll(resp.Body)
				if resp.StatusCode != http.StatusUnauthorized || len(text) == 0 || err != nil {
					t.Errorf("got %d with %d bytes, %v; want the original 401, unread", resp.StatusCode, len(text), err)
				}
				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
				if body.closed.Load() == 0 {
					t.Error("the request's body was not closed")
				}
				c := w.srv.Counts()
				if c.API != 1 || c.Token != 1 {
					t.Errorf("API requests = %d, token requests = %d, want 1 and 1", c.API, c.Token)
				}
				if resp := w.do(t, http.MethodGet, nil, nil); resp.StatusCode != http.StatusOK {
					t.Errorf("next request: status %d, want 200 with the new token", resp.StatusCode)
				}
				if c := w.srv.Counts(); c.API != 2 || c.Token != 1 {
					t.Errorf("then API requests = %d, token requests = %d, want 2 and 1", c.API, c.Token)
				}
				if w.events.count(authtrip.EventRequestNotRetried) != 1 {
					t.Errorf("events = %v, want one that says why", w.events.kinds())
				}
			})
		})
	}
}

func TestRefusedResponsesConnectionIsReused(t *testing.T) {
	overBoth(t, func(t *testing.T, w *wired) {
		_ = authtriptest.ReadEcho(t, w.do(t, http.MethodGet, nil, nil))
		for range 20 {
			w.srv.RevokeAll()
			_ = authtriptest.ReadEcho(t, w.do(t, http.MethodPost, strings.NewReader("hello"), nil))
		}
		// Over HTTP/1.1 the token request needs one too, while the refused
		// response waits unread; and net/http has a connection back a moment after its
		// answer was read, which may be too late for the next request.
		if got := w.site.Connections(); got > 5 {
			t.Errorf("connections = %d for 61 requests, want at most 5", got)
		}
	})
}

func TestThousandRefusedRequestsMakeOneTokenRequestAndAllSucceed(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		r.srv.RevokeAll()
		crowd(1000, func(int) {
			if status, err := r.get(t.Context()); status != http.StatusOK {
				t.Errorf("GET = %d, %v, want 200", status, err)
			}
		})
		r.wantTokenRequests(t, 1)
	})
}

func TestStormOfRefusalsOnSockets(t *testing.T) {
	overBoth(t, func(t *testing.T, w *wired) {
		_ = authtriptest.ReadEcho(t, w.do(t, http.MethodGet, nil, nil)) // one connection for all, where the protocol can
		w.srv.RevokeAll()
		crowd(200, func(int) {
			resp := w.do(t, http.MethodPost, strings.NewReader("hello"), nil)
			if resp.StatusCode != http.StatusOK {
				t.Errorf("status = %d, want 200", resp.StatusCode)
			}
			_ = resp.Body.Close()
		})
		if got := w.srv.Counts().Token; got != 1 {
			t.Errorf("token requests = %d, want 1", got)
		}
	})
}

// TestLate401KeepsNewerToken: a hundred requests leave with the first token, and
// are refused after it has been replaced.
func TestLate401KeepsNewerToken(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		const late = 100
		for i := range late {
			r.srv.Fail(authtriptest.APIPath, authtriptest.Fault{Delay: time.Minute + time.Duration(i)*time.Second/20, Challenge: authtriptest.InvalidToken})
		}
		var wg sync.WaitGroup
		for range late {
			wg.Go(func() {
				if status, err := r.get(t.Context()); status != http.StatusOK {
					t.Errorf("late request: %d, %v, want 200", status, err)
				}
			})
		}
		synctest.Wait()
		r.srv.RevokeAll()
		r.mustGet(t)
		r.wantTokenRequests(t, 1)
		wg.Wait()
		r.wantTokenRequests(t, 1)
	})
}

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

func TestCallersOwnAuthorizationStaysAndIsNotRetried(t *testing.T) {
	overBoth(t, func(t *testing.T, w *wired) {
		resp := w.do(t, http.MethodGet, nil, func(r *http.Request) { r.Header.Set("Authorization", "Basic bWU6bWU=") })
		_ = resp.Body.Close()
		if c := w.srv.Counts(); resp.StatusCode != http.StatusUnauthorized || c.API != 1 || c.Token != 0 {
			t.Errorf("status %d after %d requests and %d token requests, want 401, 1, 0", resp.StatusCode, c.API, c.Token)
		}
	})
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

func TestChallengesThatARefreshCannotCure(t *testing.T) {
	for _, tt := range []struct {
		name      string
		status    int
		challenge string
		refreshes int
	}{
		{"invalid_token", 401, `Bearer realm="x", error="invalid_token", error_description="expired"`, 1},
		{"no code", 401, `Bearer realm="x"`, 1},
		{"no challenge", 401, ``, 1},
		{"beside Basic", 401, `Basic realm="error=\"insufficient_scope\"", bearer Error="invalid_token"`, 1},
		{"insufficient_scope", 403, `Bearer error="insufficient_scope", scope="admin"`, 0},
		{"insufficient_scope with 401", 401, `Bearer error="insufficient_scope"`, 0},
		{"step-up", 401, `Bearer error="insufficient_user_authentication", acr_values="gold platinum", max_age="5"`, 0},
		{"claims", 401, `Bearer error="insufficient_claims", claims="eyJ9"`, 0},
		{"claims with invalid_token", 401, `Bearer error="invalid_token", claims="eyJ9"`, 0},
		{"DPoP", 401, `DPoP error="use_dpop_nonce"`, 0},
		{"403", 403, ``, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				fault := authtriptest.Fault{Status: tt.status, Body: "why", Header: http.Header{}}
				if tt.challenge != "" {
					fault.Header.Set("WWW-Authenticate", tt.challenge)
				}
				r.srv.Fail(authtriptest.APIPath, fault)
				resp, err := r.client.Get(apiURL)
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				r.wantTokenRequests(t, tt.refreshes)
				want := tt.status
				if tt.refreshes > 0 {
					want = http.StatusOK
				}
				if resp.StatusCode != want || want != 200 && string(text) != "why" {
					t.Errorf("status %d, body %q; want %d and the response as it came", resp.StatusCode, text, want)
				}
			})
		})
	}
}

func TestOnChallengeAnswersWithATokenOfMorePower(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true, APIScope: "admin"}
	inBubble(t, srv, func(r *rig) {
		r.transport.OnChallenge = func(req *http.Request, c authtrip.Challenge) (*oauth2.Token, error) {
			if req.Header.Get("Authorization") != "" {
				t.Error("the hook was shown the token")
			}
			if c.Error != "insufficient_scope" {
				t.Errorf("challenge has error %q", c.Error)
			}
			return r.srv.Issue("alice", "admin"), nil
		}
	}, func(t *testing.T, r *rig) {
		resp, err := r.client.Post(apiURL, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if got := authtriptest.ReadEcho(t, resp); resp.StatusCode != 200 || got.Length != 5 {
			t.Errorf("status %d with %d bytes, want 200 with 5", resp.StatusCode, got.Length)
		}
		r.wantTokenRequests(t, 0)
	})
}

func TestChallengesAreReadForANewLogin(t *testing.T) {
	h := http.Header{"Www-Authenticate": {`Bearer realm="r", error="insufficient_user_authentication", acr_values="gold platinum", max_age="5", resource_metadata="https://api.example/.well-known/oauth-protected-resource"`, `Basic realm="b"`}}
	all := authtrip.Challenges(h)
	if len(all) != 2 {
		t.Fatalf("challenges = %d, want 2", len(all))
	}
	c := all[0]
	if c.Scheme != "Bearer" || c.Realm != "r" || len(c.ACRValues) != 2 || c.MaxAge != 5*time.Second || c.ResourceMetadata == "" {
		t.Errorf("challenge = %+v", c)
	}
	if all[1].MaxAge >= 0 {
		t.Errorf("MaxAge = %v where there is none, want it negative", all[1].MaxAge)
	}
}

func TestOriginal401ComesBackWhenARefreshCannotHelp(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.srv.RevokeAll()
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		resp, err := r.client.Get(apiURL)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || len(text) == 0 || err != nil {
			t.Errorf("status %d with %d bytes, %v; want the 401, unread", resp.StatusCode, len(text), err)
		}
		if resp.Header.Get("WWW-Authenticate") == "" {
			t.Error("the challenge is gone")
		}
	})
}

func TestSecond401IsTheAnswer(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.srv.Fail(authtriptest.APIPath,
			authtriptest.Fault{Challenge: authtriptest.InvalidToken, Body: "first"},
			authtriptest.Fault{Challenge: authtriptest.InvalidToken, Body: "second"})
		resp, err := r.client.Get(apiURL)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(text) != "second" {
			t.Errorf("body = %q, want that of the replay", text)
		}
		if got := r.srv.Counts().API; got != 2 {
			t.Errorf("API requests = %d, want 2: there is one replay", got)
		}
	})
}

func TestRequestIsNotModifiedAndBodyIsAlwaysClosed(t *testing.T) {
	boom := errors.New("boom")
	tokenless := new(authtriptest.Source)
	tokenless.SetError(boom)
	for _, tt := range []struct {
		name   string
		source oauth2.TokenSource
		base   roundTripFunc
		want   error
	}{
		{"source fails", tokenless, nil, boom},
		{"no source", nil, nil, nil},
		{"base fails", new(authtriptest.Source), func(req *http.Request) (*http.Response, error) {
			_ = req.Body.Close()
			return nil, boom
		}, boom},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := &oneShot{Reader: strings.NewReader("hello")}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.example/", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = nil
			tr := &authtrip.Transport{Source: tt.source, Base: tt.base}
			_, err = tr.RoundTrip(req)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("RoundTrip() error = %v, want %v", err, tt.want)
			}
			if got := body.closed.Load(); got != 1 {
				t.Errorf("body closed %d times, want once", got)
			}
			if req.Header != nil || req.Body != io.ReadCloser(body) {
				t.Error("the request was modified")
			}
		})
	}
}

func TestDumpOfAResponseHoldsNoToken(t *testing.T) {
	overBoth(t, func(t *testing.T, w *wired) {
		for _, revoked := range []bool{false, true} {
			if revoked {
				w.srv.RevokeAll()
			}
			resp := w.do(t, http.MethodGet, nil, nil)
			dump, err := httputil.DumpRequest(resp.Request, false)
			if err != nil || bytes.Contains(dump, []byte("Bearer")) {
				t.Errorf("resp.Request holds the token (%v)", err)
			}
			_ = resp.Body.Close()
		}
	})
}

// TestSlowBodyDoesNotOutliveItsContext: it was read before the request was sent, for as long as it took.
func TestSlowBodyDoesNotOutliveItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := authtriptest.NewNetwork(t)
		network.Handle("https://api.example", http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		body, pipe := io.Pipe()
		defer func() { _ = pipe.Close() }()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.example/", body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 10
		tr := &authtrip.Transport{Source: new(authtriptest.Source), Base: network}
		_, err = tr.RoundTrip(req)
		wantIs(t, err, context.DeadlineExceeded)
	})
}

func TestTokensThatNoHeaderCanCarryAreErrors(t *testing.T) {
	for _, bad := range []string{"a b", "a\nb", "a\x00b", "ü", ""} {
		tr := &authtrip.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: bad})}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.RoundTrip(req)
		secret := bad
		if len(bad) < 2 {
			secret = ""
		}
		wantSafe(t, err, secret)
	}
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

// TestOAuth2LiteralMovesOverUnchanged: any TokenSource will do, and one that has
// another token after a refusal gets its replay.
func TestOAuth2LiteralMovesOverUnchanged(t *testing.T) {
	inBubble(t, new(authtriptest.Server), nil, func(t *testing.T, r *rig) {
		var calls atomic.Int32
		src := tokenSourceFunc(func() (*oauth2.Token, error) {
			calls.Add(1)
			return r.srv.Issue("alice"), nil
		})
		client := &http.Client{Transport: &authtrip.Transport{Source: src, Base: r.net}}
		r.srv.Fail(authtriptest.APIPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
		resp, err := client.Get(apiURL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || calls.Load() != 2 {
			t.Errorf("status %d after %d tokens, want 200 after 2", resp.StatusCode, calls.Load())
		}
		static := &http.Client{Transport: &authtrip.Transport{Source: oauth2.StaticTokenSource(r.srv.Issue("bob")), Base: r.net}}
		r.srv.Fail(authtriptest.APIPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
		resp, err = static.Get(apiURL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("static token: status %d, want the 401", resp.StatusCode)
		}
	})
}

func TestSourcePlugsIntoOAuth2(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: r.net})
		resp, err := oauth2.NewClient(ctx, r.src).Get(apiURL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status = %d, want 200", resp.StatusCode)
		}
	})
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

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type tokenSourceFunc func() (*oauth2.Token, error)

func (f tokenSourceFunc) Token() (*oauth2.Token, error) { return f() }
