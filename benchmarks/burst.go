package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// tokenDelay is how long the token endpoint takes in these scenarios.
const tokenDelay = 100 * time.Millisecond

// A burst is what many requests at once came to.
type burst struct {
	requests int            // token requests
	statuses map[string]int // what the callers got: a status, or "error"
	last     time.Duration  // until the last caller was done
	lone     time.Duration  // the same of a caller who is alone
}

// gathered are callers that have each made a request and have another one in hand,
// so that what it takes to start a goroutine and to make a request is not measured.
type gathered struct {
	gate     chan struct{}
	done     sync.WaitGroup
	statuses []int // by caller; 0 is an error
}

// gather returns n callers.
func gather(rt http.RoundTripper, n int) *gathered {
	g := &gathered{gate: make(chan struct{}), statuses: make([]int, n)}
	var ready sync.WaitGroup
	ready.Add(n)
	for i := range n {
		g.done.Go(func() {
			_, _ = call(context.Background(), rt, stubURL)
			req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, stubURL, nil)
			ready.Done()
			<-g.gate
			if err == nil {
				g.statuses[i], _ = send(rt, req)
			}
		})
	}
	ready.Wait()
	return g
}

// rush lets them send their requests, all at once.
func (g *gathered) rush() burst {
	start := time.Now()
	close(g.gate)
	g.done.Wait()
	b := burst{last: time.Since(start), statuses: make(map[string]int)}
	for _, status := range g.statuses {
		what := strconv.Itoa(status)
		if status == 0 {
			what = "error"
		}
		b.statuses[what]++
	}
	return b
}

// counted does f while tokens take that long, and counts the requests for them.
func counted(at *tokens, delay time.Duration, f func() burst) (burst, error) {
	before, err := at.set(order{Lifetime: 3600, Delay: delay})
	if err != nil {
		return burst{}, err
	}
	b := f()
	after, err := at.set(order{Lifetime: 3600})
	b.requests = after - before
	return b, err
}

// stampede is n requests at the moment when the token has expired, for each peer.
func stampede(w *world, at *tokens, all []Peer, n int) ([]burst, error) {
	if _, err := at.set(order{Lifetime: 1}); err != nil {
		return nil, err
	}
	crowds := make([]*gathered, len(all))
	alone := make([]*gathered, len(all))
	for i, p := range all {
		for _, to := range []struct {
			callers []*gathered
			n       int
		}{{alone, 1}, {crowds, n}} {
			rt, err := p.Wrap(User{Base: w, Endpoint: at.endpoint})
			if err != nil {
				return nil, err
			}
			if err := mustCall(p, rt, stubURL); err != nil {
				return nil, err
			}
			to.callers[i] = gather(rt, to.n)
		}
	}
	if err := pause(context.Background(), 1100*time.Millisecond); err != nil {
		return nil, err
	}
	bursts := make([]burst, len(all))
	for i := range all {
		lone, err := counted(at, tokenDelay, alone[i].rush)
		if err != nil {
			return nil, err
		}
		bursts[i], err = counted(at, tokenDelay, crowds[i].rush)
		if err != nil {
			return nil, err
		}
		bursts[i].lone = lone.last
	}
	return bursts, nil
}

// storm is n requests in flight when their token is revoked, all of them refused.
func storm(w *world, at *tokens, p Peer, n int) (burst, error) {
	if _, err := at.set(order{Lifetime: 3600}); err != nil {
		return burst{}, err
	}
	one := func(n int) (burst, error) {
		rt, err := p.Wrap(User{Base: w, Endpoint: at.endpoint})
		if err != nil {
			return burst{}, err
		}
		if err := mustCall(p, rt, stubURL); err != nil {
			return burst{}, err
		}
		all := gather(rt, n)
		start := holdUntil(w, n, w.revoke)
		defer w.hold.Store(nil)
		return counted(at, tokenDelay, func() burst {
			b := all.rush()
			b.last = time.Since(start())
			return b
		})
	}
	lone, err := one(1)
	if err != nil {
		return burst{}, err
	}
	b, err := one(n)
	b.lone = lone.last
	return b, err
}

// holdUntil makes the API hold requests until there are n; then it calls then, and
// lets them and all that follow pass. start returns when that was.
func holdUntil(w *world, n int, then func()) (start func() time.Time) {
	var arrived atomic.Int64
	var at atomic.Pointer[time.Time]
	gate := make(chan struct{})
	hold := func(*http.Request) {
		switch k := arrived.Add(1); {
		case k > int64(n):
			return
		case k == int64(n):
			then()
			now := time.Now()
			at.Store(&now)
			close(gate)
		}
		<-gate
	}
	w.hold.Store(&hold)
	return func() time.Time { return *at.Load() }
}

// late is n requests that are refused after their token has been replaced because
// of another one. It counts the token requests after that, and returns an error if
// the peer never replaces a token that is refused.
func late(w *world, at *tokens, p Peer, n int) (burst, error) {
	if _, err := at.set(order{Lifetime: 3600}); err != nil {
		return burst{}, err
	}
	rt, err := p.Wrap(User{Base: w, Endpoint: at.endpoint})
	if err != nil {
		return burst{}, err
	}
	if err = mustCall(p, rt, stubURL); err != nil {
		return burst{}, err
	}
	all := gather(rt, n)
	held, gate := make(chan struct{}), make(chan struct{})
	var arrived atomic.Int64
	hold := func(*http.Request) {
		k := arrived.Add(1)
		if k == int64(n) {
			close(held)
		}
		if k <= int64(n) {
			<-gate
		}
	}
	w.hold.Store(&hold)
	defer w.hold.Store(nil)
	result := make(chan burst, 1)
	go func() { result <- all.rush() }()
	<-held
	w.revoke()
	replaced := false
	for range 2 { // some only notice at the request after the refused one
		status, failed := call(context.Background(), rt, stubURL)
		replaced = replaced || failed == nil && status == http.StatusOK
	}
	b, err := counted(at, 0, func() burst {
		close(gate)
		b := <-result
		// What a late refusal did to the new token shows at the next request.
		_, _ = call(context.Background(), rt, stubURL)
		return b
	})
	if err != nil {
		return burst{}, err
	}
	if !replaced {
		return b, errNeverReplaced
	}
	return b, nil
}

var errNeverReplaced = errors.New("a rejected token is never replaced")

// bursts are stampede, storm and late 401s.
func bursts(s scale) ([]row, error) {
	w := newWorld()
	defer w.close()
	at, err := startTokens()
	if err != nil {
		return nil, err
	}
	defer func() { _ = at.process.end() }()
	all := append([]Peer{channelPeer{}}, libraries()...)
	n, reps := of(s, 1000, 20), of(s, 15, 1)
	stampedes := make([][]burst, len(all))
	storms := make([][]burst, len(all))
	for range reps {
		got, err := stampede(w, at, all, n)
		if err != nil {
			return nil, err
		}
		for i, p := range all {
			stampedes[i] = append(stampedes[i], got[i])
			if _, isFloor := p.(channelPeer); isFloor {
				continue
			}
			b, err := storm(w, at, p, n)
			if err != nil {
				return nil, err
			}
			storms[i] = append(storms[i], b)
		}
	}
	count := number(float64(n))
	rows := burstRows("Stampede: "+count+" requests at an expired token", all, stampedes)
	rows = append(rows, burstRows("Storm: "+count+" requests in flight are rejected", all[1:], storms[1:])...)
	m := n / 10
	lates := newRow("Late 401s: " + number(float64(m)) + " requests are rejected after the token was replaced: further token requests; outcome")
	for _, p := range all[1:] {
		b, err := late(w, at, p, m)
		switch {
		case errors.Is(err, errNeverReplaced):
			lates.set(p.Name(), err.Error())
		case err != nil:
			return nil, err
		default:
			lates.set(p.Name(), strconv.Itoa(b.requests)+"; "+tally(b.statuses))
		}
	}
	return append(rows, lates), nil
}

// burstRows writes the medians.
func burstRows(title string, all []Peer, results [][]burst) []row {
	requests, outcome, last := newRow(title+": token requests"), newRow("… outcome"), newRow("… last caller done (× a lone caller)")
	for i, p := range all {
		var counts, times, slow []float64
		for _, b := range results[i] {
			counts = append(counts, float64(b.requests))
			times = append(times, float64(b.last))
			slow = append(slow, float64(b.last)/float64(b.lone))
		}
		requests.set(p.Name(), number(median(counts)))
		final := results[i][len(results[i])-1]
		outcome.set(p.Name(), tally(final.statuses))
		if final.statuses["200"] > 0 {
			last.set(p.Name(), measured{median(times), median(slow)}.String())
		} else {
			last.set(p.Name(), "nobody was served")
		}
	}
	return []row{requests, outcome, last}
}
