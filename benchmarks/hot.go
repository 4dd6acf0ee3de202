package main

import (
	"context"
	"fmt"
	"net/http"
)

// A probe is in the context of a request that goes to silent: it brings the answer,
// so that nothing is allocated for it, and takes back what arrived.
type probe struct {
	resp   http.Response
	header string
}

type probeKey struct{}

// silent answers what the probe brings, at once.
type silent struct{}

func (silent) RoundTrip(req *http.Request) (*http.Response, error) {
	p := req.Context().Value(probeKey{}).(*probe)
	p.header = ""
	if v := req.Header["Authorization"]; len(v) == 1 {
		p.header = v[0]
	}
	return &p.resp, nil
}

func newProbe(headers int) (*http.Request, *probe) {
	p := &probe{resp: http.Response{Status: "200 OK", StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}}
	req, err := http.NewRequestWithContext(context.WithValue(context.Background(), probeKey{}, p), http.MethodGet, stubURL, http.NoBody)
	if err != nil {
		panic(err) // the URL is a constant
	}
	p.resp.Request = req
	for i := range headers {
		req.Header.Set(fmt.Sprintf("X-Header-%d", i), "value")
	}
	return req, p
}

// hotOp returns what sends n requests, and checks that the last one had the token.
func hotOp(p Peer, rt http.RoundTripper, headers int) func(n int) {
	return func(n int) {
		req, pr := newProbe(headers)
		for range n {
			if _, err := rt.RoundTrip(req); err != nil { //nolint:bodyclose // there is none
				panic(p.Name() + ": " + err.Error())
			}
		}
		if want := p.Name() != (basePeer{}).Name(); want != (len(pr.header) == len("Bearer ")+tokenSize) {
			panic(p.Name() + ": the base got another Authorization header than it should")
		}
	}
}

// hotPath measures a request whose token is valid, without any I/O.
func hotPath(s scale) ([]row, error) {
	w := newWorld()
	defer w.close()
	all := peers()
	rts := make([]http.RoundTripper, len(all))
	for i, p := range all {
		rt, err := p.Wrap(User{Base: silent{}, Fetch: w.fetch})
		if err != nil {
			return nil, err
		}
		rts[i] = rt
	}
	n, reps := of(s, 20_000, 100), of(s, 51, 3)
	ops := func(headers int, wrap func(func(int)) func(int)) []func(int) {
		list := make([]func(int), len(all))
		for i, p := range all {
			list[i] = wrap(hotOp(p, rts[i], headers))
		}
		return list
	}
	serially := func(op func(int)) func(int) { return op }
	var rows []row
	var five [][]float64
	for _, headers := range []int{0, 5, 20} {
		samples := interleave(ops(headers, serially), n, reps)
		title := fmt.Sprintf("Valid token, %d headers (× floor)", headers)
		rows = append(rows, ratios(title, all, samples, 1))
		if headers == 5 {
			five = samples
		}
	}
	to := newRow("… 5 headers, × x/oauth2")
	for i, p := range all {
		to.set(p.Name(), times(ratio(five[i], five[index(all, oauth2Peer{}.Name())])))
	}
	rows = append(rows, to)
	allocs := newRow("… 5 headers, allocations")
	for i, op := range ops(5, serially) {
		allocs.set(all[i].Name(), number(allocations(op)))
	}
	rows = append(rows, allocs)
	both := append(ops(5, serially), ops(5, parallel)...)
	samples := interleave(both, n, reps)
	rows = append(rows, ratios("… 5 headers, all cores at once (× floor)", all, samples[len(all):], 1))
	gain := newRow("… 5 headers, requests per second on all cores ÷ on one")
	for i, p := range all {
		gain.set(p.Name(), times(ratio(samples[i], samples[len(all)+i])*float64(cores())))
	}
	return append(rows, gain), nil
}

// loopback measures whole requests over a connection that stays.
func loopback(s scale) ([]row, error) {
	w := newWorld()
	defer w.close()
	all := peers()
	var rows []row
	for _, proto := range []string{"HTTP/1.1", "HTTP/2"} {
		ops := make([]func(int), len(all))
		for i, p := range all {
			rt, err := p.Wrap(User{Base: w.clients[proto].Transport, Endpoint: w.endpoint()})
			if err != nil {
				return nil, err
			}
			url := w.apis[proto].URL + "/books"
			if p.Module() == "" && i == 0 {
				url = w.apis[proto].URL + "/open"
			}
			ops[i] = func(n int) {
				for range n {
					if err := mustCall(p, rt, url); err != nil {
						panic(err)
					}
				}
			}
		}
		samples := interleave(ops, of(s, 500, 10), of(s, 41, 2))
		rows = append(rows, ratios("Loopback, "+proto+" over TLS (× no wrapper)", all, samples, 0))
	}
	return rows, nil
}
