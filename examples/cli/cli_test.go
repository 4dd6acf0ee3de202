package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// TestMain is three programs: the tests; the program itself, which they start as a
// process; and the browser that it opens.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 2 && strings.HasPrefix(os.Args[1], "http://"):
		if err := person(context.Background(), os.Args[1]); err != nil {
			panic(err)
		}
	case os.Getenv("AUTHTRIP_TEST") == "cli":
		main()
	default:
		slog.SetDefault(slog.New(slog.DiscardHandler)) // where the provider's library logs
		os.Exit(m.Run())
	}
}

// A rig is a provider, an API, and a directory in which the program keeps its
// login. The directory is not there yet.
type rig struct {
	*testing.T
	*world
	dir string
	env map[string]string
}

func newRig(t *testing.T, lifetime time.Duration) *rig {
	t.Helper()
	w, err := newWorld(lifetime)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() }) // some tests have closed it
	r := &rig{T: t, world: w, dir: filepath.Join(t.TempDir(), "config", "cli")}
	r.env = w.environment(r.dir)
	r.env["AUTHTRIP_CLIENT_ID"], r.env["AUTHTRIP_TEST"] = "", "cli"
	r.env["GORACE"] = "atexit_sleep_ms=0" // the race detector makes each process a second longer
	if r.env["BROWSER"], err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	return r
}

// command returns a process of the program, which is not started yet.
func (r *rig) command(args ...string) *exec.Cmd {
	r.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	cmd := exec.CommandContext(r.Context(), exe, args...)
	cmd.Env = os.Environ()
	for name, value := range r.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// A result is what a process has left behind.
type result struct {
	out, err string
	code     int
}

func (r *rig) run(args ...string) result {
	r.Helper()
	return r.runWith(nil, args...)
}

func (r *rig) runWith(stdin io.Reader, args ...string) result {
	r.Helper()
	cmd := r.command(args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &stderr
	code, err := exitCode(cmd.Run())
	if err != nil {
		r.Fatal(err)
	}
	return result{out.String(), stderr.String(), code}
}

// exitCode returns the exit code in what Run or Wait returned.
func exitCode(err error) (int, error) {
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.Exited() {
		return e.ExitCode(), nil
	}
	return 0, err
}

// must runs a command line that has to work, and returns what it prints.
func (r *rig) must(args ...string) string {
	r.Helper()
	got := r.run(args...)
	if got.code != exitOK {
		r.Fatalf("cli %s: exit code %d, %s", strings.Join(args, " "), got.code, got.err)
	}
	return got.out
}

// want runs a command line and compares what it says, if it prints nothing else.
func (r *rig) want(code int, line string, args ...string) {
	r.Helper()
	want := result{err: line + "\n", code: code}
	if got := r.run(args...); got != want {
		r.Errorf("cli %s\ngot  %+v\nwant %+v", strings.Join(args, " "), got, want)
	}
}

func (r *rig) wantLoggedOut() {
	r.Helper()
	for _, args := range [][]string{{"whoami"}, {"call", "/hello"}} {
		r.want(exitLogin, "cli: not logged in: run `cli login`", args...)
	}
}

// account is that of the program, as a neighbour in another process.
func (r *rig) account() *account {
	r.Helper()
	p := &program{err: io.Discard, getenv: func(name string) string { return r.env[name] }}
	a, err := p.account(p.environment())
	if err != nil {
		r.Fatal(err)
	}
	return a
}

// token returns the token that is kept. It has not ended yet.
func (r *rig) token() *oauth2.Token {
	r.Helper()
	src := r.account().source()
	src.EarlyRefresh = -1
	defer func() { _ = src.Close() }()
	tok, err := src.TokenContext(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return tok
}

// expire makes the token that is kept one that has ended.
func (r *rig) expire() {
	r.Helper()
	tok := *r.token()
	tok.Expiry = time.Now().Add(-time.Minute)
	src := r.account().source()
	defer func() { _ = src.Close() }()
	if err := src.SetToken(r.Context(), &tok); err != nil {
		r.Fatal(err)
	}
}

// revoke ends a token at the provider, behind the program's back.
func (r *rig) revoke(tok *oauth2.Token) {
	r.Helper()
	if err := r.account().client.Revoke(r.Context(), tok); err != nil {
		r.Fatal(err)
	}
}

// revokeAccess ends the access token, and not the login.
func (r *rig) revokeAccess() {
	r.Helper()
	r.revoke(&oauth2.Token{AccessToken: r.token().AccessToken})
}

// kept returns the content of all files.
func (r *rig) kept() string {
	r.Helper()
	var all strings.Builder
	err := filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s: %s\n", d.Name(), b)
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	return all.String()
}
