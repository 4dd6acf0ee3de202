package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// TestUnreachableTokenEndpointIsNoDoubt: half a minute without a route ended the session,
// and one dial that timed out did where nothing is ever sent again.
func TestUnreachableTokenEndpointIsNoDoubt(t *testing.T) {
	for name, grace := range map[string]time.Duration{"default": 0, "never sent again": -1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				r.src.GracePeriod = grace
				gone := &unreachable{RoundTripper: r.net}
				r.src.Refresher.(*authtrip.Grant).HTTPClient = &http.Client{Transport: gone}
				expire(r)
				gone.until = time.Now().Add(30 * time.Second)
				for time.Now().Before(gone.until) {
					if _, err := r.src.Token(); errors.Is(err, authtrip.ErrReauthRequired) || errors.Is(err, authtrip.ErrInDoubt) {
						t.Fatalf("Token() error = %v, but nothing was ever sent", err)
					}
					wait(100 * time.Millisecond)
				}
				wait(3 * time.Second)
				if _, err := r.src.Token(); err != nil {
					t.Errorf("after the outage: %v", err)
				}
				r.wantTokenRequests(t, 1)
			})
		})
	}
}

// unreachable is a network whose dials time out.
type unreachable struct {
	http.RoundTripper
	until time.Time
}

func (u *unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	if time.Now().Before(u.until) {
		wait(time.Second)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("i/o timeout")}
	}
	return u.RoundTripper.RoundTrip(r)
}

// TestRequestThatHangsAsksForNoLogin: it did when RefreshTimeout was over, and the next
// refresh worked.
func TestRequestThatHangsAsksForNoLogin(t *testing.T) {
	srv := rotating(time.Hour)
	srv.ReuseGrace = 30 * time.Second
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Hour})
		_, err := r.src.Token()
		if errors.Is(err, authtrip.ErrReauthRequired) {
			t.Errorf("Token() error = %v", err)
		}
		wait(7 * time.Second)
		if _, err := r.src.Token(); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// TestAnswerThatComesLateCounts: one that came a second after RefreshTimeout was thrown
// away, and the session with it.
func TestAnswerThatComesLateCounts(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Delay: 11 * time.Second})
		if _, err := r.src.Token(); err == nil || errors.Is(err, authtrip.ErrReauthRequired) {
			t.Errorf("Token() error = %v while the answer is on its way", err)
		}
		wait(2 * time.Second)
		tok, err := r.src.Token()
		if err != nil || !r.srv.Valid(tok.AccessToken) {
			t.Errorf("Token() error = %v when the answer has come", err)
		}
		r.wantTokenRequests(t, 1)
	})
}

// TestCloseAfterALostAnswerKeepsNobodyWaiting: a program with a deadline of five seconds that
// had met a reset connection got nothing but its deadline at the next starts: each of them
// began to wait for the one before anew.
func TestCloseAfterALostAnswerKeepsNobodyWaiting(t *testing.T) {
	srv := rotating(time.Hour)
	srv.ReuseGrace = time.Hour
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		first := replicas(r, 1, store)[0]
		if _, err := first.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Reset: true})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		_, err := first.TokenContext(ctx)
		cancel()
		if err == nil {
			t.Fatal("a token came without an answer")
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		r.srv.Heal(authtriptest.TokenPath)
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := replicas(r, 1, store)[0].TokenContext(ctx); err != nil {
			t.Errorf("at the next start: %v", err)
		}
	})
}

// TestNobodysSessionIsNobodysInAnOutage: who had to log in was told that the token endpoint
// is down.
func TestNobodysSessionIsNobodysInAnOutage(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: r.src.Refresher, Store: new(authtrip.MemoryStore)}}
		defer users.Close()
		for i := range 4 {
			if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
				t.Fatal(err)
			}
		}
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"60"}}})
		for i := range 4 {
			_, _ = users.Source(fmt.Sprint(i)).Token()
		}
		_, err := users.Source("nobody").Token()
		wantIs(t, err, authtrip.ErrNoSession)
		if st := users.Source("nobody").Status(); st.State != authtrip.StateNoSession {
			t.Errorf("state = %v", st.State)
		}
	})
}

// TestLateAnswerIsSavedWhileItsRoundWaits: an answer that came late was in the memory of a round that
// waited to send again, and was not saved before others took the session over: they sent a refresh
// token that was used up.
func TestLateAnswerIsSavedWhileItsRoundWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: func(_ context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
			wait(10500 * time.Millisecond)
			return nextToken(n, old), nil
		}}
		store := new(authtrip.MemoryStore)
		src := &authtrip.Source{Refresher: s, Store: store, Key: "k", GracePeriod: time.Minute}
		defer src.Close()
		_ = src.SetToken(t.Context(), hourly("a", "alice"))
		go func() { _, _ = src.Refresh(t.Context()) }()
		wait(10600 * time.Millisecond)
		if doc, _, _ := store.Load(t.Context(), "k"); generation(t, doc) != 1 {
			t.Error("the token that came late is not in the Store")
		}
	})
}
