package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"

	"example.com/authtrip/examples/internal/browser"
	"example.com/authtrip/examples/internal/provider"
	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

// This file and server.go are for a machine without an MCP server. A program of your own
// does without them.

// demo plays the program twice, with a person who logs in.
func demo(ctx context.Context, w io.Writer) error {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where the provider's library logs
	secret := rand.Text()
	p, err := provider.Start(provider.Options{
		Clients: []provider.Client{
			{ID: "agent", RedirectURIs: []string{"http://127.0.0.1/callback"}},
			{ID: "notes", Secret: secret, RedirectURIs: []string{"http://127.0.0.1/none"}},
		},
		Users: []provider.User{{Subject: "42", Login: "ada", Password: "analytical engine", Name: "Ada Lovelace"}},
	})
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	server := startServer(&login.Client{Provider: &login.Provider{Issuer: p.Issuer()}, ID: "notes", Secret: secret})
	defer server.Close()
	dir, err := os.MkdirTemp("", "authtrip-mcp")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // the login has ended
	start := func(person func(context.Context, string) error) error {
		a := &agent{url: server.URL + "/mcp", dir: dir, browser: &mcp.Browser{Open: person, Output: io.Discard}, tools: []string{"read", "write"}}
		// The provider registers nobody by itself.
		a.identity.Registered = func(_ context.Context, issuer string) (*login.Client, error) {
			if issuer != p.Issuer() {
				return nil, nil //nolint:nilnil // as Registered has it
			}
			return &login.Client{ID: "agent"}, nil
		}
		return a.run(ctx, w)
	}
	fmt.Fprintln(w, "first start")
	err = start(func(ctx context.Context, page string) error {
		at, perr := url.Parse(page)
		if perr != nil {
			return perr
		}
		fmt.Fprintln(w, "  the browser is asked for:", at.Query().Get("scope"))
		return person(ctx, page, at.Query().Get("redirect_uri"))
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "second start")
	return start(func(context.Context, string) error { return errors.New("nobody is there") })
}

// person logs in.
func person(ctx context.Context, page, redirectURL string) error {
	back, err := browser.New("ada", "analytical engine").Authorize(ctx, page, redirectURL)
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
	return resp.Body.Close()
}
