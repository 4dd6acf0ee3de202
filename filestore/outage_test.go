//go:build chaos

package filestore_test

import (
	"os"
	"testing"
	"time"

	"example.com/authtrip/authtriptest"
	"example.com/authtrip/internal/chaos"
)

// outage is how long a token endpoint is away, and the RefreshTimeout of those who ask it.
func outage() (lasts, timeout time.Duration) {
	if os.Getenv("AUTHTRIP_KILLS") != "" {
		return 30 * time.Second, 10 * time.Second
	}
	return 6 * time.Second, time.Second
}

// wantAllToLive lets two processes share a hundred sessions during an outage.
func wantAllToLive(t *testing.T, srv *authtriptest.Server, r *chaos.Run, begin, end func()) {
	t.Helper()
	lasts, _ := outage()
	r.Outage(t, 2, lasts, begin, end)
	v := r.Judge(t)
	if c := srv.Counts(); v.Lost > 0 || v.Logins != r.Sessions || c.Reuses > 0 || c.FamiliesRevoked > 0 {
		t.Errorf("lost = %d, logins = %d of %d sessions, used twice = %d, want none lost", v.Lost, v.Logins, r.Sessions, c.Reuses)
	}
}

func newOutage(t *testing.T, srv *authtriptest.Server) *chaos.Run {
	t.Helper()
	_, timeout := outage()
	return newRun(t, srv, 100, chaos.Task{RefreshTimeout: timeout})
}

func TestSessionsOutliveAnEndpointThatAnswers503(t *testing.T) {
	srv := new(authtriptest.Server)
	wantAllToLive(t, srv, newOutage(t, srv), func() {
		srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Status: 503})
	}, func() { srv.Heal(authtriptest.TokenPath) })
}

func TestSessionsOutliveAnEndpointThatHangs(t *testing.T) {
	srv := new(authtriptest.Server)
	wantAllToLive(t, srv, newOutage(t, srv), func() {
		srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Hour})
	}, func() { srv.Heal(authtriptest.TokenPath) })
}

func TestSessionsOutliveAnEndpointThatSwallowsConnections(t *testing.T) {
	srv := new(authtriptest.Server)
	r := newOutage(t, srv)
	wantAllToLive(t, srv, r, r.Swallow, r.Answer)
}
