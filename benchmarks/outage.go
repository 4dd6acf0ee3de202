package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

const callers = 50

// A siege is what callers came to who try again and again while there is no token.
type siege struct {
	requests  int           // token requests while the endpoint failed
	failed    int           // calls that failed meanwhile
	recovered time.Duration // until every caller was served, after the end of the failure; 0: not within the limit
}

// besiege makes callers call, each with a pause of ten milliseconds between two of
// its calls, for as long as the endpoint fails and then until each is served, but
// no longer than limit.
func besiege(w *world, rt http.RoundTripper, fails, limit time.Duration) siege {
	var s siege
	var failed, waiting atomic.Int64
	var healed atomic.Pointer[time.Time]
	ctx, cancel := context.WithTimeout(context.Background(), fails+limit)
	defer cancel()
	before := w.requests.Load()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = pause(context.Background(), fails)
		s.requests, s.failed = int(w.requests.Load()-before), int(failed.Load())
		now := time.Now()
		healed.Store(&now)
		w.heal()
	}()
	crowd(callers, func(int) {
		for {
			status, err := call(ctx, rt, stubURL)
			if err == nil && status == http.StatusOK {
				return
			}
			failed.Add(1)
			if pause(ctx, 10*time.Millisecond) != nil {
				waiting.Add(1)
				return
			}
		}
	})
	<-done
	if waiting.Load() == 0 {
		s.recovered = time.Since(*healed.Load())
	}
	return s
}

// A hang is what callers came to whose token request is never answered.
type hang struct {
	stuck int           // not back long after their deadline
	late  time.Duration // how much after its deadline the last of the others was back
}

// hangUp makes callers wait for a token that does not come. The first, which is
// the one that asks, gives up before the others.
func hangUp(rt http.RoundTripper, grace time.Duration) hang {
	results := make(chan time.Duration, callers) // how late each was back
	one := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		start := time.Now()
		_, _ = call(ctx, rt, stubURL)
		results <- time.Since(start) - d
	}
	go one(100 * time.Millisecond)
	_ = pause(context.Background(), 20*time.Millisecond)
	for range callers - 1 {
		go one(300 * time.Millisecond)
	}
	timeout := time.NewTimer(300*time.Millisecond + grace)
	defer timeout.Stop()
	h := hang{stuck: callers}
	for h.stuck > 0 {
		select {
		case late := <-results:
			h.stuck--
			h.late = max(h.late, late)
		case <-timeout.C:
			return h
		}
	}
	return h
}

// outage is a token endpoint that fails in several ways.
func outage(s scale) ([]row, error) {
	fails, limit := of(s, 2*time.Second, 300*time.Millisecond), of(s, 10*time.Second, 5*time.Second)
	sieges := []struct {
		title   string
		refresh string // a refresh token, where the grant is that of a user
		begin   func(w *world)
		final   bool // nothing is to recover
	}{
		{title: "answers 503", begin: func(w *world) { w.answer(http.StatusServiceUnavailable, "", nil) }},
		{title: "answers 429 with Retry-After: 2", begin: func(w *world) {
			w.answer(http.StatusTooManyRequests, "", http.Header{"Retry-After": {"2"}})
		}},
		{title: "answers invalid_grant", refresh: "refresh", final: true, begin: func(w *world) {
			w.answer(http.StatusBadRequest, "invalid_grant", nil)
		}},
	}
	var rows []row
	for _, sg := range sieges {
		requests := newRow(fmt.Sprintf("Token endpoint %s for %s, %d callers: token requests; failed calls", sg.title, span(float64(fails)), callers))
		recovered := newRow("… every caller served after its recovery")
		for _, p := range libraries() {
			var counts, failed, after []float64
			for range of(s, 3, 1) {
				got, err := sieged(p, sg.refresh, sg.begin, fails, limit, sg.final)
				if err != nil {
					return nil, err
				}
				counts, failed = append(counts, float64(got.requests)), append(failed, float64(got.failed))
				after = append(after, float64(got.recovered))
			}
			requests.set(p.Name(), number(median(counts))+"; "+number(median(failed)))
			recovered.set(p.Name(), span(median(after)))
			if median(after) == 0 {
				recovered.set(p.Name(), "not within "+span(float64(limit)))
			}
		}
		rows = append(rows, requests)
		if !sg.final {
			rows = append(rows, recovered)
		}
	}
	hangs, err := hangRow(s)
	return append(rows, hangs), err
}

func sieged(p Peer, refresh string, begin func(*world), fails, limit time.Duration, final bool) (siege, error) {
	w := newWorld()
	defer w.close()
	begin(w)
	endpoint := w.endpoint()
	endpoint.RefreshToken = refresh
	rt, err := p.Wrap(User{Base: w, Endpoint: endpoint})
	if err != nil {
		return siege{}, err
	}
	if final {
		limit = 0
	}
	return besiege(w, rt, fails, limit), nil
}

func hangRow(s scale) (row, error) {
	grace := of(s, 2*time.Second, 300*time.Millisecond)
	r := newRow("Token endpoint hangs, " + strconv.Itoa(callers) + " callers with deadlines: the last one is back after its own deadline by")
	for _, p := range libraries() {
		h, err := hung(p, grace)
		if err != nil {
			return row{}, err
		}
		r.set(p.Name(), span(float64(max(h.late, 0))))
		if h.stuck > 0 {
			r.set(p.Name(), fmt.Sprintf("%d were not back %s later", h.stuck, span(float64(grace))))
		}
	}
	return r, nil
}

func hung(p Peer, grace time.Duration) (hang, error) {
	w := newWorld()
	defer w.close()
	w.hang()
	rt, err := p.Wrap(User{Base: w, Endpoint: w.endpoint()})
	if err != nil {
		return hang{}, err
	}
	return hangUp(rt, grace), nil
}
