package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// A mill is a token endpoint without a network that is down for a while, and answers in
// ten milliseconds. It counts.
type mill struct {
	down                atomic.Bool
	asked, inside, most atomic.Int64
}

// Refresh implements [authtrip.Refresher].
func (m *mill) Refresh(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	m.asked.Add(1)
	n := m.inside.Add(1)
	defer m.inside.Add(-1)
	for top := m.most.Load(); n > top && !m.most.CompareAndSwap(top, n); top = m.most.Load() {
	}
	<-time.After(10 * time.Millisecond) // whoever asks does not hurry it
	if m.down.Load() {
		return nil, &oauth2.RetrieveError{Response: &http.Response{StatusCode: http.StatusServiceUnavailable}}
	}
	return &oauth2.Token{AccessToken: "new", RefreshToken: old.RefreshToken + "+", Expiry: time.Now().Add(time.Hour)}, nil
}

// millSource asks the mill for one user.
type millSource struct {
	m   *mill
	old *oauth2.Token
}

func (s millSource) Token() (*oauth2.Token, error) {
	return s.m.Refresh(context.Background(), s.old)
}

// A herd is many sessions whose access tokens have expired.
type herd interface {
	token(i int) error // asks for the token of session i
	end()
}

type authtripHerd struct{ all *authtrip.Sources }

func newAuthtripHerd(m *mill, n int) (herd, error) {
	h := authtripHerd{&authtrip.Sources{Each: authtrip.Source{Refresher: m}, MaxSources: 2 * n}}
	for i := range n {
		if err := h.all.Source(strconv.Itoa(i)).SetToken(context.Background(), overdue(i)); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h authtripHerd) token(i int) error {
	_, err := h.all.TokenContext(authtrip.WithKey(context.Background(), strconv.Itoa(i)))
	return err
}

func (h authtripHerd) end() { _ = h.all.Close() }

type oauth2Herd []oauth2.TokenSource

func newOAuth2Herd(m *mill, n int) (herd, error) {
	h := make(oauth2Herd, n)
	for i := range h {
		h[i] = oauth2.ReuseTokenSource(overdue(i), millSource{m, overdue(i)})
	}
	return h, nil
}

func (h oauth2Herd) token(i int) error {
	_, err := h[i].Token()
	return err
}

func (h oauth2Herd) end() {}

func overdue(i int) *oauth2.Token {
	return &oauth2.Token{AccessToken: "old" + strconv.Itoa(i), RefreshToken: "r" + strconv.Itoa(i), Expiry: time.Now().Add(-time.Minute)}
}

// An aftermath is what an outage came to.
type aftermath struct {
	during int64         // token requests while the endpoint was down
	most   int64         // in flight at once, after it
	last   time.Duration // until the last session was served, after it
}

// outlast lets n sessions ask for their tokens in the course of an outage, each again
// after a pause, until they are served.
func outlast(h herd, m *mill, n int, outage, again time.Duration) aftermath {
	var s aftermath
	m.down.Store(true)
	restored := time.Now().Add(outage)
	healed := make(chan struct{})
	go func() {
		defer close(healed)
		_ = pause(context.Background(), outage)
		s.during = m.asked.Load()
		m.most.Store(0)
		m.down.Store(false)
	}()
	var last atomic.Int64
	crowd(n, func(i int) {
		_ = pause(context.Background(), outage*time.Duration(i)/time.Duration(n))
		for h.token(i) != nil {
			_ = pause(context.Background(), again)
		}
		for late, top := int64(time.Since(restored)), last.Load(); late > top && !last.CompareAndSwap(top, late); top = last.Load() {
		}
	})
	<-healed
	s.most, s.last = m.most.Load(), time.Duration(last.Load())
	return s
}

// herds measures an outage that all sessions of a process find out about, and one that
// a single session does.
func herds(s scale) ([]row, error) {
	n, outage, again := of(s, 100_000, 500), of(s, time.Minute, 300*time.Millisecond), of(s, 2*time.Second, 50*time.Millisecond)
	makers := map[string]func(*mill, int) (herd, error){
		authtripPeer{}.Name(): newAuthtripHerd,
		oauth2Peer{}.Name():   newOAuth2Herd,
	}
	many := newRow(fmt.Sprintf("Token endpoint is down for %s, %s sessions come to need it, each again after %s: token requests meanwhile",
		span(float64(outage)), number(float64(n)), span(float64(again))))
	after := newRow("… after it: most token requests in flight; last session served")
	rows := []row{many, after}
	singles := of(s, []time.Duration{2 * time.Second, 20 * time.Second}, []time.Duration{300 * time.Millisecond})
	for _, d := range singles {
		rows = append(rows, newRow("Token endpoint is down for "+span(float64(d))+", one session asks every 50 ms: token requests meanwhile; served after it"))
	}
	for name, make := range makers {
		m := new(mill)
		h, err := make(m, n)
		if err != nil {
			return nil, err
		}
		got := outlast(h, m, n, outage, again)
		h.end()
		many.set(name, number(float64(got.during)))
		after.set(name, number(float64(got.most))+"; "+span(float64(got.last)))
		for i, d := range singles {
			m := new(mill)
			h, err := make(m, 1)
			if err != nil {
				return nil, err
			}
			got := outlast(h, m, 1, d, 50*time.Millisecond)
			h.end()
			rows[2+i].set(name, number(float64(got.during))+"; "+span(float64(got.last)))
		}
	}
	return rows, nil
}
