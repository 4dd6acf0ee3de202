package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/browser"
)

const aMinute = time.Minute // of an access token, where a test takes less

// TestEightProcessesOneRefresh: the token is gone, eight processes want one at the
// same moment, and a refresh token can be spent once.
func TestEightProcessesOneRefresh(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(*rig)
	}{
		{"token ended", (*rig).expire},
		{"token refused", (*rig).revokeAccess},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 5*time.Minute)
			r.must("login")
			tt.end(r)
			before := r.provider.Stats().TokenRequests
			var processes [8]*exec.Cmd
			var out [len(processes)]bytes.Buffer
			for i := range processes {
				processes[i] = r.command("call", "/hello")
				processes[i].Stdout, processes[i].Stderr = &out[i], &out[i]
				if err := processes[i].Start(); err != nil {
					t.Fatal(err)
				}
			}
			for i, p := range processes {
				if err := p.Wait(); err != nil || out[i].String() != `{"hello":"42"}`+"\n" {
					t.Errorf("process %d: %v, %s", i, err, &out[i])
				}
			}
			stats := r.provider.Stats()
			if got := stats.TokenRequests - before; got != 1 {
				t.Errorf("%d token requests, want 1", got)
			}
			if stats.RefreshTokensReused != 0 {
				t.Errorf("%d refresh tokens were spent twice", stats.RefreshTokensReused)
			}
			r.must("whoami")
		})
	}
}

// TestRevokedLoginSaysWhatToDo: the user has ended the login at the provider.
func TestRevokedLoginSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		ended bool
		args  []string
	}{
		{"call", false, []string{"call", "/hello"}},
		{"whoami", false, []string{"whoami"}},
		{"call, the token has ended too", true, []string{"call", "/hello"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, aMinute)
			r.must("login")
			tok := r.token()
			if tt.ended {
				r.expire()
			}
			r.revoke(tok)
			r.want(exitLogin, "cli: not logged in: run `cli login`", tt.args...)
			r.wantLoggedOut()
			r.must("login")
			r.must("whoami")
		})
	}
}

// TestTokenGoesNowhereElse: what is not of the API is not called, and where the
// API redirects to somebody else, the token stays behind.
func TestTokenGoesNowhereElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, aMinute)
	r.must("login")
	var mu sync.Mutex // guards seen
	var seen []string
	note := func(who string, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, who+" "+strings.Fields(req.Header.Get("Authorization") + " nothing")[0])
	}
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { note("other", req) }))
	t.Cleanup(other.Close)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		note("api", req)
		http.Redirect(w, req, other.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(api.Close)
	host := strings.TrimPrefix(api.URL, "http://")
	for _, at := range []string{
		other.URL, strings.TrimPrefix(other.URL, "http:"), "https://" + host, "http:" + host, "http:/x", "http://me@" + host,
		"http://" + host + "@" + strings.TrimPrefix(other.URL, "http://"),
	} {
		got := r.run("-api", api.URL, "call", at)
		if got.code != exitUsage || strings.Count(got.err, "\n") != 1 || !strings.Contains(got.err, "not of the API") {
			t.Errorf("call %s: %+v, want a line that it is not of the API", at, got)
		}
	}
	if got := r.run("-api", api.URL, "call", "-H", "authorization: Bearer mine", "/"); got.code != exitUsage {
		t.Errorf("a token in -H: %+v, want that it is not taken", got)
	}
	r.must("-api", api.URL, "call", "/")
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(seen, ", "); got != "api Bearer, other nothing" {
		t.Errorf("what was sent is %q, want the last call and its redirect, and the token at the API only", got)
	}
}

// TestDeviceLogin: a machine without a browser, and a person with a telephone.
func TestDeviceLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t, aMinute)
	cmd := r.command("login", "-device")
	stderr := start(t, cmd)
	page := lineAfter(t, stderr, "Open this page on any device:")
	code := lineAfter(t, stderr, "and type this code there:")
	if err := browser.New(demoLogin, demoPassword).ConnectDevice(t.Context(), page, code); err != nil {
		t.Error(err)
	}
	rest, _ := io.ReadAll(stderr)
	if err := cmd.Wait(); err != nil || string(rest) != "Logged in.\n" {
		t.Fatalf("login -device: %v, %s", err, rest)
	}
	if got := r.must("whoami"); got != "Ada Lovelace\n" {
		t.Errorf("whoami = %q", got)
	}
}

// start starts a process and returns what it says.
func start(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	pipe, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(pipe)
}

// lineAfter returns the line that follows a certain one.
func lineAfter(t *testing.T, from *bufio.Reader, heading string) string {
	t.Helper()
	for last := ""; ; {
		line, err := from.ReadString('\n')
		if err != nil {
			t.Fatalf("no line after %q: %v", heading, err)
		}
		line = strings.TrimSuffix(line, "\n")
		if last == heading {
			return line
		}
		last = line
	}
}

// TestNothingSecretIsPrinted: no command, not even with -v and where things go
// wrong, prints a token, or the code that was traded for it.
func TestNothingSecretIsPrinted(t *testing.T) {
	t.Parallel()
	r := newRig(t, aMinute)
	r.env["BROWSER"] = r.dir // which is no program, so that the person is here
	secrets := make(map[string]string)
	remember := func(of string) {
		tok := r.token()
		id, _ := tok.Extra("id_token").(string)
		for name, s := range map[string]string{"access": tok.AccessToken, "refresh": tok.RefreshToken, "ID": id} {
			if s == "" {
				t.Fatalf("no %s token %s", name, of)
			}
			secrets[s] = name + " token " + of
		}
	}
	var said strings.Builder
	run := func(args ...string) {
		got := r.run(append([]string{"-v"}, args...)...)
		said.WriteString(got.out + got.err)
	}

	cmd := r.command("-v", "login")
	var out bytes.Buffer
	cmd.Stdout = &out
	stderr := start(t, cmd)
	page := lineAfter(t, stderr, "Open this page to log in:")
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	back, err := browser.New(demoLogin, demoPassword).Authorize(t.Context(), page, u.Query().Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	secrets[back.Query().Get("code")] = "code"
	resp, err := http.Get(back.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	rest, _ := io.ReadAll(stderr)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("login: %v, %s", err, rest)
	}
	said.Write(rest)
	said.Write(out.Bytes())

	remember("of the login")
	run("whoami")
	run("call", "/hello")
	r.revokeAccess()
	run("call", "-d", "{}", "/notes")
	remember("after the refresh")
	r.expire()
	run("call", "/nowhere")
	remember("after the end")
	r.revoke(r.token())
	run("call", "/hello")
	run("whoami")
	run("logout")
	for secret, name := range secrets {
		if secret == "" || strings.Contains(said.String(), secret) {
			t.Errorf("the %s is printed", name)
		}
	}
	if n := strings.Count(said.String(), "event="); n < 10 {
		t.Errorf("-v says %d things:\n%s", n, &said)
	}
}

// TestLogoutEndsTheLoginAtTheServer: what somebody has copied is of no use.
func TestLogoutEndsTheLoginAtTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, aMinute)
	r.must("login")
	tok := r.token()
	r.want(exitOK, "Logged out.", "logout")
	r.want(exitOK, "Not logged in.", "logout")
	said, err := r.api.client.Introspect(t.Context(), tok.AccessToken)
	if err != nil || said.Active {
		t.Errorf("the access token after the logout: %+v, %v, want it ended", said, err)
	}
	if _, err := r.account().client.RefreshToken().Refresh(t.Context(), tok); !errors.Is(err, authtrip.ErrReauthRequired) {
		t.Errorf("the refresh token after the logout: %v, want it ended", err)
	}
}

// TestLogoutWithoutTheServer: the file goes in any case, and the user is told.
func TestLogoutWithoutTheServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before func(*rig)
	}{
		{"token is good", func(*rig) {}},
		{"token has ended", (*rig).expire},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, aMinute)
			r.must("login")
			tt.before(r)
			refreshToken := r.keptRefreshToken()
			if err := r.provider.Close(); err != nil {
				t.Fatal(err)
			}
			got := r.run("logout")
			if got.code != exitOK || !strings.HasPrefix(got.err, "Logged out here only, as the provider could not be told: ") {
				t.Errorf("logout: %+v", got)
			}
			if strings.Contains(r.kept(), refreshToken) {
				t.Error("the refresh token is still there")
			}
			r.wantLoggedOut()
		})
	}
}

func (r *rig) keptRefreshToken() string {
	r.Helper()
	_, rest, _ := strings.Cut(r.kept(), `"refresh_token":"`)
	token, _, ok := strings.Cut(rest, `"`)
	if !ok {
		r.Fatal("there is no refresh token in the files")
	}
	return token
}

// TestAdvice: each kind of error is one line that says what to do.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"login", &url.Error{Op: "Get", URL: "/", Err: authtrip.ErrReauthRequired}, exitLogin, "not logged in: run `cli login`"},
		{"store", &authtrip.RefreshError{Err: errors.Join(authtrip.ErrNotSaved)}, exitFailed, "make room or repair the directory, then run `cli login`"},
		{"doubt", &authtrip.RefreshError{Err: authtrip.ErrInDoubt}, exitFailed, "try again in a few seconds"},
		{"doubt that is final", errors.Join(authtrip.ErrInDoubt, authtrip.ErrReauthRequired), exitLogin, "not logged in: run `cli login`"},
		{"API", statusError{"404 Not Found", nil}, exitHTTP, "the API answered 404 Not Found"},
		{"disk", os.ErrPermission, exitFailed, os.ErrPermission.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			line, code := advice(tt.err)
			if code != tt.code || !strings.HasSuffix(line, tt.want) || strings.Contains(line, "\n") {
				t.Errorf("advice(%v) = %q, %d, want %q, %d", tt.err, line, code, tt.want, tt.code)
			}
		})
	}
}
