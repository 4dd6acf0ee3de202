package mcp_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

func want200(t *testing.T, tr http.RoundTripper, at, body string) {
	t.Helper()
	if status, err := post(t, tr, at, body); err != nil || status != 200 {
		t.Fatalf("status %d, %v", status, err)
	}
}

func TestAURLIsEnough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser()})
	want200(t, tr, w.url(), "hello")
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.as[0].asked[0]
	if asked.Get("resource") != w.url() || w.as[0].tokens[0].Get("resource") != w.url() {
		t.Error("resource is not in both requests")
	}
	if asked.Get("scope") != "read offline_access" {
		t.Errorf("scope = %q", asked.Get("scope"))
	}
	if len(w.bodies) != 1 || w.bodies[0] != "hello" {
		t.Errorf("the body came as %q", w.bodies)
	}
}

func TestASecondStartAsksNobody(t *testing.T) {
	t.Parallel()
	w, store := newWorld(t), new(authtrip.MemoryStore)
	want200(t, w.transport(t, &mcp.Transport{Login: browser(), Store: store}), w.url(), "")
	again := w.transport(t, &mcp.Transport{Login: &mcp.Browser{Open: nobody}, Store: store})
	want200(t, again, w.url(), "")
	w.revoke() // and it refreshes as the client that it was
	want200(t, again, w.url(), "")
	if n := w.as[0].registered; n != 1 {
		t.Errorf("%d registrations, want 1", n)
	}
}

func TestARevokedTokenIsRefreshedOnceForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser()})
	want200(t, tr, w.url(), "")
	w.revoke()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if status, err := post(t, tr, w.url(), ""); err != nil || status != 200 {
				t.Errorf("status %d, %v", status, err)
			}
		})
	}
	wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, m := len(w.as[0].tokens), len(w.as[0].asked); n != 2 || m != 1 {
		t.Errorf("%d token requests and %d logins, want 2 and 1", n, m)
	}
}

func TestManyFirstRequestsAskTheUserOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser()})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _, _ = post(t, tr, w.url(), "") })
	}
	wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.as[0].asked); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestRule67StepUpOfATool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser()})
	want200(t, tr, w.url(), "")
	want200(t, tr, w.url()+"/write", "x")
	w.mu.Lock()
	if got := w.as[0].asked[1].Get("scope"); got != "read offline_access write" {
		t.Errorf("scope = %q, want the union", got)
	}
	w.needs = "more"
	w.mu.Unlock()
	w.revoke()
	want200(t, tr, w.url(), "")
	w.mu.Lock()
	w.needs = "read write" // no token ever has a scope with that name
	w.mu.Unlock()
	_, err := post(t, tr, w.url()+"/write", "x")
	if _, ok := errors.AsType[*login.StepUpError](err); !ok {
		t.Errorf("error = %v, want a StepUpError", err)
	}
}

func TestAServerThatMovesIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser()})
	want200(t, tr, w.url(), "")
	second := w.add(t)
	w.mu.Lock()
	w.named = 1
	w.as[0].deny = "invalid_grant"
	w.mu.Unlock()
	w.revoke()
	for range 2 { // the first is rejected, and the end of the session is noticed
		_, _ = post(t, tr, w.url(), "")
	}
	want200(t, tr, w.url(), "")
	w.mu.Lock()
	defer w.mu.Unlock()
	if second.registered != 1 || len(second.asked) != 1 || second.asked[0].Get("client_id") != "client1" {
		t.Errorf("registrations %d, logins %d at the second server", second.registered, len(second.asked))
	}
	for _, form := range second.tokens {
		if form.Get("grant_type") == "refresh_token" {
			t.Error("the refresh token of the first server went to the second")
		}
	}
}

func TestRule69WithoutS256NobodyIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as[0].noPKCE = true
	if _, err := post(t, w.transport(t, &mcp.Transport{Login: browser()}), w.url(), ""); err == nil || !strings.Contains(err.Error(), "S256") {
		t.Errorf("error = %v", err)
	}
	if len(w.as[0].asked) != 0 {
		t.Error("the user was asked")
	}
}

func TestAWebApplicationFinishesALogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: &mcp.Redirect{URL: "https://app.example/callback"}})
	_, err := post(t, tr, w.url(), "")
	need, ok := errors.AsType[*mcp.LoginNeededError](err)
	if !ok || !errors.Is(err, authtrip.ErrReauthRequired) {
		t.Fatalf("error = %v, want a LoginNeededError", err)
	}
	noFollow := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := noFollow.Get(need.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Finish(t.Context(), need.Transaction, resp.Header.Get("Location")); err != nil {
		t.Fatal(err)
	}
	want200(t, tr, w.url(), "")
}

func TestDeniedByPolicyNeverAsksABrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	idp := w.add(t)
	idp.deny = "access_denied"
	tr := w.transport(t, &mcp.Transport{Login: enterprise(idp)})
	if _, err := post(t, tr, w.url(), ""); !errors.Is(err, mcp.ErrDeniedByPolicy) {
		t.Errorf("error = %v, want ErrDeniedByPolicy", err)
	}
	if len(w.as[0].asked)+len(idp.asked) != 0 {
		t.Error("a browser was asked")
	}
}

func TestTheTokenGoesToTheServerAlone(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser()})
	want200(t, tr, w.url(), "")
	if status, err := post(t, tr, other.url(), ""); err != nil || status != 401 {
		t.Errorf("status %d, %v, want the 401 of another server as it came", status, err)
	}
	if len(other.as[0].asked) != 0 {
		t.Error("somebody logged in at another server's")
	}
}

func TestWithoutLoginA401IsReturned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if status, err := post(t, w.transport(t, new(mcp.Transport)), w.url(), ""); err != nil || status != 401 {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestRule71ServerOnThePublicNetworkNamesThisMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at, _ := url.Parse(w.api.URL)
	tr := &mcp.Transport{
		URL: "https://public.example/mcp", Login: browser(), Identity: identity(),
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			h := http.Header{"Www-Authenticate": {`Bearer resource_metadata="https://` + at.Host + `/.well-known/x"`}}
			return &http.Response{StatusCode: 401, Header: h, Body: http.NoBody, Request: r}, nil
		}),
	}
	defer tr.Close()
	if _, err := post(t, tr, tr.URL, ""); !errors.Is(err, login.ErrForbiddenAddress) {
		t.Errorf("error = %v, want ErrForbiddenAddress", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
