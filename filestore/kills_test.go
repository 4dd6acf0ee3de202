//go:build chaos

package filestore_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/internal/chaos"
)

// This file has the tests in which processes that refresh tokens are killed: they take
// minutes, and a machine that has nothing else to do. make chaos runs them.

// kills is how many processes are killed at each kind of server.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("AUTHTRIP_KILLS")); err == nil {
		return n / 4 // two stores, with two kinds of server
	}
	return 50
}

func newRun(t *testing.T, srv *authtriptest.Server, sessions int, task chaos.Task) *chaos.Run {
	t.Helper()
	t.Parallel()
	srv.Rotate, srv.Lifetime = true, time.Second
	s := newStore(t)
	task.Store, task.GracePeriod = s.Dir, srv.ReuseGrace
	r := &chaos.Run{Server: srv, Task: task, Open: sources, Over: authtrip.ErrReauthRequired, Load: s.Load, Sessions: sessions}
	r.Begin(t)
	return r
}

// TestKilledProcessesUseNoRefreshTokenTwice: and a session is lost only if its process
// was killed between the server's answer and the save.
func TestKilledProcessesUseNoRefreshTokenTwice(t *testing.T) {
	r := newRun(t, new(authtriptest.Server), min(60+kills()/5, 500), chaos.Task{RefreshTimeout: 200 * time.Millisecond})
	r.Kill(kills(), 5, 3)
	r.Recover(t, 3)
	if v := r.Judge(t); v.Again == 0 {
		t.Error("nobody was killed between the server's answer and the save")
	}
}

// TestGracePeriodOutlivesKills: where the server takes a used refresh token once more, no
// session is lost that is taken over within that time.
func TestGracePeriodOutlivesKills(t *testing.T) {
	r := newRun(t, &authtriptest.Server{ReuseGrace: time.Minute}, min(60+kills()/5, 500), chaos.Task{RefreshTimeout: 200 * time.Millisecond})
	r.Kill(kills(), 5, 3)
	r.Recover(t, 3)
	if v := r.Judge(t); v.InGrace > 0 || v.Again == 0 {
		t.Errorf("lost within the grace = %d, used again = %d, want 0 and some", v.InGrace, v.Again)
	}
}
