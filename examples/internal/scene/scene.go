// Package scene is where the small example programs play: an authorization
// server and an API that accepts its tokens, both on this machine, and a user who
// has logged in.
package scene

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/authtriptest"
)

// Main runs a program until it ends or is interrupted.
func Main(run func(context.Context, io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// An API is what a program calls.
type API struct {
	Handler http.Handler     // answers the requests that have a good token
	Refuse  http.HandlerFunc // answers the others; if nil, as RFC 6750 says
	TLS     bool             // with TLS and HTTP/2; if false, plain HTTP/1.1
}

// A Scene is an authorization server, an API and a login. The refresh tokens can
// be spent once, and the access tokens live for an hour.
type Scene struct {
	Config *oauth2.Config   // what the program knows of the authorization server
	Login  *oauth2.Token    // what the user's login brought
	Server *httptest.Server // the API
	URL    string           // its origin

	auth     *authtriptest.Server
	site     *httptest.Server // of auth
	requests atomic.Int64     // that the API got
	refused  atomic.Int64     // those of them that had no good token
}

// Start sets the scene.
func Start(api API) *Scene {
	s := &Scene{auth: &authtriptest.Server{Rotate: true}}
	s.site = httptest.NewServer(s.auth)
	s.Config, s.Login = s.auth.Config(s.site.URL), s.auth.Issue("ada")
	s.Server = httptest.NewUnstartedServer(s.guard(api))
	if api.TLS {
		s.Server.EnableHTTP2 = true
		s.Server.StartTLS()
	} else {
		s.Server.Start()
	}
	s.URL = s.Server.URL
	return s
}

// End closes what the program used, in this order, and then the scene.
func (s *Scene) End(closers ...io.Closer) {
	for _, c := range closers {
		_ = c.Close() // the program is at its end
	}
	s.Server.Close()
	s.site.Close()
}

func (s *Scene) guard(api API) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if ok && s.auth.Valid(token) {
			api.Handler.ServeHTTP(w, r)
			return
		}
		s.refused.Add(1)
		if api.Refuse != nil {
			api.Refuse(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", authtriptest.InvalidToken)
		http.Error(w, "unauthorized", http.StatusUnauthorized)
	})
}

// RevokeToken ends the access token, behind the back of everybody who uses it.
func (s *Scene) RevokeToken() { s.auth.RevokeAll() }

// Play calls call three times: after the login, after the token was revoked, and
// after the one that followed has come to its end. Then it writes how many
// requests each of them took.
func (s *Scene) Play(ctx context.Context, w io.Writer, call func(context.Context) error) error {
	// The token after the first one tells that it lives for a second.
	s.auth.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"expires_in": 1}})
	table := fmt.Sprintf("%-20s %8s %8s %16s\n", "", "requests", "401s", "token requests")
	for _, act := range []struct {
		name   string
		before func() error
	}{
		{"just logged in", func() error { return nil }},
		{"token revoked", func() error { s.RevokeToken(); return nil }},
		{"token expired", func() error {
			err := Wait(ctx, 1100*time.Millisecond)
			s.RevokeToken() // the server does not accept it any more either
			return err
		}},
	} {
		if err := act.before(); err != nil {
			return err
		}
		requests, refused, tokens := s.requests.Load(), s.refused.Load(), s.auth.Counts().Token
		if err := call(ctx); err != nil {
			return fmt.Errorf("%s: %w", act.name, err)
		}
		table += fmt.Sprintf("%-20s %8d %8d %16d\n", act.name,
			s.requests.Load()-requests, s.refused.Load()-refused, s.auth.Counts().Token-tokens)
	}
	if n := s.auth.Counts().Reuses; n > 0 {
		return fmt.Errorf("%d refresh tokens were used twice", n)
	}
	_, err := io.WriteString(w, table)
	return err
}

// Wait waits, unless ctx ends.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Get asks for url and returns the body of the answer, which must be a good one.
func Get(ctx context.Context, client *http.Client, url string) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s: status %d", req.Method, req.URL.Path, resp.StatusCode)
	}
	return string(b), nil
}
