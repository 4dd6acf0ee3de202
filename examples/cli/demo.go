package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"example.com/authtrip/examples/internal/browser"
	"example.com/authtrip/examples/internal/provider"
)

// This file and demoapi.go are the program showing itself. One of your own does
// without them.

const (
	demoLifetime = 2 * time.Second // of an access token

	demoLogin    = "ada"
	demoPassword = "analytical engine"
)

// demo plays the session on this machine, with a person who logs in.
func (p *program) demo(ctx context.Context, args []string) error {
	if err := p.parseNone(flag.NewFlagSet("demo", flag.ContinueOnError), args); err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where the provider's library logs
	w, err := newWorld(demoLifetime)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }() // the program is at its end
	dir, err := os.MkdirTemp("", "authtrip-cli")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the login has ended
	terminal := &program{in: strings.NewReader(""), out: p.out, err: p.out, browse: person, getenv: func(name string) string {
		return w.environment(dir)[name]
	}}
	for _, s := range session() {
		fmt.Fprintln(p.out, s)
		if err := wait(ctx, s.sleep); err != nil {
			return err
		}
		if len(s.args) == 0 {
			continue
		}
		if code := terminal.run(ctx, s.args); code != s.code {
			return fmt.Errorf("demo: the exit code is %d, want %d", code, s.code)
		}
	}
	return nil
}

// A step is a line that is typed into the terminal.
type step struct {
	args  []string
	code  int // with which it ends
	sleep time.Duration
}

// session returns what the demo types.
func session() []step {
	return []step{
		{args: []string{"whoami"}, code: exitLogin},
		{args: []string{"login"}},
		{args: []string{"whoami"}},
		{args: []string{"call", "/hello"}},
		{sleep: demoLifetime},
		{args: []string{"-v", "call", "-d", `{"text": "still here"}`, "/notes"}},
		{args: []string{"call", "https://elsewhere.example/"}, code: exitUsage},
		{args: []string{"logout"}},
		{args: []string{"call", "/hello"}, code: exitLogin},
	}
}

// String returns the line with its prompt.
func (s step) String() string {
	if s.sleep > 0 {
		return fmt.Sprintf("$ sleep %.0f    # and the access token has expired", s.sleep.Seconds())
	}
	line := []string{"$ cli"}
	for _, arg := range s.args {
		if strings.ContainsAny(arg, ` "{}`) {
			arg = "'" + arg + "'"
		}
		line = append(line, arg)
	}
	return strings.Join(line, " ")
}

// A world is a provider and an API, with a user.
type world struct {
	provider *provider.Provider
	api      *demoAPI
}

func newWorld(lifetime time.Duration) (*world, error) {
	secret := newSecret() // with which the API asks the provider about tokens
	p, err := provider.Start(provider.Options{
		AccessTokenLifetime: lifetime,
		Clients: []provider.Client{
			{ID: defaultClient, RedirectURIs: []string{"http://127.0.0.1/callback"}},
			{ID: demoAPIClient, Secret: secret},
		},
		Users: []provider.User{
			{Subject: "42", Login: demoLogin, Password: demoPassword, Name: "Ada Lovelace", Email: "ada@example.com"},
		},
	})
	if err != nil {
		return nil, err
	}
	api, err := startDemoAPI(p.Issuer(), secret)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &world{p, api}, nil
}

// Close stops both.
func (w *world) Close() error {
	http.DefaultClient.CloseIdleConnections()
	return errors.Join(w.api.Close(), w.provider.Close())
}

// environment returns what has the program use this world.
func (w *world) environment(dir string) map[string]string {
	return map[string]string{"AUTHTRIP_ISSUER": w.provider.Issuer(), "AUTHTRIP_API": w.api.url, "AUTHTRIP_DIR": dir}
}

// person is the user with a browser, in which a login page has just opened.
func person(ctx context.Context, page string) error {
	u, err := url.Parse(page)
	if err != nil {
		return err
	}
	back, err := browser.New(demoLogin, demoPassword).Authorize(ctx, page, u.Query().Get("redirect_uri"))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, back.String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// wait waits, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
