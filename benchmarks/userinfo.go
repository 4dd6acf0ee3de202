package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// info is one peer with a function to ask it.
type info struct {
	UserInfoPeer
	ask func(context.Context) (string, error)
}

func newInfo(w *world, p UserInfoPeer, fresh bool) info {
	tok := &oauth2.Token{AccessToken: w.issue(time.Hour), TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}
	return info{p, p.UserInfo(w.auth.URL+"/userinfo", w.client, tok, fresh)}
}

func (i info) mustAsk(n int) {
	for range n {
		if sub, err := i.ask(context.Background()); err != nil || sub != "alice" {
			panic(fmt.Errorf("%s: user info of %q: %w", i.Name(), sub, err))
		}
	}
}

// infoStampede is n callers who ask at once, the first time. It returns how often
// the server was asked, and how long the last caller took.
func infoStampede(w *world, p UserInfoPeer, n int) (requests int, last time.Duration, err error) {
	i := newInfo(w, p, false)
	var failed atomic.Int64
	before := w.infos.Load()
	start := time.Now()
	crowd(n, func(int) {
		if sub, askErr := i.ask(context.Background()); askErr != nil || sub != "alice" {
			failed.Add(1)
		}
	})
	last = time.Since(start)
	if failed.Load() > 0 {
		err = errors.New(p.Name() + ": user info failed")
	}
	return int(w.infos.Load() - before), last, err
}

// userInfo measures a hit, a miss and a stampede.
func userInfo(s scale) ([]row, error) {
	w := newWorld()
	defer w.close()
	hit, miss := newRow("User info, the same user again: time; allocations"), newRow("User info that the server is asked for")
	var hits, misses []func(int)
	for _, p := range userInfoPeers() {
		hits = append(hits, newInfo(w, p, false).mustAsk)
		misses = append(misses, newInfo(w, p, true).mustAsk)
	}
	reps := of(s, 31, 2)
	hitCounts := []int{100_000, 200} // one of them asks the server
	missTimes := interleave(misses, of(s, 200, 10), reps)
	for i, p := range userInfoPeers() {
		hit.set(p.Name(), span(median(interleave(hits[i:i+1], of(s, hitCounts[i], 10), reps)[0]))+"; "+number(allocations(hits[i])))
		miss.set(p.Name(), span(median(missTimes[i])))
	}
	n := of(s, 1000, 20)
	w.delay.Store(int64(tokenDelay))
	rush := newRow("User info, " + number(float64(n)) + " callers at once: requests; last caller done (× a lone caller)")
	for _, p := range userInfoPeers() {
		var counts, times, slow []float64
		for range of(s, 5, 1) {
			_, lone, err := infoStampede(w, p, 1)
			if err != nil {
				return nil, err
			}
			requests, last, err := infoStampede(w, p, n)
			if err != nil {
				return nil, err
			}
			counts, times = append(counts, float64(requests)), append(times, float64(last))
			slow = append(slow, float64(last)/float64(lone))
		}
		rush.set(p.Name(), number(median(counts))+"; "+measured{median(times), median(slow)}.String())
	}
	return []row{hit, miss, rush}, nil
}
