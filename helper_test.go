package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// A rig is a server on an in-memory network, and the client of one user.
type rig struct {
	srv       *authtriptest.Server
	net       *authtriptest.Network
	src       *authtrip.Source
	transport *authtrip.Transport
	client    *http.Client
	events    *eventLog
	others    []*authtrip.Source // closed with src
}

const (
	asURL  = "https://as.example"
	apiURL = asURL + authtriptest.APIPath
)

// newRig is for a synctest bubble. The user is logged in, with a token that is
// valid; configure may change all of that before it is used.
func newRig(t *testing.T, srv *authtriptest.Server, configure func(*rig)) *rig {
	t.Helper()
	r := &rig{srv: srv, net: authtriptest.NewNetwork(t), events: new(eventLog)}
	r.net.Handle(asURL, srv)
	grant := authtrip.RefreshToken(srv.Config(asURL))
	grant.HTTPClient = &http.Client{Transport: r.net}
	r.src = &authtrip.Source{Key: "alice", Refresher: grant, Initial: srv.Issue("alice"), OnEvent: r.events.add}
	r.transport = &authtrip.Transport{Source: r.src, Base: r.net, OnEvent: r.events.add}
	r.client = &http.Client{Transport: r.transport}
	if configure != nil {
		configure(r)
	}
	t.Cleanup(func() {
		for _, src := range append(r.others, r.src) {
			if err := src.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
		}
	})
	return r
}

// inBubble runs a test on a rig, in a bubble where time passes by itself.
func inBubble(t *testing.T, srv *authtriptest.Server, configure func(*rig), f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, newRig(t, srv, configure))
	})
}

// get calls the API and returns the status.
func (r *rig) get(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, apiURL, nil)
	if err != nil {
		return 0, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func (r *rig) mustGet(t *testing.T) {
	t.Helper()
	if status, err := r.get(t.Context()); err != nil || status != http.StatusOK {
		t.Fatalf("GET = %d, %v, want 200", status, err)
	}
}

func (r *rig) wantTokenRequests(t *testing.T, want int) {
	t.Helper()
	if got := r.srv.Counts().Token; got != want {
		t.Errorf("token requests = %d, want %d (events: %v)", got, want, r.events.kinds())
	}
}

// expire waits until the token has ended by anybody's clock.
func expire(r *rig) { wait(r.srv.Lifetime + time.Second) }

func wait(d time.Duration) { <-time.After(d) }

// crowd calls f in n goroutines at once and waits for all of them.
func crowd(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// eventLog collects events; every one is searched for what must not be there.
type eventLog struct {
	mu  sync.Mutex
	all []authtrip.Event
}

func (l *eventLog) add(e authtrip.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

func (l *eventLog) kinds() []authtrip.EventKind {
	l.mu.Lock()
	defer l.mu.Unlock()
	kinds := make([]authtrip.EventKind, len(l.all))
	for i, e := range l.all {
		kinds[i] = e.Kind
	}
	return kinds
}

func (l *eventLog) count(kind authtrip.EventKind) int {
	n := 0
	for _, k := range l.kinds() {
		if k == kind {
			n++
		}
	}
	return n
}

func wantIs(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error = %v, want it to be %v", err, target)
	}
}

// wantSafe holds that an error is one line and holds none of the secrets.
func wantSafe(t *testing.T, err error, secrets ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("error has more than one line: %q", err)
	}
	for _, s := range secrets {
		if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("error holds a secret of length %d", len(s))
		}
	}
}

// expired returns tok as it is after its end.
func expired(tok *oauth2.Token) *oauth2.Token {
	old := *tok
	old.Expiry = time.Now().Add(-time.Minute)
	return &old
}

// counted refreshes each token to another one, and may fail.
func counted(fail *atomic.Pointer[error]) authtrip.RefresherFunc {
	var n atomic.Int64
	return func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
		if err := fail.Load(); err != nil {
			return nil, *err
		}
		return &oauth2.Token{AccessToken: fmt.Sprint("new", n.Add(1)), RefreshToken: old.RefreshToken + "+", Expiry: time.Now().Add(time.Hour)}, nil
	}
}

func failing(fail *atomic.Pointer[error], err error) { fail.Store(&err) }
