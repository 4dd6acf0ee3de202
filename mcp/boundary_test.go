package mcp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

// A client that follows a redirect to another port of the same host keeps the Authorization
// header. The SDK's request came there with the bound token as a bearer token. Rules 34, 43.
func TestRule34ProofsSendNoTokenAfterARedirect(t *testing.T) {
	t.Parallel()
	w := newBoundWorld(t)
	got := make(chan string, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
	}))
	t.Cleanup(other.Close)
	w.next = http.RedirectHandler(other.URL, http.StatusTemporaryRedirect)
	tr := w.transport(t, &mcp.Transport{Login: browser(), DPoP: new(dpop.Keys)})
	want200(t, tr, w.url(), "")
	<-got
	proofs := tr.Proofs()
	src, err := tr.TokenSource(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tok, err := src.Token()
	if err != nil {
		t.Fatal(err)
	}
	as := roundTrip(func(r *http.Request) (*http.Response, error) { return proofs.RoundTrip(r) })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tok.AccessToken) // as the SDK does
	resp, err := (&http.Client{Transport: as}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if header := <-got; header != "" {
		t.Error("the bound token went to another server, as a bearer token")
	}
}

// A program that has lost its DPoP field gave the SDK the bound token of its Store, and the
// SDK sends bearer tokens only. Rule 43.
func TestRule43HandlerGivesTheSDKNoBoundToken(t *testing.T) {
	t.Parallel()
	w, store := newBoundWorld(t), new(authtrip.MemoryStore)
	want200(t, w.transport(t, &mcp.Transport{Login: browser(), Store: store, DPoP: new(dpop.Keys)}), w.url(), "x")
	without := w.transport(t, &mcp.Transport{Login: browser(), Store: store})
	if src, err := without.TokenSource(t.Context()); src != nil || err == nil || !strings.Contains(err.Error(), "Transport.DPoP is nil") {
		t.Errorf("TokenSource() = %v, %v, want that it has no token for the SDK", src != nil, err)
	}
}

// The answer of a server that the SDK was redirected to decided where the user logs in: its
// metadata named the resource that was asked for, and an authorization server of its own.
func TestHandlerTakesNoChallengeOfAnotherServer(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	other.api.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			reply(rw, 200, map[string]any{"resource": w.url(), "authorization_servers": []string{other.as[0].URL}})
			return
		}
		rw.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+other.api.URL+`/.well-known/oauth-protected-resource"`)
		rw.WriteHeader(401)
	})
	tr := w.transport(t, &mcp.Transport{Login: browser()})
	sent, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(other.url(), "", nil) // what a redirect of sent led to
	if err != nil {
		t.Fatal(err)
	}
	if err = tr.Authorize(t.Context(), sent, resp); err == nil {
		t.Error("Authorize() has no error")
	}
	if n := len(other.as[0].asked); n != 0 {
		t.Errorf("%d logins at a server that another server named, want none", n)
	}
}

// A web application has a Transport for each server and one URL to come back to. A login that
// was finished with the wrong one sent the token of the one server to the other.
func TestFinishTakesNoLoginAtAnotherServer(t *testing.T) {
	t.Parallel()
	w, other, id := newWorld(t), newWorld(t), identity()
	tr := w.transport(t, &mcp.Transport{Login: &mcp.Redirect{URL: "https://app.example/callback"}, Identity: id})
	wrong := other.transport(t, &mcp.Transport{Login: &mcp.Redirect{URL: "https://app.example/callback"}, Identity: id})
	_, err := post(t, tr, w.url(), "")
	need, ok := errors.AsType[*mcp.LoginNeededError](err)
	if !ok {
		t.Fatalf("error = %v, want a LoginNeededError", err)
	}
	resp, err := http.DefaultTransport.RoundTrip(httptest.NewRequest(http.MethodGet, need.URL, nil))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if err = wrong.Finish(t.Context(), need.Transaction, resp.Header.Get("Location")); err == nil {
		t.Error("Finish() has no error")
	}
	if n := len(w.as[0].tokens); n != 0 {
		t.Errorf("the code was spent, %d token requests", n)
	}
	if err = tr.Finish(t.Context(), need.Transaction, resp.Header.Get("Location")); err != nil {
		t.Error(err)
	}
}

// An application that had moved to another URL kept the registration of the old one: every
// login ended on an error page of the server, for a year.
func TestWebApplicationThatMovesRegistersAgain(t *testing.T) {
	t.Parallel()
	w, id := newWorld(t), identity()
	for _, tt := range []struct {
		url  string
		want int
	}{{"https://app.example/callback", 1}, {"https://app.example/callback", 1}, {"https://new.example/callback", 2}} {
		tr := w.transport(t, &mcp.Transport{Login: &mcp.Redirect{URL: tt.url}, Identity: id})
		if _, err := post(t, tr, w.url(), ""); !errors.Is(err, authtrip.ErrReauthRequired) {
			t.Fatalf("error = %v, want a LoginNeededError", err)
		}
		if n := w.as[0].registered; n != tt.want {
			t.Errorf("%s: %d registrations, want %d", tt.url, n, tt.want)
		}
	}
}

// A server that registers another redirect URI than it was asked to had the program listen
// there: on all addresses of the machine, or on a name that it had resolve.
func TestServerDoesNotChooseWhereTheProgramListens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as[0].metadata = map[string]any{"registration_endpoint": w.as[0].URL + "/register-oddly"}
	odd := w.as[0].Config.Handler
	w.as[0].Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/register-oddly" {
			odd.ServeHTTP(rw, r)
			return
		}
		reply(rw, 201, map[string]any{"client_id": "client1", "redirect_uris": []string{"http://0.0.0.0:0/callback"}})
	})
	want200(t, w.transport(t, &mcp.Transport{Login: browser()}), w.url(), "")
	at, err := url.Parse(w.as[0].asked[0].Get("redirect_uri"))
	if err != nil || at.Hostname() != "127.0.0.1" {
		t.Error("the redirect URI is not that of the program")
	}
}

// A login that nobody completes went on after Close, with its listener, for ten minutes, and
// so did the request that waited for it.
func TestCloseEndsALoginThatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	opened := make(chan string, 1)
	tr := w.transport(t, &mcp.Transport{Login: &mcp.Browser{Output: io.Discard, Open: func(_ context.Context, at string) error {
		opened <- at
		return nil
	}}})
	done := make(chan error, 1)
	go func() {
		_, err := post(t, tr, w.url(), "")
		done <- err
	}()
	at, err := url.Parse(<-opened)
	if err != nil {
		t.Fatal(err)
	}
	if err = tr.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err = <-done:
		if err == nil {
			t.Error("the request has no error")
		}
	case <-time.After(10 * time.Second):
		t.Error("the request waits after Close")
	}
	back, err := http.Get(at.Query().Get("redirect_uri"))
	if err == nil {
		_ = back.Body.Close()
		t.Error("somebody listens after Close")
	}
}

// The page with the metadata was out of order for a moment, and the server was taken for one
// of 2025-03-26, which is its own authorization server: the program registered there.
func TestMetadataThatIsOutOfOrderIsNoMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := 0
	serve := w.api.Config.Handler
	w.api.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
			rw.WriteHeader(503)
		case r.URL.Path == "/register":
			asked++
			rw.WriteHeader(404)
		default:
			serve.ServeHTTP(rw, r)
		}
	})
	_, err := post(t, w.transport(t, &mcp.Transport{Login: browser()}), w.url(), "")
	ee, ok := errors.AsType[*login.EndpointError](err)
	if !ok || ee.StatusCode != 503 || asked != 0 {
		t.Errorf("error = %v, %d registrations at the API, want the 503 and none", err, asked)
	}
}

// A function that ended the goroutine of its login, as t.Fatal does, counted as one that went
// well: the request went out again, three times, and got the server's 401.
func TestLoginWithoutAResultIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := 0
	tr := w.transport(t, &mcp.Transport{Login: &mcp.Browser{Output: io.Discard, Open: func(context.Context, string) error {
		n++
		runtime.Goexit()
		return nil
	}}})
	if status, err := post(t, tr, w.url(), ""); err == nil || n != 1 {
		t.Errorf("status %d, %d logins, want an error after one", status, n)
	}
}

// Requests that wanted different scopes at once led to as many logins at once: the last one to
// end left a session without the scopes of the others, and all but one browser had the program
// register again, as the port of its redirect URL was taken. Rule 67.
func TestRule67StepUpsAtOnceEndInOneSessionWithAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	scopes := []string{"a", "b", "c", "d", "e"}
	var arrived sync.WaitGroup
	tr := w.transport(t, &mcp.Transport{Login: &mcp.Browser{Output: io.Discard, Open: func(ctx context.Context, at string) error {
		arrived.Wait() // all have been told what they lack
		return agree(ctx, at)
	}}})
	want200(t, tr, w.url(), "")
	arrived.Add(len(scopes))
	first := map[string]bool{}
	w.next = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		scope := r.URL.Query().Get("scope")
		w.mu.Lock()
		defer w.mu.Unlock()
		_, tok, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !slices.Contains(w.valid[tok], scope) {
			if !first[scope] {
				first[scope] = true
				arrived.Done()
			}
			rw.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
			rw.WriteHeader(403)
		}
	})
	var all sync.WaitGroup
	for _, scope := range scopes {
		all.Go(func() { want200(t, tr, w.url()+"?scope="+scope, "") })
	}
	all.Wait()
	a := w.as[0]
	last := strings.Fields(a.asked[len(a.asked)-1].Get("scope"))
	for _, scope := range scopes {
		if !slices.Contains(last, scope) {
			t.Errorf("the session has not the scope %s", scope)
		}
	}
	if n := len(a.asked); n != 1+len(scopes) || a.registered != 1 {
		t.Errorf("%d logins and %d registrations, want %d and 1", n, a.registered, 1+len(scopes))
	}
}
