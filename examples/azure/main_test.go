package main

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run, "just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	for _, want := range []string{"version 1\n", "version 2\n", "version 3\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
}

// TestLargeBodyIsSentAgain: the server refuses the token before it has read the
// body, so that the first request is still being sent when the second one is made.
func TestLargeBodyIsSentAgain(t *testing.T) {
	t.Parallel()
	s := scene.Start(scene.API{Handler: new(vault), Refuse: refuse})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)
	client, err := newClient(&authtrip.Transport{Source: src, RetryBodyLimit: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.RevokeToken()
	if _, err := put(t.Context(), client, s.URL, strings.Repeat("x", 4<<20)); err != nil {
		t.Error(err)
	}
}

// TestBusyServer: the Transport makes up for a refused token, and azcore for the
// answer to that, each without undoing what the other one does.
func TestBusyServer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var agents, lengths, tokens []string
	srv := &authtriptest.Server{OnRequest: func(r *http.Request) {
		if r.URL.Path == authtriptest.APIPath {
			mu.Lock()
			defer mu.Unlock()
			agents = append(agents, r.UserAgent())
			lengths = append(lengths, r.Header.Get("Content-Length"))
			tokens = append(tokens, r.Header.Get("Authorization"))
		}
	}}
	srv.Fail(authtriptest.APIPath,
		authtriptest.Fault{Challenge: authtriptest.InvalidToken},
		authtriptest.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After-Ms": {"1"}}})
	site := authtriptest.Start(t, srv)
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Initial: srv.Issue("ada")}
	t.Cleanup(func() { _ = src.Close() })
	client, err := newClient(&authtrip.Transport{Source: src})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(t.Context(), client, site.URL+authtriptest.APIPath, "x"); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(tokens) != 3 || tokens[0] == tokens[1] || tokens[1] != tokens[2] {
		t.Errorf("%d requests, want three, of which the first one has another token", len(tokens))
	}
	agents, lengths = slices.Compact(agents), slices.Compact(lengths)
	if len(agents) != 1 || !strings.Contains(agents[0], "example/v0.1.0") || len(lengths) != 1 {
		t.Errorf("the requests are from %q and have %q bytes, want the same of all", agents, lengths)
	}
	if n := srv.Counts().Token; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestServerThatRefusesEveryToken(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	srv.FailAlways(authtriptest.APIPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
	site := authtriptest.Start(t, srv)
	client, err := newClient(&authtrip.Transport{Source: new(authtriptest.Source), Base: site.Client.Transport})
	if err != nil {
		t.Fatal(err)
	}
	_, err = put(t.Context(), client, site.URL+authtriptest.APIPath, "x")
	var refused *azcore.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusUnauthorized {
		t.Errorf("put() = %v, want the 401", err)
	}
	if n := srv.Counts().API; n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestLoginThatHasEndedIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	src := new(authtriptest.Source)
	src.SetError(authtrip.ErrReauthRequired)
	client, err := newClient(&authtrip.Transport{Source: src})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(t.Context(), client, "http://127.0.0.1:1", "x"); !errors.Is(err, authtrip.ErrReauthRequired) {
		t.Errorf("put() = %v, want %v", err, authtrip.ErrReauthRequired)
	}
	if n := src.Counts().Calls; n != 1 {
		t.Errorf("the token was asked for %d times, want 1", n)
	}
}
