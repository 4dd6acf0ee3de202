package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// endpoint is a token endpoint that is down for a while, and answers in ten
// milliseconds. It counts.
type endpoint struct {
	down   atomic.Bool
	asked  atomic.Int64
	inside atomic.Int64
	most   atomic.Int64
}

func (e *endpoint) Refresh(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	e.asked.Add(1)
	n := e.inside.Add(1)
	defer e.inside.Add(-1)
	for m := e.most.Load(); n > m && !e.most.CompareAndSwap(m, n); m = e.most.Load() {
	}
	wait(10 * time.Millisecond)
	if e.down.Load() {
		return nil, &authtrip.RefreshError{StatusCode: 503, Code: "temporarily_unavailable", Err: errors.New("down")}
	}
	return &oauth2.Token{AccessToken: "new-" + old.RefreshToken, RefreshToken: old.RefreshToken + "+", Expiry: time.Now().Add(time.Hour)}, nil
}

// TestOutageIsOneFactForSessionsThatNewMakes: each of them had a gate of its own, and found
// out by itself that the token endpoint was down.
func TestOutageIsOneFactForSessionsThatNewMakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, store := new(endpoint), new(authtrip.MemoryStore)
		users := &authtrip.Sources{New: func(key string) (*authtrip.Source, error) {
			return &authtrip.Source{Refresher: e, Store: store, Key: key}, nil
		}}
		defer users.Close()
		e.down.Store(true)
		const sessions = 1000
		for i := range sessions {
			tok := &oauth2.Token{AccessToken: fmt.Sprint("old-", i), RefreshToken: fmt.Sprint("r", i), Expiry: time.Now().Add(time.Minute)}
			if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), tok); err != nil {
				t.Fatal(err)
			}
		}
		wait(2 * time.Minute)
		for i := range sessions {
			if _, err := users.Source(fmt.Sprint(i)).Token(); err == nil {
				t.Fatal("a token came from an endpoint that is down")
			}
		}
		if n := e.asked.Load(); n > 100 {
			t.Errorf("%d token requests for %d sessions, want 100 at most", n, sessions)
		}
	})
}

// crowdOf is that many sessions whose access tokens have expired.
func crowdOf(t *testing.T, e *endpoint, n int) *authtrip.Sources {
	t.Helper()
	users := &authtrip.Sources{Each: authtrip.Source{Refresher: e}, MaxSources: 4 * n}
	for i := range n {
		tok := &oauth2.Token{AccessToken: fmt.Sprint("old-", i), RefreshToken: fmt.Sprint("r", i), Expiry: time.Now().Add(time.Minute)}
		if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
	}
	wait(2 * time.Minute)
	return users
}

// A server that came back from an outage was met by everybody at once, each session had
// found out by itself that it was down, and each waited for up to half a minute more.
func TestOutageIsOneFactForAllSessions(t *testing.T) {
	sessions := 10_000
	if raceEnabled {
		sessions = 2_000
	}
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		users := crowdOf(t, e, sessions)
		defer users.Close()
		e.down.Store(true)
		began := time.Now()
		restored := began.Add(time.Minute)
		var served atomic.Int64
		var last atomic.Int64
		var all sync.WaitGroup
		for i := range sessions {
			all.Go(func() {
				ctx := authtrip.WithKey(t.Context(), fmt.Sprint(i))
				wait(time.Duration(i) * time.Minute / time.Duration(sessions))
				for {
					_, err := users.TokenContext(ctx)
					if err == nil {
						break
					}
					if errors.Is(err, authtrip.ErrReauthRequired) {
						t.Errorf("session %d: %v", i, err)
						return
					}
					wait(2 * time.Second) // a user who tries again
				}
				served.Add(1)
				last.Store(max(last.Load(), int64(time.Since(began))))
			})
		}
		wait(time.Until(restored))
		during := e.asked.Load()
		e.most.Store(0)
		e.down.Store(false)
		all.Wait()
		late := time.Duration(last.Load()) - time.Minute
		t.Logf("token requests during the outage: %d; most at once after it: %d; last served %v after it", during, e.most.Load(), late)
		if during > 100 {
			t.Errorf("token requests during the outage = %d, want at most 100", during)
		}
		if late > 10*time.Second {
			t.Errorf("the last session was served %v after the outage, want at most 10 s", late)
		}
		if most := e.most.Load(); most > 1024 {
			t.Errorf("requests in flight at once = %d, want at most 1024", most)
		}
		if served.Load() != int64(sessions) || e.asked.Load() > int64(sessions)+during {
			t.Errorf("served %d, token requests %d", served.Load(), e.asked.Load())
		}
	})
}

// A single session came back 1.5 s after an outage of 2 s, and up to 30 s after a long one.
func TestSingleSessionIsBackSoonAfterAnOutage(t *testing.T) {
	for _, outage := range []time.Duration{2 * time.Second, 20 * time.Second, 5 * time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			e := new(endpoint)
			users := crowdOf(t, e, 1)
			defer users.Close()
			e.down.Store(true)
			began := time.Now()
			ctx := authtrip.WithKey(t.Context(), "0")
			for {
				_, err := users.TokenContext(ctx)
				if err == nil {
					break
				}
				wait(50 * time.Millisecond)
				if time.Since(began) >= outage {
					e.down.Store(false)
				}
			}
			late, want := time.Since(began)-outage, max(1100*time.Millisecond, outage/20)
			t.Logf("outage of %v: %d token requests, back %v after it", outage, e.asked.Load(), late)
			if late > min(want, 31*time.Second) {
				t.Errorf("back %v after an outage of %v, want at most %v", late, outage, want)
			}
		})
	}
}

// One session that the server refuses is no outage for the others.
func TestRefusedSessionsAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuses := map[string]bool{"r0": true, "r1": true, "r2": true, "r3": true}
		grant := authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			if refuses[old.RefreshToken] {
				return nil, &authtrip.RefreshError{Code: "invalid_grant", StatusCode: 400, Err: authtrip.ErrSessionEnded}
			}
			return &oauth2.Token{AccessToken: "new", Expiry: time.Now().Add(time.Hour)}, nil
		})
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: grant}}
		defer users.Close()
		for i := range 8 {
			src := users.Source(fmt.Sprint(i))
			if err := src.SetToken(t.Context(), &oauth2.Token{RefreshToken: fmt.Sprint("r", i)}); err != nil {
				t.Fatal(err)
			}
			_, err := src.Token()
			if got := errors.Is(err, authtrip.ErrSessionEnded); got != (i < 4) || i >= 4 && err != nil {
				t.Errorf("session %d: %v", i, err)
			}
		}
	})
}

// A token was rejected while its refresh ahead of time came to a full gate: whoever had joined
// that was told that its refresh token had been sent, which it had not.
func TestWhoJoinsARoundThatTheGateRefusesIsNotInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold atomic.Bool
		let := make(chan struct{})
		store := new(steps)
		slow := new(atomic.Bool)
		store.before = func(_ context.Context, op string) error {
			if op == "load" && slow.Load() {
				wait(time.Second)
			}
			return nil
		}
		users := &authtrip.Sources{Each: authtrip.Source{Store: store, Refresher: authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			if hold.Load() {
				<-let
			}
			return &oauth2.Token{AccessToken: "new" + old.AccessToken, RefreshToken: old.RefreshToken + "+", Expiry: time.Now().Add(time.Hour)}, nil
		})}}
		defer users.Close()
		for i := range 33 {
			life := 10 * time.Minute
			if i == 32 {
				life = time.Hour
			}
			if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), &oauth2.Token{AccessToken: fmt.Sprint(i), RefreshToken: fmt.Sprint("r", i), Expiry: time.Now().Add(life)}); err != nil {
				t.Fatal(err)
			}
		}
		wait(56 * time.Minute) // 0..31 expired, 32 is due
		last := users.Source("32")
		if _, err := last.Token(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		hold.Store(true)
		slow.Store(true)
		tok, err := last.Token() // starts a round
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i := range 32 {
			slow.Store(false)
			go func() { _, _ = users.Source(fmt.Sprint(i)).Token() }()
		}
		synctest.Wait()
		last.Invalidate(tok)
		time.AfterFunc(3*time.Second, func() { close(let) })
		got, err := last.Token()
		if err != nil || got.AccessToken == tok.AccessToken {
			t.Errorf("Token() = %v", err)
		}
	})
}

// During an outage everybody got the words that the server had for somebody else.
func TestErrorOfAnOutageNamesNoOtherUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			return nil, &authtrip.RefreshError{StatusCode: 500, Description: "no luck for " + old.RefreshToken, Err: errors.New("down")}
		})}}
		defer users.Close()
		for i := range 5 {
			if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), &oauth2.Token{RefreshToken: fmt.Sprint("user", i)}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 5 {
			_, err := users.Source(fmt.Sprint(i)).Token()
			re, ok := errors.AsType[*authtrip.RefreshError](err)
			if !ok || re.Description != "" && !strings.Contains(re.Description, fmt.Sprint("user", i)) {
				t.Errorf("session %d: %v, %q", i, err, re.Description)
			}
		}
	})
}

// After an outage of a second that had asked for an hour, the next one lasted for that hour.
func TestEndOfAnOutageEndsItsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mode atomic.Int32
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			if old.RefreshToken == "r4" {
				wait(time.Second)
				return &oauth2.Token{AccessToken: "x", Expiry: time.Now().Add(time.Hour)}, nil
			}
			switch mode.Load() {
			case 0:
				wait(10 * time.Millisecond)
				return nil, &authtrip.RefreshError{StatusCode: 503, RetryAfter: time.Hour, Err: errors.New("busy")}
			case 1:
				return nil, &authtrip.RefreshError{StatusCode: 503, RetryAfter: time.Second, Err: errors.New("down")}
			}
			return &oauth2.Token{AccessToken: "x", Expiry: time.Now().Add(time.Hour)}, nil
		})}}
		defer users.Close()
		for i := range 10 {
			if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), &oauth2.Token{RefreshToken: fmt.Sprint("r", i)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range []int{4, 0, 1, 2} {
			go func() { _, _ = users.Source(fmt.Sprint(i)).Token() }()
		}
		synctest.Wait()
		wait(20 * time.Millisecond)
		wait(2 * time.Second) // the one that was longest on its way has been answered
		mode.Store(1)
		for i := 5; i < 8; i++ {
			_, _ = users.Source(fmt.Sprint(i)).Token()
		}
		mode.Store(2)
		wait(time.Minute)
		if _, err := users.Source("8").Token(); err != nil {
			t.Errorf("after an outage of a second: %v", err)
		}
	})
}

// Whoever had come while three requests had failed waited out an hour of Retry-After, also
// when the next request was answered.
func TestPostponedSessionIsLetInOnceTheEndpointAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mode atomic.Int32
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			if old.RefreshToken == "r4" {
				wait(time.Second)
				return &oauth2.Token{AccessToken: "x", Expiry: time.Now().Add(time.Hour)}, nil
			}
			switch mode.Load() {
			case 0:
				wait(10 * time.Millisecond)
				return nil, &authtrip.RefreshError{StatusCode: 503, RetryAfter: time.Hour, Err: errors.New("busy")}
			case 1:
				return nil, &authtrip.RefreshError{StatusCode: 503, RetryAfter: time.Second, Err: errors.New("down")}
			}
			return &oauth2.Token{AccessToken: "x", Expiry: time.Now().Add(time.Hour)}, nil
		})}}
		defer users.Close()
		for i := range 10 {
			if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), &oauth2.Token{RefreshToken: fmt.Sprint("r", i)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range []int{4, 0, 1, 2} {
			go func() { _, _ = users.Source(fmt.Sprint(i)).Token() }()
		}
		synctest.Wait()
		wait(20 * time.Millisecond)
		_, err := users.Source("3").Token() // postponed
		if err == nil {
			t.Error("no outage")
		}
		wait(2 * time.Second)
		mode.Store(2)
		if _, err := users.Source("3").Token(); err != nil {
			t.Errorf("the endpoint answers, and this session waits: %v", err)
		}
	})
}

// Three users whom the server limits, each for himself, closed the gate for all others.
func TestRateLimitOfSomeIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			if strings.HasPrefix(old.RefreshToken, "limited") {
				return nil, &authtrip.RefreshError{StatusCode: 429, RetryAfter: time.Hour, Err: errors.New("slow down")}
			}
			return &oauth2.Token{AccessToken: "new", Expiry: time.Now().Add(time.Hour)}, nil
		})}}
		defer users.Close()
		for i := range 5 {
			src := users.Source(fmt.Sprint("limited", i))
			if err := src.SetToken(t.Context(), &oauth2.Token{RefreshToken: fmt.Sprint("limited", i)}); err != nil {
				t.Fatal(err)
			}
			if _, err := src.Token(); err == nil {
				t.Fatal("no error")
			}
		}
		other := users.Source("other")
		if err := other.SetToken(t.Context(), &oauth2.Token{RefreshToken: "other"}); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Token(); err != nil {
			t.Errorf("another user: %v", err)
		}
	})
}

// A server that limits the client as a whole is asked by few.
func TestRateLimitOfTheClientIsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			asked.Add(1)
			return nil, &authtrip.RefreshError{StatusCode: 429, RetryAfter: time.Minute, Err: errors.New("slow down")}
		})}}
		defer users.Close()
		for i := range 100 {
			src := users.Source(fmt.Sprint(i))
			if err := src.SetToken(t.Context(), &oauth2.Token{RefreshToken: "r"}); err != nil {
				t.Fatal(err)
			}
			_, _ = src.Token()
		}
		if n := asked.Load(); n > 10 {
			t.Errorf("token requests = %d, want at most 10", n)
		}
	})
}

// TestFailuresHoursApartAreNoOutage: the hours in which nobody asked were counted as outage, and the
// second failure made everybody wait for half a minute.
func TestFailuresHoursApartAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: func(context.Context, int, *oauth2.Token) (*oauth2.Token, error) {
			return nil, errors.New("the endpoint is down")
		}}
		src := &authtrip.Source{Refresher: s}
		defer src.Close()
		for range 5 {
			if _, err := src.Token(); err == nil {
				t.Fatal("no error of an endpoint that is down")
			}
			if next := time.Until(src.Status().NextAttempt); next > time.Second {
				t.Fatalf("the next attempt is %v away", next)
			}
			wait(8 * time.Hour)
		}
	})
}
