package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	scene.Check(t, run, "just logged in 2 0 0", "token revoked 3 1 1", "token expired 2 0 1")
}

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, method string
		fault        authtriptest.Fault
		requests     int
	}{
		{"GET, busy", http.MethodGet, authtriptest.Fault{Status: http.StatusServiceUnavailable}, 4},
		{"PUT, broken", http.MethodPut, authtriptest.Fault{Reset: true}, 4},
		{"POST, busy", http.MethodPost, authtriptest.Fault{Status: http.StatusServiceUnavailable}, 1},
		{"POST, broken", http.MethodPost, authtriptest.Fault{Reset: true}, 1},
		{"GET, each token refused", http.MethodGet, authtriptest.Fault{Challenge: authtriptest.InvalidToken}, 2},
		{"GET, not allowed", http.MethodGet, authtriptest.Fault{Status: http.StatusForbidden}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := &authtriptest.Server{}
			site := authtriptest.Start(t, srv)
			srv.FailAlways(authtriptest.APIPath, test.fault)
			src := &authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Initial: srv.Issue("ada")}
			t.Cleanup(func() { _ = src.Close() })
			client := newClient(&authtrip.Transport{Source: src, Base: site.Client.Transport})
			req, err := http.NewRequestWithContext(t.Context(), test.method, site.URL+authtriptest.APIPath, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			switch {
			case test.fault.Reset:
				if err == nil {
					t.Errorf("no error")
				}
			case err != nil:
				t.Error(err)
			}
			if err == nil {
				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
			}
			if n := srv.Counts().API; n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
		})
	}
}

func TestLoginThatHasEndedIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	src := new(authtriptest.Source)
	src.SetError(authtrip.ErrReauthRequired)
	client := newClient(&authtrip.Transport{Source: src})
	if _, err := scene.Get(t.Context(), client, "http://127.0.0.1:1"); !errors.Is(err, authtrip.ErrReauthRequired) {
		t.Errorf("Get() = %v, want %v", err, authtrip.ErrReauthRequired)
	}
	if n := src.Counts().Calls; n != 1 {
		t.Errorf("the token was asked for %d times, want 1", n)
	}
}

func TestContextEndsTheTries(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	site := authtriptest.Start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	client := newClient(&authtrip.Transport{Source: new(authtriptest.Source), Base: site.Client.Transport})
	if _, err := scene.Get(ctx, client, site.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("Get() = %v, want %v", err, context.Canceled)
	}
}
