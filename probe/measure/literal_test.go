package measure_test

import (
	"fmt"
	"go/format"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/authtriptest"
	"example.com/authtrip/login"
	"example.com/authtrip/probe/internal/site"
	"example.com/authtrip/probe/measure"
)

// pasted is a program around pasted settings: it logs in with its own hands, as BROWSER is the
// program itself, and calls the API.
const pasted = `package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

var (
	_ = os.Getenv
	_ = time.Second
)

func main() {
	if len(os.Args) > 1 { // as the browser
		resp, err := http.Get(os.Args[1])
		if err == nil {
			resp.Body.Close()
		}
		return
	}
	ctx := context.Background()
	client, src, api := settings()
	if os.Getenv("LOGIN") != "" {
		session, err := (&login.Loopback{Client: client}).Login(ctx)
		if err == nil {
			err = src.SetToken(ctx, session.Token)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	resp, err := api.Get(os.Getenv("API"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(resp.Status)
}

func settings() (*login.Client, *authtrip.Source, *http.Client) {
`

// program is the pasted program; each of the others is a function beside it, so that all are
// compiled.
func program(literal string, others []string) string {
	var b strings.Builder
	b.WriteString(pasted + literal + "return client, src, api\n}\n")
	for i, other := range others {
		fmt.Fprintf(&b, "\nfunc other%d() {\n%suse(provider, client, src, api)\n}\n", i, other)
	}
	b.WriteString("\nfunc use(...any) {}\n")
	return b.String()
}

// build compiles a program in a module of its own, as somebody's who pastes the settings.
func build(t *testing.T, source string) (binary string) {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("module example.com/authtrip/probe", "module reader.example/app", "=> ../", "=> "+root+"/").Replace(string(mod))
	for name, b := range map[string]string{"go.mod": text, "go.sum": string(sum), "main.go": source} {
		if err = os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary = filepath.Join(dir, "app")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, source)
	}
	return binary
}

// TestProbePasteRun is the way of somebody who begins: the probe's settings, pasted into a
// program, log a user in and call the API. Those of all other servers here compile.
func TestProbePasteRun(t *testing.T) {
	var others []string
	for _, c := range settings() {
		synctest.Test(t, func(t *testing.T) { others = append(others, run(t, c.site, nil).Literal()) })
	}
	others = append(others, odd()...)
	s := &site.Site{Server: &authtriptest.Server{Rotate: true}, Methods: []string{"client_secret_post"}}
	at := authtriptest.Start(t, s)
	s.Start(at.URL)
	p := &measure.Probe{
		Client: &login.Client{
			Provider: &login.Provider{Issuer: at.URL}, ID: site.ClientID, Secret: site.ClientSecret,
			RedirectURL: "http://127.0.0.1:9/callback", Scopes: []string{"openid", "offline_access"},
		},
		API:       at.URL + "/api",
		Authorize: site.Agent(http.DefaultTransport),
	}
	r, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	binary := build(t, program(r.Literal(), others))
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = append(os.Environ(), measure.SecretEnv+"="+site.ClientSecret, "API="+p.API, "LOGIN=yes", "BROWSER="+binary)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "200 OK\n") {
		t.Errorf("the pasted program: %v\n%s", err, out)
	}
}

// odd are settings of reports that no server here gives at once.
func odd() (all []string) {
	own := &measure.Report{Issuer: "https://as.example", ClientID: "a \"quoted\" client", Login: "client_credentials", Scopes: []string{"read", "write"}}
	own.Tokens.AccessSeconds = 3600
	own.Refresh.OldAccessDies = measure.Yes
	own.API = &measure.Replies{URL: "https://api.example/me", Blind: true, Expired: &measure.Reply{Status: 403}}
	device := &measure.Report{Issuer: "https://as.example", Login: "device_code"}
	device.Client.Works, device.Client.RawBasic = "client_secret_basic", true
	device.Client.Methods = []measure.MethodFact{{Method: "client_secret_post", Works: measure.No, Reply: "401\ninvalid_client"}}
	device.Refresh.Works = measure.No
	device.Clocks = []measure.Clock{{Host: "as.example", Ahead: -90}}
	return []string{own.Literal(), device.Literal(), new(measure.Report).Literal()}
}

// TestEachSettingHasItsReason: a setting that is not merely repeated says why.
func TestEachSettingHasItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: 10 * time.Second}, Ahead: time.Hour / 20}
		literal := run(t, s, nil).Literal()
		for _, name := range []string{"AuthMethod", "PushRequests", "ClockSkew", "GracePeriod", "Origins"} {
			if !regexp.MustCompile(`(?m)^\t` + name + `: .*, +// \S.*$`).MatchString(literal) {
				t.Errorf("%s is missing, or has no reason:\n%s", name, literal)
			}
		}
		if text, err := format.Source([]byte(literal)); err != nil || string(text) != literal {
			t.Errorf("it is not as gofmt has it: %v", err)
		}
		if strings.Contains(literal, site.ClientSecret) {
			t.Error("the secret is in the settings")
		}
	})
}

// TestREADMEShowsWhatIsPrinted: each line of its example is one that a run prints.
func TestREADMEShowsWhatIsPrinted(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```text\n")
	block, _, _ = strings.Cut(block, "```")
	synctest.Test(t, func(t *testing.T) {
		r := run(t, &site.Site{
			Server:  &authtriptest.Server{Rotate: true, ReuseGrace: 30 * time.Second, Lifetime: 10 * time.Minute},
			Methods: []string{"client_secret_post"}, Ahead: 90 * time.Second,
			Metadata: func(m map[string]any) { delete(m, "pushed_authorization_request_endpoint") },
		}, nil)
		var table strings.Builder
		if err := r.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		printed := make(map[string]bool)
		for line := range strings.Lines(table.String() + r.Literal()) {
			printed[folded(line)] = true
		}
		lines := 0
		for line := range strings.Lines(block) {
			if lines++; folded(line) != "" && !printed[folded(line)] {
				t.Errorf("no run prints %q", folded(line))
			}
		}
		if lines < 20 || t.Failed() {
			t.Errorf("%d lines; printed:\n%s\n%s", lines, table.String(), r.Literal())
		}
	})
}

// TestPromptOfTheLoginsIsInTheSettings: a refresh token came with prompt=consent, the pasted
// program said nothing of it, and got none.
func TestPromptOfTheLoginsIsInTheSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site.Site{Server: &authtriptest.Server{Rotate: true}}
		literal := run(t, s, func(p *measure.Probe) { p.Request = &login.AuthRequest{Prompt: "consent"} }).Literal()
		if !strings.Contains(literal, `login.AuthRequest{Prompt: "consent"}`) {
			t.Errorf("the prompt is missing:\n%s", literal)
		}
	})
}
