package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// A throng is what many users cost.
type throng struct {
	bytes float64   // each, without those of the token
	times []float64 // of a request of one of them, in nanoseconds
}

// crowdStub is the API of many users, without a network. It checks that a request
// has the token of its own user.
type crowdStub struct{ resp *http.Response }

func (b crowdStub) RoundTrip(req *http.Request) (*http.Response, error) {
	v := req.Header["Authorization"]
	if len(v) != 1 || !strings.HasPrefix(v[0][len("Bearer "):], userOf(req.Context())+".") {
		return nil, fmt.Errorf("a request of %s has somebody else's token", userOf(req.Context()))
	}
	return b.resp, nil
}

func fetchFor(_ context.Context, name string) (*oauth2.Token, error) {
	return &oauth2.Token{AccessToken: tokenFor(name), TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}, nil
}

// throngOf logs n users in and then sends requests of all of them in random order.
func throngOf(wrap func(base http.RoundTripper) (http.RoundTripper, func()), n, rounds int) (throng, error) {
	resp := &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}
	reqs := make([]*http.Request, n)
	for i := range reqs {
		req, err := http.NewRequestWithContext(withUser(context.Background(), "user"+strconv.Itoa(i)), http.MethodGet, stubURL, nil)
		if err != nil {
			return throng{}, err
		}
		reqs[i] = req
	}
	resp.Request = reqs[0]
	before := heap()
	rt, end := wrap(crowdStub{resp})
	defer end()
	for _, req := range reqs {
		if _, err := rt.RoundTrip(req); err != nil { //nolint:bodyclose // there is none
			return throng{}, err
		}
	}
	t := throng{bytes: (heap()-before)/float64(n) - tokenSize}
	rand.Shuffle(n, func(i, j int) { reqs[i], reqs[j] = reqs[j], reqs[i] })
	const batch = 100_000 // the same for every n
	for range rounds {
		start := time.Now()
		for i := range batch {
			if _, err := rt.RoundTrip(reqs[i%n]); err != nil { //nolint:bodyclose // there is none
				return throng{}, err
			}
		}
		t.times = append(t.times, float64(time.Since(start))/batch)
	}
	runtime.KeepAlive(rt)
	return t, nil
}

// users measures what a user costs in memory, and a request among so many.
func users(s scale) ([]row, error) {
	var rows []row
	for _, n := range of(s, []int{1, 10_000, 100_000}, []int{1, 100}) {
		count := number(float64(n))
		r := newRow(count + " users: time of a request; bytes each beyond the token")
		if n == 1 {
			r = newRow("1 user among a map of them: time of a request")
		}
		kept := newRow("… with MemoryStore, the record kept in this process too")
		for _, p := range peers()[1:] {
			t, err := throngOf(func(base http.RoundTripper) (http.RoundTripper, func()) { return crowdOf(p, base, fetchFor, n) }, n, of(s, 5, 1))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name(), err)
			}
			r.set(p.Name(), t.cell(n))
		}
		t, err := throngOf(func(base http.RoundTripper) (http.RoundTripper, func()) {
			return authtripCrowd(base, fetchFor, n, new(authtrip.MemoryStore))
		}, n, of(s, 5, 1))
		if err != nil {
			return nil, err
		}
		kept.set(authtripPeer{}.Name(), t.cell(n))
		if rows = append(rows, r); n > 1 {
			rows = append(rows, kept)
		}
	}
	return rows, nil
}

// cell leaves out the bytes of a single user, which are below what can be told.
func (t throng) cell(n int) string {
	if n == 1 {
		return span(median(t.times))
	}
	return fmt.Sprintf("%s; %s B", span(median(t.times)), number(float64(int(t.bytes))))
}
