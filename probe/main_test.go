package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authtrip/authtriptest"
	"example.com/authtrip/probe/internal/site"
	"example.com/authtrip/probe/measure"
)

// A terminal is one run of the program, on real sockets, with a user who logs in.
type terminal struct {
	site     *site.Site
	in       string
	asks     bool
	out, err output
	code     int
}

// output is written to by several goroutines.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// run runs the program against the site, and holds that nothing secret is printed. What begins
// with http is the URL that a user may have to open.
func (c *terminal) run(t *testing.T, args ...string) {
	t.Helper()
	at := authtriptest.Start(t, c.site)
	c.site.Start(at.URL)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(site.ClientSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &program{
		in: strings.NewReader(c.in), out: &c.out, err: &c.err, asks: c.asks,
		getenv: func(string) string { return "" },
		browse: func(_ context.Context, url string) error {
			go func() {
				resp, err := http.Get(url)
				if err == nil {
					_ = resp.Body.Close()
				}
			}()
			return nil
		},
	}
	c.code = p.run(t.Context(), append([]string{
		"-issuer", at.URL, "-client-id", site.ClientID, "-secret-file", secret, "-api", at.URL + "/api",
	}, args...))
	printed := c.out.String() + regexp.MustCompile(`(?m)^http.*$`).ReplaceAllString(c.err.String(), "")
	for _, word := range c.site.Secrets() {
		if strings.Contains(printed, word) {
			t.Errorf("a secret of kind %.3s… is printed", word)
		}
	}
}

func (c *terminal) wants(t *testing.T, lines ...string) {
	t.Helper()
	folded := regexp.MustCompile(` +`).ReplaceAllString(c.out.String(), " ")
	for _, line := range lines {
		if !strings.Contains(folded, line) {
			t.Errorf("the output lacks %q:\n%s\n%s", line, c.out.String(), c.err.String())
		}
	}
}

// TestGraceIsFoundInRealTime is the whole program: sockets, the browser, the clock of the machine.
func TestGraceIsFoundInRealTime(t *testing.T) {
	t.Parallel()
	c := &terminal{site: &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: 3 * time.Second}}}
	c.run(t, "-yes", "-grace-limit", "9s", "-sessions", "3")
	c.wants(t, "after rejected reuse, the session has ended", "GracePeriod: ", "API to a revoked token 401, Bearer invalid_token", "PKCE checked")
	// On a machine that is busy the bounds are further apart, and never wrong.
	found := regexp.MustCompile(`used refresh token +accepted after ([\d.]+) s, rejected after ([\d.]+) s`).FindStringSubmatch(c.out.String())
	if found == nil {
		t.Fatalf("no grace period is found:\n%s\n%s", c.out.String(), c.err.String())
	}
	if lo, hi := number(t, found[1]), number(t, found[2]); lo > 3 || hi < 3 {
		t.Errorf("found %v to %v seconds, want 3", lo, hi)
	}
	if c.code != 0 {
		t.Errorf("exit code %d", c.code)
	}
	if !strings.Contains(c.err.String(), "· grace: accepted after") {
		t.Error("the progress of the search is not told")
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestStepsAreAskedFor: a user says no to what could end a session.
func TestStepsAreAskedFor(t *testing.T) {
	t.Parallel()
	c := &terminal{
		site: &site.Site{Server: &authtriptest.Server{Rotate: true}},
		asks: true, in: "y\nno\nn\nn\n",
	}
	c.run(t)
	if n := c.site.Counts(); n.Reuses != 0 || n.FamiliesRevoked != 0 || n.Revocations != 0 {
		t.Errorf("%d refresh tokens were reused, %d sessions ended", n.Reuses, n.FamiliesRevoked)
	}
	c.wants(t, "rotation each refresh gives another refresh token", "reuse: the step was not allowed", "pkce: the step was not allowed")
	for _, want := range []string{`The step "client" tries`, `The step "reuse" sends`, "Take it? [y/N]"} {
		if !strings.Contains(c.err.String(), want) {
			t.Errorf("nobody was asked %q", want)
		}
	}
}

// TestNobodyIsThereToAsk: without a terminal nothing is done that has to be asked.
func TestNobodyIsThereToAsk(t *testing.T) {
	t.Parallel()
	c := &terminal{site: &site.Site{Server: &authtriptest.Server{Rotate: true}}}
	c.run(t, "-json")
	if n := c.site.Counts(); n.Reuses != 0 || n.Revocations != 0 || c.code != 0 {
		t.Errorf("%d reuses, exit code %d", n.Reuses, c.code)
	}
	var report struct {
		measure.Report
		Settings string `json:"settings"`
	}
	if err := json.Unmarshal([]byte(c.out.String()), &report); err != nil {
		t.Fatal(err)
	}
	if report.Refresh.Rotates != measure.Yes || !strings.Contains(report.Settings, "authtrip.Source{") {
		t.Error("the JSON is incomplete")
	}
}

func TestStepsCanBeChosen(t *testing.T) {
	t.Parallel()
	c := &terminal{site: &site.Site{Server: &authtriptest.Server{Rotate: true}}}
	c.run(t, "-steps", "login,reuse", "-row", "A server")
	if n := c.site.Counts(); n.Reuses != 1 || n.Revocations != 0 {
		t.Errorf("%d reuses, %d revocations", n.Reuses, n.Revocations)
	}
	c.wants(t, "| A server |")
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	c := &terminal{site: &site.Site{Server: &authtriptest.Server{}, Methods: []string{"client_secret_post"}}}
	c.run(t, "-login", "client-credentials", "-yes")
	c.wants(t,
		"client_secret_basic: rejected (401 invalid_client)", "client_secret_post: works",
		`AuthMethod: "client_secret_post", // it works; client_secret_basic was rejected (401 invalid_client)`,
		"client.ClientCredentials(nil)", "API to no token 401, Bearer", "revoked access token rejected")
}

func TestMistakesOfTheCommandLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"-issuer", "https://as.example"},
		{"-issuer", "https://as.example", "-client-id", "x", "-login", "magic"},
		{"-issuer", "https://as.example", "-client-id", "x", "-steps", "everything"},
		{"-issuer", "https://as.example", "-client-id", "x", "-addr", "0.0.0.0:80"},
		{"-issuer", "https://as.example", "-client-id", "x", "-client-secret", "s"},
		{"-issuer", "https://as.example", "-client-id", "x", "-secret-file", "there is none"},
		{"-issuer", "https://as.example", "-client-id", "x", "-key-file", "main.go"},
	} {
		var out, err output
		p := &program{in: strings.NewReader(""), out: &out, err: &err, getenv: func(string) string { return "" }}
		if code := p.run(t.Context(), args); code != exitUsage || !strings.HasPrefix(err.String(), "probe: ") {
			t.Errorf("%v: exit code %d, %s", args, code, err.String())
		}
	}
}

func TestHelpListsTheSteps(t *testing.T) {
	t.Parallel()
	var out, err output
	p := &program{out: &out, err: &err}
	if code := p.run(t.Context(), []string{"-h"}); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, s := range measure.Steps() {
		if !strings.Contains(out.String(), s.Does) {
			t.Errorf("no word of %s", s.Name)
		}
	}
}
