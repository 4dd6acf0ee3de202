package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A load is what a stream of requests came to.
type load struct {
	latencies []float64      // in nanoseconds
	failures  map[string]int // by status, or "error"
	requests  int            // token requests
}

const (
	workers  = 16
	interval = 10 * time.Millisecond // between the starts of a worker's requests
)

// stream sends requests from workers for as long as d. A request that waits delays
// the next ones of its worker only, which are then fewer.
func stream(rt http.RoundTripper, url string, d time.Duration) load {
	var mu sync.Mutex // guards l
	l := load{failures: make(map[string]int)}
	crowd(workers, func(i int) {
		var mine []float64
		failed := make(map[string]int)
		start := time.Now()
		next := start.Add(time.Duration(i) * interval / workers)
		for ; time.Since(start) < d; next = next.Add(interval) {
			if now := time.Now(); next.Before(now) {
				next = now
			}
			_ = pause(context.Background(), time.Until(next))
			sent := time.Now()
			status, err := call(context.Background(), rt, url)
			mine = append(mine, float64(time.Since(sent)))
			if err != nil {
				failed["error"]++
			} else if status != http.StatusOK {
				failed[strconv.Itoa(status)]++
			}
		}
		mu.Lock()
		defer mu.Unlock()
		l.latencies = append(l.latencies, mine...)
		for k, n := range failed {
			l.failures[k] += n
		}
	})
	return l
}

// steadyRun is a stream over tokens of that lifetime, in seconds.
func steadyRun(w *world, p Peer, margin time.Duration, lifetime int64, d time.Duration) (load, error) {
	w.lifetime.Store(lifetime)
	w.delay.Store(int64(tokenDelay))
	url := w.apis["HTTP/1.1"].URL + "/books"
	rt, err := p.Wrap(User{Base: w.clients["HTTP/1.1"].Transport, Endpoint: w.endpoint(), Margin: margin})
	if err != nil {
		return load{}, err
	}
	if err := mustCall(p, rt, url); err != nil {
		return load{}, err
	}
	before := w.requests.Load()
	l := stream(rt, url, d)
	l.requests = int(w.requests.Load() - before)
	return l, nil
}

// steady measures latencies across expiries, beside those of the same load with a
// token that does not expire.
func steady(s scale) ([]row, error) {
	w := newWorld()
	defer w.close()
	lifetime := of(s, int64(2), 1)
	d, reps := of(s, 4*time.Second, 1500*time.Millisecond), of(s, 4, 1)
	var rows []row
	for _, setting := range []struct {
		title  string
		margin time.Duration
	}{
		{"Steady load, tokens of 2 s, default settings", 0},
		{"Steady load, tokens of 2 s, margin 0.4 s where it can be set", 400 * time.Millisecond},
	} {
		all := libraries()
		results := make([][2][]load, len(all))
		for range reps {
			for i, p := range all {
				for k, life := range []int64{3600, lifetime} {
					l, err := steadyRun(w, p, setting.margin, life, d)
					if err != nil {
						return nil, err
					}
					results[i][k] = append(results[i][k], l)
				}
			}
		}
		rows = append(rows, steadyRows(setting.title, all, results, d.Seconds()/float64(lifetime))...)
		if s.quick {
			break
		}
	}
	return rows, nil
}

// steadyRows writes, for each peer, the runs without and with expiries.
func steadyRows(title string, all []Peer, results [][2][]load, lifetimes float64) []row {
	rows := []row{
		newRow(title + ": p50, p99, p99.9"), newRow("… p99.9 × that without an expiry"),
		newRow("… failed requests"), newRow("… token requests per lifetime"),
	}
	for i, p := range all {
		var pooled [2][]float64
		var requests []float64
		failed := make(map[string]int)
		for k := range pooled {
			for _, l := range results[i][k] {
				pooled[k] = append(pooled[k], l.latencies...)
			}
		}
		for _, l := range results[i][1] {
			requests = append(requests, float64(l.requests)/lifetimes)
			for what, n := range l.failures {
				failed[what] += n
			}
		}
		total := number(float64(len(pooled[1])))
		rows[0].set(p.Name(), fmt.Sprintf("%s, %s, %s", span(quantile(pooled[1], 0.5)), span(quantile(pooled[1], 0.99)), span(quantile(pooled[1], 0.999))))
		rows[1].set(p.Name(), times(quantile(pooled[1], 0.999)/quantile(pooled[0], 0.999)))
		rows[2].set(p.Name(), "none of "+total)
		if len(failed) > 0 {
			rows[2].set(p.Name(), tally(failed)+" of "+total)
		}
		rows[3].set(p.Name(), digits(mean(requests)))
	}
	return rows
}
