//go:build unix

package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFilesAreForTheOwnerAlone: even where the user's files are open to everybody.
func TestFilesAreForTheOwnerAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, aMinute)
	cmd := r.command("login")
	cmd.Args = append([]string{"sh", "-c", `umask 0 && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("login: %v, %s", err, out)
	}
	files := 0
	err := filepath.WalkDir(filepath.Dir(r.dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if got := fi.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
	if err := os.Chmod(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	got := r.run("call", "/hello")
	if got.code != exitFailed || !strings.Contains(got.err, "chmod 700 "+r.dir) || strings.Count(got.err, "\n") != 1 {
		t.Errorf("an open directory: %+v, want a line that says how to close it", got)
	}
}

// TestInterrupt: a user who does not want to log in after all.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, waits string
		args        []string
	}{
		{"browser", "Open this page to log in:", []string{"login"}},
		{"device", "and type this code there:", []string{"login", "-device"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, aMinute)
			r.env["BROWSER"] = r.dir // which is no program
			cmd := r.command(tt.args...)
			stderr := start(t, cmd)
			lineAfter(t, stderr, tt.waits)
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(stderr)
			if code, err := exitCode(cmd.Wait()); err != nil || code != exitInterrupted || string(rest) != "cli: interrupted\n" {
				t.Errorf("exit code %d, %v, %q, want %d and one line", code, err, rest, exitInterrupted)
			}
			r.wantLoggedOut()
		})
	}
}

// TestInterruptWhileAnotherProcessRefreshes: this one waits for its turn, has sent
// nothing and can go.
func TestInterruptWhileAnotherProcessRefreshes(t *testing.T) {
	t.Parallel()
	r := newRig(t, aMinute)
	r.must("login")
	r.expire()
	a := r.account()
	release, err := a.store.Lease(t.Context(), a.key, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cmd := r.command("whoami")
	stderr := start(t, cmd)
	<-time.After(time.Second) // it is waiting
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(stderr)
	if code, err := exitCode(cmd.Wait()); err != nil || code != exitInterrupted || string(rest) != "cli: interrupted\n" {
		t.Errorf("exit code %d, %v, %q, want %d and one line", code, err, rest, exitInterrupted)
	}
	if err := release(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.must("call", "/hello")
}

// TestInterruptDuringARefresh: the refresh token is on its way, so that the process
// stays until the answer is stored, and says so.
func TestInterruptDuringARefresh(t *testing.T) {
	t.Parallel()
	r := newRig(t, aMinute)
	r.must("login")
	r.expire()
	r.provider.DelayTokens(4 * time.Second)
	before := r.provider.Stats().TokenRequests
	cmd := r.command("whoami")
	stderr := start(t, cmd)
	for r.provider.Stats().TokenRequests == before {
		<-time.After(10 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(stderr)
	code, err := exitCode(cmd.Wait())
	if err != nil || code != exitInterrupted || !strings.HasPrefix(string(rest), "cli: waiting for the end of a refresh") {
		t.Errorf("exit code %d, %v, %q, want %d and a line on the wait", code, err, rest, exitInterrupted)
	}
	r.must("call", "/hello")
	if s := r.provider.Stats(); s.TokenRequests != before+1 || s.RefreshTokensReused != 0 {
		t.Errorf("%d token requests, %d refresh tokens spent twice, want one request", s.TokenRequests-before, s.RefreshTokensReused)
	}
}
