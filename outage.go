package authtrip

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A gate lets rounds through to the token endpoint. An outage is one fact for all
// sessions of a process: while the endpoint is down, one of them asks, backed off, and
// the others wait for its answer; when it is up again, they come in a ramp and not all
// at once. The zero value lets the first ones through.
type gate struct {
	mu     sync.Mutex // guards what follows
	inside int        // rounds that were let through and have not left
	limit  int        // how many may be inside; 0: not begun
	fails  int        // requests that failed since the last that did not
	limits int        // those that were answered with 429
	first  time.Time  // of these
	last   time.Time
	err    error     // of the last
	next   time.Time // while there is an outage: when the next may ask
	queue  []*place
}

const (
	// gateFirst is how many rounds may ask when nothing is known of the endpoint. Each
	// success lets one more in, up to gateMost.
	gateFirst = 32
	gateMost  = 1024
	// gateFails is how many requests have to fail in succession to make an outage.
	gateFails = 3
	// gateLimits is the same of answers of 429: a few may be for their users alone, and so
	// many without a success between them are for the client.
	gateLimits = 10
)

func (g *gate) down() bool { return g.fails >= gateFails || g.limits >= gateLimits }

// open reports whether a round that nobody waits for would be let through.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.free()
}

// mayEnter reports whether a round that somebody waits for would be let through, or has
// only to wait for its turn.
func (g *gate) mayEnter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.down() || !time.Now().Before(g.next)
}

// nextTry is when the next round may ask; zero if there is no outage.
func (g *gate) nextTry() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.down() {
		return time.Time{}
	}
	return g.next
}

func (g *gate) free() bool {
	if g.limit == 0 {
		g.limit = gateFirst
	}
	if g.down() {
		return g.inside == 0 && !time.Now().Before(g.next)
	}
	return g.inside < g.limit
}

// A place is one of those who wait for the gate, in turn.
type place struct {
	told chan struct{} // closed when its turn has come, or there is an outage
	ok   bool          // it was let through
}

// enter lets a round through, which then calls leave. One that somebody waits for is let
// through in its turn, or ctx ends. During an outage enter returns the error of the last
// attempt, and when the next is due. ok is false where a round that nobody waits for is
// not let through.
func (g *gate) enter(ctx context.Context, waits bool) (ok bool, next time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		switch {
		case g.free():
			g.inside++
			return true, time.Time{}, nil
		case g.down() && time.Now().Before(g.next):
			return false, g.next, g.err
		case !waits:
			return false, time.Time{}, nil
		}
		mine := &place{told: make(chan struct{})}
		g.queue = append(g.queue, mine)
		g.mu.Unlock()
		select {
		case <-mine.told:
		case <-ctx.Done():
		}
		g.mu.Lock()
		switch {
		case mine.ok:
			return true, time.Time{}, nil
		case ctx.Err() != nil:
			g.queue = slices.DeleteFunc(g.queue, func(p *place) bool { return p == mine })
			return false, time.Time{}, context.Cause(ctx)
		}
	}
}

// call lets those through whose turn it is, and tells all of an outage.
func (g *gate) call() {
	for len(g.queue) > 0 {
		first := g.queue[0]
		switch {
		case g.free():
			g.inside++
			first.ok = true
		case !g.down() || !time.Now().Before(g.next):
			return
		}
		close(first.told)
		g.queue = g.queue[1:]
	}
	g.queue = nil
}

// answered takes what became of a request.
func (g *gate) answered(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		if g.down() {
			g.limit = 1 // the ramp begins
		}
		g.fails, g.limits, g.err, g.next = 0, 0, nil, time.Time{}
		g.limit = min(g.limit+1, gateMost)
	case endpointDown(err):
		g.failed(err, now)
	}
}

// failed counts a request that failed. What a 429 asks for counts only once there are so
// many that it is meant for all.
func (g *gate) failed(err error, now time.Time) {
	if g.fails+g.limits == 0 || now.Sub(later(g.last, g.next)) >= quietTime {
		g.fails, g.limits, g.first = 0, 0, now
	}
	g.last = now
	re, ok := errors.AsType[*RefreshError](err)
	if ok && re.StatusCode == http.StatusTooManyRequests {
		g.limits++
		if !g.down() {
			return
		}
	} else {
		g.fails++
	}
	row := max(g.fails-gateFails, g.limits-gateLimits) + 1
	g.err = everybodys(err)
	next := now.Add(outagePause(row, now.Sub(g.first)))
	if ok {
		next = later(next, now.Add(re.RetryAfter))
	}
	g.next = later(g.next, next)
}

// leave is called once for each enter that let a round through.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && !g.down() && len(g.queue) == 0 { // or it is a ramp
		g.limit = max(gateFirst, g.limit/2)
	}
	g.call()
}

// everybodys is what sessions may be told of a failure that was another one's.
func everybodys(err error) error {
	re, ok := errors.AsType[*RefreshError](err)
	if !ok {
		return err
	}
	own := *re
	own.Description = "" // it may name a user
	return &own
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// endpointDown reports whether a failure is the token endpoint's, and as such would be every
// session's: it is down, has had enough of this client, or does not know it.
func endpointDown(err error) bool {
	re, ok := errors.AsType[*RefreshError](err)
	if !ok || errors.Is(err, ErrReauthRequired) {
		return false
	}
	switch re.Code {
	case "invalid_client", "unauthorized_client", "temporarily_unavailable":
		return true
	}
	return re.noAnswer || re.StatusCode == http.StatusTooManyRequests || re.StatusCode >= 500
}
