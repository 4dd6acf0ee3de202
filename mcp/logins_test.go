package mcp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

func TestDeviceLogsInWithoutABrowser(t *testing.T) {
	t.Parallel()
	w, store := newWorld(t), new(authtrip.MemoryStore)
	w.as[0].pending = 1
	var shown []string
	device := &mcp.Device{Show: func(_ context.Context, d *oauth2.DeviceAuthResponse) error {
		shown = append(shown, d.UserCode+" "+d.VerificationURI)
		return nil
	}}
	tr := w.transport(t, &mcp.Transport{Login: device, Store: store})
	want200(t, tr, w.url(), "")
	w.revoke()
	want200(t, tr, w.url(), "")
	if !slices.Equal(shown, []string{"ABCD " + w.as[0].URL + "/go"}) {
		t.Errorf("shown was %q", shown)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if asked := w.as[0].asked[0]; asked.Get("resource") != w.url() || asked.Get("scope") != "read offline_access" {
		t.Errorf("resource %q, scope %q", asked.Get("resource"), asked.Get("scope"))
	}
	if got := w.as[0].tokens[1].Get("resource"); got != w.url() {
		t.Errorf("resource of the token request is %q", got)
	}
	if len(w.as[0].tokens) != 3 || w.as[0].tokens[2].Get("grant_type") != "refresh_token" {
		t.Errorf("%d token requests, want one that waits, one that gets it, and a refresh", len(w.as[0].tokens))
	}
}

func TestDeviceThatCannotShowIsAnError(t *testing.T) {
	t.Parallel()
	w, sorry := newWorld(t), errors.New("no display")
	for _, tt := range []struct {
		device *mcp.Device
		want   string
	}{
		{&mcp.Device{}, "Device.Show is nil"},
		{&mcp.Device{Show: func(context.Context, *oauth2.DeviceAuthResponse) error { return sorry }}, "Device.Show: no display"},
	} {
		if _, err := post(t, w.transport(t, &mcp.Transport{Login: tt.device}), w.url(), ""); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error = %v, want %s", err, tt.want)
		}
	}
}

func enterprise(idp *authServer) *mcp.Enterprise {
	return &mcp.Enterprise{
		Provider: &login.Client{Provider: &login.Provider{Issuer: idp.URL}, ID: "idp"},
		IDToken:  func(context.Context) (string, error) { return "id token", nil },
	}
}

// TestPolicyThatChangesEndsTheAccess: the organization takes a permission back while a
// session lives. The program is told so, and nobody is sent to a browser.
func TestPolicyThatChangesEndsTheAccess(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"access_denied": mcp.ErrDeniedByPolicy, "unauthorized_client": mcp.ErrDeniedByPolicy,
		"invalid_grant": authtrip.ErrReauthRequired, "invalid_token": authtrip.ErrReauthRequired,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			idp := w.add(t)
			tr := w.transport(t, &mcp.Transport{Login: enterprise(idp)})
			want200(t, tr, w.url(), "")
			w.mu.Lock()
			idp.deny, w.as[0].refresh = code, map[string]string{}
			w.mu.Unlock()
			w.revoke()
			_, err := post(t, tr, w.url(), "")
			if err == nil { // the end of the session is noticed by the first request
				_, err = post(t, tr, w.url(), "")
			}
			if !errors.Is(err, want) {
				t.Errorf("error = %v, want %v", err, want)
			}
			if strings.Contains(err.Error(), "single sign-on has ended") != strings.HasPrefix(code, "invalid") {
				t.Errorf("error = %v, and the identity provider said %s", err, code)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.as[0].asked)+len(idp.asked) != 0 {
				t.Error("a browser was asked")
			}
		})
	}
}

func TestIdentityProviderThatDoesNotKnowTheProgramIsAskedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	idp := w.add(t)
	idp.deny = "invalid_client"
	if _, err := post(t, w.transport(t, &mcp.Transport{Login: enterprise(idp)}), w.url(), ""); err == nil || errors.Is(err, mcp.ErrDeniedByPolicy) {
		t.Errorf("error = %v", err)
	}
	if n, m := len(idp.tokens), w.as[0].registered; n != 1 || m != 1 {
		t.Errorf("%d token requests at the identity provider, %d registrations at the server, want 1 and 1", n, m)
	}
}

func TestRefreshTokenGoesOutAsItsClientAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := "first"
	id := &login.Identity{Registered: func(context.Context, string) (*login.Client, error) { return &login.Client{ID: name}, nil }}
	tr := w.transport(t, &mcp.Transport{Login: browser(), Identity: id})
	want200(t, tr, w.url(), "")
	name = "second"
	w.revoke()
	if _, err := tr.Source().Refresh(t.Context()); !errors.Is(err, authtrip.ErrSessionEnded) {
		t.Errorf("error = %v, want ErrSessionEnded", err)
	}
	want200(t, tr, w.url(), "")
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, form := range w.as[0].tokens {
		if form.Get("grant_type") == "refresh_token" {
			t.Errorf("a refresh token went out as client %q", form.Get("client_id"))
		}
	}
}

func TestTwoReplicasRefreshOneSessionOnce(t *testing.T) {
	t.Parallel()
	w, store := newWorld(t), new(authtrip.MemoryStore)
	first := w.transport(t, &mcp.Transport{Login: browser(), Store: store})
	want200(t, first, w.url(), "")
	second := w.transport(t, &mcp.Transport{Login: &mcp.Browser{Open: nobody}, Store: store})
	want200(t, second, w.url(), "")
	w.revoke()
	var wg sync.WaitGroup
	for range 20 {
		for _, tr := range []*mcp.Transport{first, second} {
			wg.Go(func() {
				if status, err := post(t, tr, w.url(), ""); err != nil || status != 200 {
					t.Errorf("status %d, %v", status, err)
				}
			})
		}
	}
	wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, m := len(w.as[0].tokens), len(w.as[0].asked); n != 2 || m != 1 {
		t.Errorf("%d token requests and %d logins, want 2 and 1", n, m)
	}
}

// TestServerThatForgotTheClientGetsANewRegistration: a server that has lost its clients answers
// each refresh with invalid_client, for ever.
func TestServerThatForgotTheClientGetsANewRegistration(t *testing.T) {
	t.Parallel()
	w, store := newWorld(t), new(authtrip.MemoryStore)
	tr := w.transport(t, &mcp.Transport{Login: browser(), Store: store})
	want200(t, tr, w.url(), "")
	w.mu.Lock()
	w.as[0].forgot = 1
	w.mu.Unlock()
	w.revoke()
	want200(t, tr, w.url(), "")
	w.revoke()
	want200(t, w.transport(t, &mcp.Transport{Login: &mcp.Browser{Open: nobody}, Store: store}), w.url(), "") // as the new client
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, m := w.as[0].registered, len(w.as[0].asked); n != 2 || m != 2 {
		t.Errorf("%d registrations and %d logins, want 2 and 2", n, m)
	}
}

func TestServerThatForgotTheClientOfAnotherLogin(t *testing.T) {
	t.Parallel()
	show := func(context.Context, *oauth2.DeviceAuthResponse) error { return nil }
	w, id := newWorld(t), identity()
	want200(t, w.transport(t, &mcp.Transport{Login: &mcp.Device{Show: show}, Identity: id}), w.url(), "")
	w.mu.Lock()
	w.as[0].forgot = 1
	w.mu.Unlock()
	want200(t, w.transport(t, &mcp.Transport{Login: &mcp.Device{Show: show}, Identity: id}), w.url(), "") // another user of the program
	if n := w.as[0].registered; n != 2 {
		t.Errorf("%d registrations, want 2", n)
	}
}

func TestServerThatForgotTheClientOfAWebApplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: &mcp.Redirect{URL: "https://app.example/callback"}})
	begin := func() (*mcp.LoginNeededError, string) {
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
		return need, resp.Header.Get("Location")
	}
	need, back := begin()
	w.mu.Lock()
	w.as[0].forgot = 1
	w.mu.Unlock()
	if err := tr.Finish(t.Context(), need.Transaction, back); err == nil {
		t.Fatal("Finish() has no error")
	}
	need, back = begin()
	if err := tr.Finish(t.Context(), need.Transaction, back); err != nil {
		t.Fatal(err)
	}
	want200(t, tr, w.url(), "")
}

// TestServerThatForgotAnotherClientIsNotAskedToRegister: what was registered by hand is
// no concern of the program, and the session stays as it is.
func TestServerThatForgotAnotherClientIsNotAskedToRegister(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := &login.Identity{Registered: func(context.Context, string) (*login.Client, error) { return &login.Client{ID: "client1"}, nil }}
	tr := w.transport(t, &mcp.Transport{Login: browser(), Identity: id})
	want200(t, tr, w.url(), "")
	w.mu.Lock()
	w.as[0].forgot = 1
	w.mu.Unlock()
	w.revoke()
	if _, err := post(t, tr, w.url(), ""); err == nil || errors.Is(err, authtrip.ErrReauthRequired) || !strings.Contains(err.Error(), "rejected the client") {
		t.Errorf("error = %v", err)
	}
	w.mu.Lock()
	w.as[0].forgot = 0 // it was a mistake
	w.mu.Unlock()
	deadline := time.Now().Add(20 * time.Second)
	status := 0
	for status != 200 && time.Now().Before(deadline) {
		status, _ = post(t, tr, w.url(), "")
	}
	if n := len(w.as[0].asked); status != 200 || n != 1 || w.as[0].registered != 0 {
		t.Errorf("status %d, %d logins, %d registrations, want 200, 1 and none", status, n, w.as[0].registered)
	}
}

func TestChooseChoosesTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second := w.add(t)
	w.also = []string{second.URL}
	var offered []string
	choose := func(_ context.Context, issuers []string) (string, error) {
		offered = issuers
		return issuers[1], nil
	}
	want200(t, w.transport(t, &mcp.Transport{Login: browser(), Choose: choose}), w.url(), "")
	if !slices.Equal(offered, []string{w.as[0].URL, second.URL}) {
		t.Errorf("offered were %q", offered)
	}
	if len(w.as[0].asked) != 0 || len(second.asked) != 1 {
		t.Errorf("%d logins at the first server and %d at the second, want 0 and 1", len(w.as[0].asked), len(second.asked))
	}
	none := errors.New("none of them")
	refuse := func(context.Context, []string) (string, error) { return "", none }
	if _, err := post(t, w.transport(t, &mcp.Transport{Login: browser(), Choose: refuse}), w.url(), ""); !errors.Is(err, none) {
		t.Errorf("error = %v, want that of Choose", err)
	}
}

// TestRule67StepUpEndsAfterThreeLogins: a server that wants another scope with each
// request would keep the user busy for ever.
func TestRule67StepUpEndsAfterThreeLogins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser(), Base: roundTrip(func(r *http.Request) (*http.Response, error) {
		w.mu.Lock()
		w.needs += "+"
		w.mu.Unlock()
		return http.DefaultTransport.RoundTrip(r)
	})})
	want200(t, tr, w.url(), "")
	if status, err := post(t, tr, w.url()+"/write", ""); err != nil || status != http.StatusForbidden {
		t.Errorf("status %d, %v, want the 403 as it came", status, err)
	}
	if n := len(w.as[0].asked); n != 4 {
		t.Errorf("%d logins, want the first and three", n)
	}
}

// TestRule71WhatAServerNamesIsNotAskedOnForbiddenNetworks: a server, or its authorization
// server, points at what only this machine can reach.
func TestRule71WhatAServerNamesIsNotAskedOnForbiddenNetworks(t *testing.T) {
	t.Parallel()
	const at = "https://169.254.169.254/latest"
	for name, change := range map[string]func(*world){
		"authorization server": func(w *world) { w.as[0].URL = at },
		"registration":         func(w *world) { w.as[0].metadata = map[string]any{"registration_endpoint": at} },
		"token endpoint":       func(w *world) { w.as[0].metadata = map[string]any{"token_endpoint": at} },
		"device endpoint":      func(w *world) { w.as[0].metadata = map[string]any{"device_authorization_endpoint": at} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			change(w)
			var ask mcp.Login = browser()
			if name == "device endpoint" {
				ask = &mcp.Device{Show: func(context.Context, *oauth2.DeviceAuthResponse) error { return nil }}
			}
			if _, err := post(t, w.transport(t, &mcp.Transport{Login: ask}), w.url(), ""); !errors.Is(err, login.ErrForbiddenAddress) {
				t.Errorf("error = %v, want ErrForbiddenAddress", err)
			}
		})
	}
}
