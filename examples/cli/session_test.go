package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/session.txt")

// normalised takes out of a session what is another one each time.
func normalised(s string) string {
	for _, r := range []struct{ pattern, with string }{
		{`127\.0\.0\.1:\d+`, "127.0.0.1:PORT"},
		{`authorize\?\S+`, "authorize?..."},
		{`duration=\S+`, "duration=..."},
	} {
		s = regexp.MustCompile(r.pattern).ReplaceAllString(s, r.with)
	}
	return s
}

func wantSession(t *testing.T, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", "session.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if got = normalised(got); got != string(want) {
		t.Errorf("the session is\n%s\nwant testdata/session.txt (go test ./cli -update writes it)\n%s", got, want)
	}
}

// TestTerminalSession is a user's day, each line a process of its own: log in,
// call the API, call it again when the token has ended, log out.
func TestTerminalSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, demoLifetime)
	var terminal bytes.Buffer
	for _, s := range session() {
		fmt.Fprintln(&terminal, s)
		if s.sleep > 0 {
			<-time.After(s.sleep)
			continue
		}
		cmd := r.command(s.args...)
		cmd.Stdout, cmd.Stderr = &terminal, &terminal
		if code, err := exitCode(cmd.Run()); err != nil || code != s.code {
			t.Errorf("%s: exit code %d, %v, want %d", s, code, err, s.code)
		}
	}
	if *update {
		if err := os.WriteFile(filepath.Join("testdata", "session.txt"), []byte(normalised(terminal.String())), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wantSession(t, terminal.String())
	if n := r.provider.Stats().RefreshTokensReused; n != 0 {
		t.Errorf("%d refresh tokens were spent twice", n)
	}
}

// TestDemo: whoever starts the program without knowing anything sees the same.
func TestDemo(t *testing.T) {
	t.Parallel()
	r := newRig(t, time.Minute)
	r.env["AUTHTRIP_ISSUER"], r.env["BROWSER"] = "", ""
	got := r.run()
	if got.code != exitOK {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
	wantSession(t, got.out)
	if stats := r.provider.Stats(); stats.TokenRequests != 0 {
		t.Errorf("the demo used somebody else's provider: %+v", stats)
	}
}
