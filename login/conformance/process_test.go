package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
	"example.com/authtrip/filestore"
	"example.com/authtrip/internal/chaos"
	"example.com/authtrip/login"
)

// This file has what several processes of the operating system do with one session whose
// tokens are bound to a key. They are this test binary, started again.

const envLodger = "CONFORMANCE_TEST_LODGER"

// A lodger is a process that uses a session which others use too.
type lodger struct {
	Issuer, ClientID, Dir, API string
	Tokens                     int // how many it lives to see
}

func TestMain(m *testing.M) {
	if text := os.Getenv(envLodger); text != "" {
		var l lodger
		err := json.Unmarshal([]byte(text), &l)
		if err == nil {
			err = l.live()
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (l *lodger) source(client *login.Client) *authtrip.Source {
	src := client.Source()
	src.Store = &authtrip.Sealed{Store: &filestore.Store{Dir: l.Dir}, Keys: [][]byte{make([]byte, 32)}}
	src.Key = "session"
	return src
}

// live sends requests until it has seen so many tokens. Each must be answered.
func (l *lodger) live() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	provider, err := login.Discover(ctx, l.Issuer)
	if err != nil {
		return err
	}
	src := l.source(&login.Client{Provider: provider, ID: l.ClientID, DPoP: new(dpop.Keys)})
	api := &http.Client{Transport: &authtrip.Transport{Source: src}}
	for seen := map[string]bool{}; len(seen) < l.Tokens; {
		tok, err := src.TokenContext(ctx)
		if err != nil {
			return err
		}
		seen[tok.AccessToken] = true
		if err = ask(ctx, api, l.API); err != nil {
			return fmt.Errorf("with the token number %d: %w", len(seen), err)
		}
		fmt.Println("answered")
		<-time.After(20 * time.Millisecond)
	}
	return src.Close()
}

func ask(ctx context.Context, c *http.Client, at string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// testProcesses has two processes share a session while its tokens end, kills a third one,
// and has a fourth go on. The server ends a session whose refresh token comes twice.
func (s *server) testProcesses(t *testing.T, api string) {
	l := &lodger{Issuer: s.client.Provider.Issuer, ClientID: s.client.ID, Dir: filepath.Join(t.TempDir(), "sessions"), API: api, Tokens: 3}
	src := l.source(s.client)
	if err := src.SetToken(t.Context(), s.signIn(t).Token); err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	env := envLodger + "=" + string(text)
	chaos.Crowd(t, 2, env)
	p := chaos.Start(t, env)
	p.Line(t)
	p.Kill()
	chaos.Crowd(t, 1, env)
}

// TestPanvaProcesses has the user info endpoint as API: it wants proofs, and nonces.
func TestPanvaProcesses(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil && os.Getenv("CI") == "" {
		t.Log("left out: oidc-provider needs Node.js and npm, which are not installed here")
		return
	}
	provider, p, _ := newPanva(t, 4)
	m, err := provider.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{
		client:  &login.Client{Provider: provider, ID: "dpop public", RedirectURL: redirectURL, DPoP: new(dpop.Keys)},
		request: &login.AuthRequest{Scopes: []string{"openid", "email", "offline_access"}, Prompt: "consent"},
		name:    "alice", password: "any", places: p,
	}
	t.Run("expiry", func(t *testing.T) { s.testBoundAPI(t, m.UserInfoEndpoint) })
	t.Run("processes", func(t *testing.T) { s.testProcesses(t, m.UserInfoEndpoint) })
}
