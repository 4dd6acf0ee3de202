package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"example.com/authtrip/filestore"
)

// A shift is what one process of several does: it calls the API for some time, as
// a user whom the others speak for as well.
type shift struct {
	Peer         string
	TokenURL     string
	API          string
	Certificates [][]byte // of both servers
	RefreshToken string   // the same for all
	Dir          string   // the same for all
	For          time.Duration
}

// A tally of calls is what came of a shift.
type calls struct {
	Requests int
	Failures map[string]int
}

// work is the process: its shift comes first on in, and it begins when that ends.
func work(in io.Reader, out io.Writer) error {
	var s shift
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in) // until all are there
	c, err := s.work()
	return errors.Join(err, json.NewEncoder(out).Encode(c))
}

func (s shift) work() (calls, error) {
	base, err := trusting(s.Certificates...)
	if err != nil {
		return calls{}, err
	}
	p := libraries()[index(libraries(), s.Peer)]
	rt, err := p.Wrap(User{
		Base:     base,
		Endpoint: &Endpoint{URL: s.TokenURL, Client: &http.Client{Transport: base}, RefreshToken: s.RefreshToken},
		Margin:   sharedMargin,
		Store:    &filestore.Store{Dir: s.Dir},
	})
	if err != nil {
		return calls{}, err
	}
	l := stream(rt, s.API, s.For)
	return calls{Requests: len(l.latencies), Failures: l.failures}, nil
}

const (
	sharedLifetime = 2 // of the tokens, in seconds
	sharedMargin   = 400 * time.Millisecond
)

// together runs n processes that start with the same login.
func together(p Peer, n int, d time.Duration) (total calls, login *rotating, err error) {
	w := newWorld()
	defer w.close()
	w.lifetime.Store(sharedLifetime)
	w.delay.Store(int64(tokenDelay))
	login = w.logIn()
	dir, err := os.MkdirTemp("", "benchmarks")
	if err != nil {
		return calls{}, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	job := shift{
		Peer: p.Name(), TokenURL: w.auth.URL + "/token", API: w.apis["HTTP/1.1"].URL + "/books",
		Certificates: [][]byte{w.auth.Certificate().Raw, w.apis["HTTP/1.1"].Certificate().Raw},
		RefreshToken: login.current, Dir: dir, For: d,
	}
	processes := make([]*process, n)
	for i := range processes {
		if processes[i], err = startProcess("shift"); err != nil {
			return calls{}, nil, err
		}
		if err = json.NewEncoder(processes[i].in).Encode(job); err != nil {
			return calls{}, nil, err
		}
	}
	for _, pr := range processes {
		err = errors.Join(err, pr.in.Close())
	}
	total.Failures = make(map[string]int)
	for _, pr := range processes {
		var c calls
		err = errors.Join(err, json.NewDecoder(pr.out).Decode(&c), pr.cmd.Wait())
		total.Requests += c.Requests
		for what, k := range c.Failures {
			total.Failures[what] += k
		}
	}
	return total, login, err
}

// processes measures several processes that speak for one user, at a server where
// a refresh token is good for one use, and one that comes again ends the login.
func processes(s scale) ([]row, error) {
	var rows []row
	for _, n := range of(s, []int{2, 8}, []int{2}) {
		d := of(s, 4*sharedLifetime*time.Second, 1500*time.Millisecond)
		requests := newRow(fmt.Sprintf("%d processes, one login, a refresh token is good for one use, tokens of 2 s, for %s: token requests", n, span(float64(d))))
		reuses, failed, alive := newRow("… used refresh tokens that came again"), newRow("… failed requests"), newRow("… at the end the user is")
		for _, p := range libraries() {
			total, login, err := together(p, n, d)
			if err != nil {
				return nil, fmt.Errorf("%s, %d processes: %w", p.Name(), n, err)
			}
			requests.set(p.Name(), number(float64(login.requests)))
			reuses.set(p.Name(), strconv.Itoa(login.reuses))
			failed.set(p.Name(), "none of "+number(float64(total.Requests)))
			if len(total.Failures) > 0 {
				failed.set(p.Name(), tally(total.Failures)+" of "+number(float64(total.Requests)))
			}
			alive.set(p.Name(), "logged in")
			if login.ended {
				alive.set(p.Name(), "logged out")
			}
		}
		rows = append(rows, requests, reuses, failed, alive)
	}
	return rows, nil
}
