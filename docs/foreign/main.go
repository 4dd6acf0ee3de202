// Foreign, this command, runs the tests that other projects have written for themselves
// against a Transport: those of golang.org/x/oauth2 (its Transport, sources and client
// credentials) from the module cache, and those of net/http (client, transport, and both
// with a server, over HTTP/1.1 and HTTP/2) from GOROOT.
//
//	go run ./docs/foreign [-keep]
//
// Nothing of them is in this repository. They are copied into a temporary module, and
// adapted there: the x/oauth2 tests are compiled against the declarations in shim, and
// in those of net/http every client gets a Transport in front of its own. A test that
// needs the inside of its package is left out, as it does not compile.
//
// Which tests fail is held against differences.txt, which says why each of them does.
package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed differences.txt
var differences string

func main() {
	keep := flag.Bool("keep", false, "keep the temporary module, and say where it is")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *keep); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, keep bool) error {
	dir, err := os.MkdirTemp("", "foreign")
	if err != nil {
		return err
	}
	if keep {
		fmt.Fprintln(w, dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	if err = lay(ctx, dir); err != nil {
		return err
	}
	left := 0
	for _, pkg := range []string{"oauth2", "clientcredentials", "nethttp"} {
		n, failed := compile(ctx, filepath.Join(dir, pkg))
		if failed != nil {
			return failed
		}
		left += n
	}
	got, err := test(ctx, dir, ".")
	if err != nil {
		return err
	}
	// Some of these tests are in a hurry, and a busy machine is not: who fails is asked again.
	if again := unexpected(got); len(again) > 0 {
		second, failed := test(ctx, dir, "^("+strings.Join(again, "|")+")$")
		if failed != nil {
			return failed
		}
		maps.Copy(got, second)
	}
	fmt.Fprintf(w, "%d tests of x/oauth2 and net/http ran, %d need the inside of their package and were left out\n", len(got), left)
	return compare(w, got)
}

// lay makes the temporary module.
func lay(ctx context.Context, dir string) error {
	root, err := output(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	oauth2, err := output(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/oauth2")
	if err != nil {
		return err
	}
	goroot, err := output(ctx, ".", "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	module := regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(string(mod), "module foreign")
	module += "\nrequire example.com/authtrip v0.0.0\nreplace example.com/authtrip => " + root + "\n"
	files := map[string][]byte{"go.mod": []byte(module)}
	for from, to := range map[string]string{
		root + "/go.sum":                                        "go.sum",
		oauth2 + "/transport_test.go":                           "oauth2/transport_test.go",
		oauth2 + "/oauth2_test.go":                              "oauth2/oauth2_test.go",
		oauth2 + "/token_test.go":                               "oauth2/token_test.go",
		root + "/docs/foreign/shim/oauth2.txt":                  "oauth2/shim.go",
		oauth2 + "/clientcredentials/clientcredentials_test.go": "clientcredentials/clientcredentials_test.go",
		root + "/docs/foreign/shim/clientcredentials.txt":       "clientcredentials/shim.go",
		root + "/docs/foreign/shim/testenv.txt":                 "testenv/testenv.go",
		root + "/docs/foreign/shim/nethttp.txt":                 "nethttp/shim_test.go",
		goroot + "/src/net/http/async_test.go":                  "nethttp/async_test.go",
		goroot + "/src/net/http/client_test.go":                 "nethttp/client_test.go",
		goroot + "/src/net/http/clientserver_test.go":           "nethttp/clientserver_test.go",
		goroot + "/src/net/http/netconn_test.go":                "nethttp/netconn_test.go",
		goroot + "/src/net/http/transport_test.go":              "nethttp/transport_test.go",
		goroot + "/src/net/http/internal/testcert/testcert.go":  "testcert/testcert.go",
	} {
		b, err := os.ReadFile(filepath.FromSlash(from))
		if err != nil {
			return err
		}
		if strings.HasPrefix(to, "nethttp/") && to != "nethttp/shim_test.go" {
			if b, err = adapt(b); err != nil {
				return err
			}
		}
		files[to] = b
	}
	for name, b := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// output runs a command and returns its first line.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	b, err := cmd.Output()
	line, _, _ := strings.Cut(string(b), "\n")
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return line, nil
}

// goCommand runs the go command in the temporary module.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	return cmd.CombinedOutput()
}

// compile takes away, until the rest compiles, what does not, and returns how many tests
// went.
func compile(ctx context.Context, dir string) (left int, err error) {
	for range 20 {
		out, err := goCommand(ctx, dir, "test", "-c", "-o", os.DevNull, "-vet=off", "-gcflags=-e", ".")
		if err == nil {
			return left, nil
		}
		n, err := prune(dir, string(out))
		if err != nil {
			return 0, fmt.Errorf("%w:\n%s", err, out)
		}
		left += n
	}
	return 0, fmt.Errorf("the tests in %s do not compile", filepath.Base(dir))
}

// test runs the tests that match, and returns the outcome of each.
func test(ctx context.Context, dir, pattern string) (map[string]string, error) {
	out, err := goCommand(ctx, dir, "test", "-json", "-vet=off", "-timeout=5m", "-count=1", "-run", pattern, "./...")
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return nil, err
	}
	got := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	var last string
	for lines.Scan() {
		var e struct{ Action, Package, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			last += lines.Text() + "\n"
			continue
		}
		if e.Test == "" {
			last += e.Output
			continue
		}
		top, _, _ := strings.Cut(e.Test, "/")
		name := strings.TrimPrefix(e.Package, "foreign/") + " " + top
		switch e.Action {
		case "pass", "skip":
			if got[name] == "" {
				got[name] = e.Action
			}
		case "fail":
			got[name] = "fail"
		case "run":
			if e.Test == top {
				got[name] = ""
			}
		}
	}
	if len(got) == 0 {
		return nil, fmt.Errorf("no test ran:\n%s", last)
	}
	return got, nil
}

// expected are the tests of differences.txt. The value is false for those that may pass as
// well, which have a "?" in front.
func expected() map[string]bool {
	all := make(map[string]bool)
	for line := range strings.Lines(differences) {
		if name, _, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
			plain, may := strings.CutPrefix(name, "? ")
			all[plain] = !may
		}
	}
	return all
}

// passed reports whether an outcome is that of a test that has come to its end.
func passed(outcome string) bool { return outcome == "pass" || outcome == "skip" }

// unexpected returns the names of the tests that should not have failed.
func unexpected(got map[string]string) []string {
	known := expected()
	var names []string
	for name, outcome := range got {
		if _, ok := known[name]; !ok && !passed(outcome) {
			_, test, _ := strings.Cut(name, " ")
			names = append(names, test)
		}
	}
	return names
}

// compare holds the tests that fail against differences.txt.
func compare(w io.Writer, got map[string]string) error {
	known := expected()
	var wrong []string
	failed := 0
	for name, outcome := range got {
		must, ok := known[name]
		switch {
		case !passed(outcome) && !ok:
			wrong = append(wrong, name+" fails, and differences.txt does not say why")
		case passed(outcome) && must:
			wrong = append(wrong, name+" does not fail, though differences.txt says so")
		case !passed(outcome):
			failed++
		}
		delete(known, name)
	}
	for name := range known {
		wrong = append(wrong, name+" did not run, though differences.txt names it")
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return errors.New(strings.Join(wrong, "\n"))
	}
	fmt.Fprintf(w, "%d pass; %d fail on purpose, for the reasons in docs/foreign/differences.txt\n", len(got)-failed, failed)
	return nil
}
