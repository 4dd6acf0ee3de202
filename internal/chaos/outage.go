package chaos

import (
	"testing"
	"time"
)

const (
	// patience is how long a session may take when all is well again: a span, a flight,
	// and the longest time between two attempts.
	patience = time.Minute
	// heirs is how many sessions a process takes over at a time.
	heirs = 100
)

// Recover lets processes take over all sessions, and returns when each of them has
// refreshed each of the sessions.
func (r *Run) Recover(tb testing.TB, processes int) {
	tb.Helper()
	r.mu.Lock()
	r.well, r.hurt = nil, nil
	r.mu.Unlock()
	children := r.everywhere(processes, heirs)
	for _, c := range children {
		r.watch(c)
	}
	r.finish(tb, children, time.Duration(r.Sessions/heirs+1)*patience)
}

// Outage lets processes share all sessions while something is wrong with the server for
// a while, and returns when each of them has refreshed each of the sessions after it.
func (r *Run) Outage(tb testing.TB, processes int, lasts time.Duration, begin, end func()) {
	tb.Helper()
	children := r.everywhere(processes, r.Sessions)
	<-time.After(time.Second)
	begin()
	<-time.After(lasts)
	end()
	for _, c := range children {
		r.watch(c)
	}
	r.finish(tb, children, patience)
}

// everywhere starts processes that share all sessions, and refresh so many at a time.
func (r *Run) everywhere(processes, atOnce int) []*child {
	sessions := make([]string, r.Sessions)
	for i := range sessions {
		sessions[i] = sessionName(i)
	}
	var children []*child
	for range processes {
		if c := r.start(sessions, atOnce, time.Second); c != nil {
			children = append(children, c)
		}
	}
	return children
}

// finish waits until each of the processes has refreshed each of its sessions, for so long
// at most, and ends them.
func (r *Run) finish(tb testing.TB, children []*child, most time.Duration) {
	tb.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for r.left(children) > 0 && time.Since(began) < most {
		<-tick.C
	}
	tb.Logf("all sessions are well after %v", time.Since(began).Round(time.Millisecond))
	for _, c := range children {
		r.mu.Lock()
		if n := len(c.hurt); n > 0 {
			tb.Errorf("process %d has no new token for %d sessions; it said last: %s", c.number, n, c.said)
		}
		r.mu.Unlock()
		before := time.Now()
		c.Kill()
		r.ledger.died(c.number, death{before, time.Now()})
		<-c.ended
	}
}

func (r *Run) left(children []*child) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range children {
		n += len(c.hurt)
	}
	return n
}
