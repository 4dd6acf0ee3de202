package authtrip_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// This file has what came of combinations: of a Store that fails and a pause, a login and a late answer.

// A script is a Refresher whose answers are those of a function, by the number of the call.
type script struct {
	mu     sync.Mutex
	n      int
	open   map[string]int // requests on their way, by refresh token
	sent   []string
	twice  []string
	answer func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error)
}

func (s *script) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	rt := ""
	if old != nil {
		rt = old.RefreshToken
	}
	s.mu.Lock()
	s.n++
	n := s.n
	if s.open == nil {
		s.open = make(map[string]int)
	}
	if s.open[rt]++; s.open[rt] > 1 {
		s.twice = append(s.twice, rt)
	}
	s.sent = append(s.sent, rt)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open[rt]--
	}()
	return s.answer(ctx, n, old)
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func nextToken(n int, old *oauth2.Token) *oauth2.Token {
	rt := "first"
	if old != nil {
		rt = old.RefreshToken
	}
	return &oauth2.Token{AccessToken: fmt.Sprint("access-", n), RefreshToken: rt + "+", Expiry: time.Now().Add(time.Hour)}
}

func hourly(access, refresh string) *oauth2.Token {
	return &oauth2.Token{AccessToken: access, RefreshToken: refresh, Expiry: time.Now().Add(time.Hour)}
}

// TestUnsavedTokenIsSavedWhileTheEndpointAsksForAPause: a token that could not be saved was saved only when
// the Retry-After of the next refresh was over.
func TestUnsavedTokenIsSavedWhileTheEndpointAsksForAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(steps)
		var down atomic.Bool
		store.before = func(context.Context, string) error {
			if down.Load() {
				return errStoreDown
			}
			return nil
		}
		s := &script{answer: func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
			if n == 1 {
				return nextToken(n, old), nil
			}
			return nil, &authtrip.RefreshError{StatusCode: 503, RetryAfter: 5 * time.Minute, Err: errors.New("busy")}
		}}
		src := &authtrip.Source{Refresher: s, Store: store, Key: "k", AllowRefreshWithoutStore: true}
		defer src.Close()
		_ = src.SetToken(t.Context(), hourly("a", "alice"))
		wait(2 * time.Hour)
		down.Store(true)
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		wait(2 * time.Hour)
		_, _ = src.Token()
		if n := s.count(); n != 2 {
			t.Fatalf("asked %d times, want 2", n)
		}
		wait(10 * time.Second)
		down.Store(false)
		wait(5 * time.Second)
		if doc, _, _ := store.Load(t.Context(), "k"); generation(t, doc) != 1 {
			t.Error("the token that the Store did not take is not there yet")
		}
	})
}

// TestStoreThatFailsKeepsThePauseOfTheEndpoint: the failure of a load or a save took the place of a
// Retry-After, and the endpoint was asked at once.
func TestStoreThatFailsKeepsThePauseOfTheEndpoint(t *testing.T) {
	for _, op := range []string{"load", "save"} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := new(steps)
				var down atomic.Bool
				s := &script{answer: func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
					if op == "save" {
						down.Store(true)
						time.AfterFunc(4*time.Second, func() { down.Store(false) })
					}
					return nil, &authtrip.RefreshError{StatusCode: 503, RetryAfter: 5 * time.Minute, Err: errors.New("busy")}
				}}
				store.before = func(_ context.Context, now string) error {
					if down.Load() && now == op {
						return errStoreDown
					}
					return nil
				}
				src := &authtrip.Source{Refresher: s, Store: store, Key: "k"}
				defer src.Close()
				if err := src.SetToken(t.Context(), hourly("a", "alice")); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { _ = src.Watch(ctx) }()
				wait(56 * time.Minute)
				_, _ = src.Token()
				wait(10 * time.Second)
				if op == "load" {
					down.Store(true)
					doc, v, _ := store.MemoryStore.Load(t.Context(), "k")
					_, _ = store.MemoryStore.Save(t.Context(), "k", doc, v)
					wait(2 * time.Second)
					down.Store(false)
				}
				for range 100 {
					_, _ = src.Token()
					wait(time.Second)
				}
				if n := s.count(); n != 1 {
					t.Errorf("asked %d times in less than two minutes, and Retry-After was five", n)
				}
			})
		})
	}
}

// TestEndIsToldOnceByAStoreThatFails: each load that failed brought another event that a login is needed.
func TestEndIsToldOnceByAStoreThatFails(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		var n atomic.Int32
		store.before = func(_ context.Context, op string) error {
			if op == "load" && n.Add(1)%5 == 4 {
				return errStoreDown
			}
			return nil
		}
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		expire(r)
		for range 600 {
			_, _ = src.Token()
			wait(time.Second)
		}
		if n := r.events.count(authtrip.EventReauthRequired); n != 1 {
			t.Errorf("%d events that a login is needed, want 1", n)
		}
	})
}

// TestLateAnswerOfAnEarlierLoginIsNotThatOfTheNext: a request of the login before came back late, and
// the refresh token of the next was sent while it was on its way.
func TestLateAnswerOfAnEarlierLoginIsNotThatOfTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
			if old.RefreshToken == "alice" {
				wait(2500 * time.Millisecond)
				return nil, errors.New("no answer")
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}
		src := &authtrip.Source{Refresher: s, Store: leaseless{new(authtrip.MemoryStore)}, Key: "k", RefreshTimeout: time.Second}
		defer src.Close()
		if err := src.SetToken(t.Context(), hourly("a", "alice")); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = src.Refresh(t.Context()) }()
		wait(900 * time.Millisecond)
		if err := src.SetToken(t.Context(), hourly("b", "bob")); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			_, _ = src.Refresh(t.Context())
			wait(100 * time.Millisecond)
		}
		if len(s.twice) > 0 {
			t.Errorf("%d times a refresh token was on its way twice at once", len(s.twice))
		}
	})
}

// TestForgetReturnsTheTokenThatComesLate: it returned the used one, and the new one stayed good at the server.
func TestForgetReturnsTheTokenThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
			wait(1500 * time.Millisecond)
			return nextToken(n, old), nil
		}}
		src := &authtrip.Source{Refresher: s, Store: new(authtrip.MemoryStore), Key: "k", RefreshTimeout: time.Second}
		defer src.Close()
		_ = src.SetToken(t.Context(), hourly("a", "alice"))
		go func() { _, _ = src.Refresh(t.Context()) }()
		wait(1200 * time.Millisecond)
		tok, err := src.Forget(t.Context())
		if err != nil || tok.RefreshToken != "alice+" {
			t.Errorf("Forget() = the used token, %v; the new one is on its way", err)
		}
	})
}

// TestPanicOfTheStoreKeepsTheTimer: a token that was not saved stayed so, as nobody tried again.
func TestPanicOfTheStoreKeepsTheTimer(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		var state atomic.Int32
		store.before = func(_ context.Context, op string) error {
			switch {
			case state.Load() == 1 && op == "save":
				return errStoreDown
			case state.Load() == 2 && op == "load":
				state.Store(3)
				panic("store")
			}
			return nil
		}
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Until: closedAfter(func() { state.Store(1) })})
		_, err := src.Token()
		wantIs(t, err, authtrip.ErrNotSaved)
		state.Store(2)
		wait(time.Minute)
		if state.Load() != 3 {
			t.Fatal("no panic")
		}
		wantLive(t, r, store)
	})
}

// TestSessionThatOwesALookIsNotDropped: the Store was down, and had lost the last write; the session that knew
// better was dropped, and the next one sent a used refresh token.
func TestSessionThatOwesALookIsNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(steps)
		var down atomic.Bool
		store.before = func(_ context.Context, op string) error {
			if down.Load() {
				return errStoreDown
			}
			return nil
		}
		s := &script{answer: func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
			return nextToken(n, old), nil
		}}
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: s, Store: store}, IdleTime: time.Minute}
		defer users.Close()
		if err := users.Source("k").SetToken(t.Context(), hourly("a", "alice")); err != nil {
			t.Fatal(err)
		}
		go func() { _ = users.Watch(t.Context()) }()
		synctest.Wait()
		before, _, _ := store.MemoryStore.Load(t.Context(), "k")
		if _, err := users.Source("k").Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		down.Store(true)
		_, v, _ := store.MemoryStore.Load(t.Context(), "k")
		_, _ = store.MemoryStore.Save(t.Context(), "k", before, v)
		wait(20*time.Minute + 15*time.Second) // a Store that fails over slowly
		down.Store(false)
		_, _ = users.Source("k").Refresh(t.Context())
		wait(time.Minute)
		_, _ = users.Source("k").Refresh(t.Context())
		seen := map[string]bool{}
		for _, rt := range s.sent {
			if seen[rt] {
				t.Errorf("a used refresh token was sent again: %v", s.sent)
			}
			seen[rt] = true
		}
	})
}

// TestLookThatJoinsARoundWhoseLoadFails: a watch counted a load of another round that had failed as its look.
func TestLookThatJoinsARoundWhoseLoadFails(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		var down atomic.Bool
		store.before = func(_ context.Context, op string) error {
			if down.Load() && op == "load" {
				return errStoreDown
			}
			return nil
		}
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		before, _, _ := store.MemoryStore.Load(t.Context(), "alice")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = src.Watch(ctx) }()
		if _, err := src.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		// Another process's marker: a refresh by hand waits for it.
		doc, v, _ := store.MemoryStore.Load(t.Context(), "alice")
		var rec map[string]any
		_ = json.Unmarshal(doc, &rec)
		rec["refresh_marker"] = map[string]any{"owner": "another"}
		doc, _ = json.Marshal(rec)
		v, _ = store.MemoryStore.Save(t.Context(), "alice", doc, v)
		wait(10 * time.Millisecond)
		go func() { _, _ = src.Refresh(ctx) }()
		wait(time.Second + 20*time.Millisecond)
		// The Store fails over, and has lost its last writes.
		down.Store(true)
		_, _ = store.MemoryStore.Save(t.Context(), "alice", before, v)
		wait(5 * time.Second)
		down.Store(false)
		wait(10 * time.Second)
		now, _, _ := store.MemoryStore.Load(t.Context(), "alice")
		if generation(t, now) != 1 {
			t.Errorf("the Store has generation %d still", generation(t, now))
		}
	})
}

// TestSecond401ThatDoesNotBlameTheToken: the token was new and good, and was refreshed again.
func TestSecond401ThatDoesNotBlameTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
			return nextToken(n, old), nil
		}}
		src := &authtrip.Source{Refresher: s}
		defer src.Close()
		_ = src.SetToken(t.Context(), hourly("a", "alice"))
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			wait(time.Second)
			resp := &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody, Request: req}
			switch {
			case req.Header.Get("Authorization") == "Bearer a":
				resp.Header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			case req.URL.Path == "/admin":
				resp.Header.Set("WWW-Authenticate", `Bearer error="insufficient_user_authentication", acr_values="gold"`)
			default:
				resp.StatusCode = http.StatusOK
			}
			return resp, nil
		})
		client := &http.Client{Transport: &authtrip.Transport{Source: src, Base: base}}
		for range 5 {
			for _, path := range []string{"/admin", "/notes"} {
				resp, err := client.Get("https://api.example" + path)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
		}
		if s.count() != 1 {
			t.Errorf("%d refreshes, want 1: the API did not reject the second token", s.count())
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFirstTokenThatDoesNotComeIsNoDoubt: with GracePeriod negative it asked for a login, and nothing was ever sent.
func TestFirstTokenThatDoesNotComeIsNoDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
			return nil, errors.New("no answer")
		}}
		src := &authtrip.Source{Refresher: s, Store: new(authtrip.MemoryStore), Key: "k", GracePeriod: -1}
		defer src.Close()
		_, err := src.Token()
		if errors.Is(err, authtrip.ErrInDoubt) || errors.Is(err, authtrip.ErrReauthRequired) {
			t.Errorf("Token() = %v, and no refresh token was sent", err)
		}
		if st := src.Status(); st.State == authtrip.StateUnknown || st.NeedsLogin() {
			t.Errorf("Status: %v, needs login: %v", st.State, st.NeedsLogin())
		}
	})
}

// TestStoreThatFailsNowAndThenKeepsNobodyWaiting: after the crash of a process that was refreshing, nobody refreshed
// as long as one load in ten seconds failed.
func TestStoreThatFailsNowAndThenKeepsNobodyWaiting(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		doc, v, _ := store.Load(t.Context(), "alice")
		var rec map[string]any
		_ = json.Unmarshal(doc, &rec)
		rec["refresh_marker"] = map[string]any{"owner": "dead"}
		doc, _ = json.Marshal(rec)
		_, _ = store.Save(t.Context(), "alice", doc, v)
		var last time.Time
		store.before = func(_ context.Context, op string) error {
			if op == "load" && time.Since(last) > 10*time.Second {
				last = time.Now()
				return errStoreDown
			}
			return nil
		}
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			if _, err := src.Token(); err == nil {
				break
			}
			wait(time.Second)
		}
		if d := time.Since(began); d > time.Minute {
			t.Errorf("no token in %v", d)
		}
	})
}

// TestCloseTakesTheMarkerBackAfterALoadThatFailed: the next start waited a span for it.
func TestCloseTakesTheMarkerBackAfterALoadThatFailed(t *testing.T) {
	srv := rotating(time.Hour)
	srv.ReuseGrace = time.Hour
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		store := new(steps)
		var fails atomic.Bool
		store.before = func(_ context.Context, op string) error {
			if op == "load" && fails.Load() {
				return errStoreDown
			}
			return nil
		}
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
		wait(time.Minute)
		fails.Store(true)
		_, _ = first.Token()
		fails.Store(false)
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

// TestErrorThatIsATypedNilIsPaced: the refresh token was sent four times for each caller, without a pause.
func TestErrorThatIsATypedNilIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: func(ctx context.Context, n int, old *oauth2.Token) (*oauth2.Token, error) {
			var err *authtrip.RefreshError
			return nextToken(n, old), err
		}}
		src := &authtrip.Source{Refresher: s, Store: new(authtrip.MemoryStore), Key: "k"}
		defer src.Close()
		_ = src.SetToken(t.Context(), hourly("a", "alice"))
		wait(2 * time.Hour)
		_, err := src.Token()
		if err == nil {
			t.Error("no error")
		}
		for range 20 {
			_, _ = src.Token()
		}
		if n := s.count(); n > 3 { // the resends of the grace period
			t.Errorf("asked %d times without a pause", n)
		}
		began := time.Now()
		_, _ = src.Forget(t.Context())
		if d := time.Since(began); d > 0 {
			t.Errorf("Forget took %v", d)
		}
	})
}

// notSaved returns a Source with a token that the Store did not take: it refuses operations
// until down is false.
func notSaved(t *testing.T, r *rig, refuses func(op string) bool) (src *authtrip.Source, down *atomic.Bool) {
	t.Helper()
	store := new(steps)
	down = new(atomic.Bool)
	store.before = func(_ context.Context, op string) error {
		if down.Load() && refuses(op) {
			return errStoreDown
		}
		return nil
	}
	src = replicas(r, 1, store)[0]
	if _, err := src.Token(); err != nil {
		t.Fatal(err)
	}
	expire(r)
	r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Until: closedAfter(func() { down.Store(true) })})
	_, err := src.Token()
	wantIs(t, err, authtrip.ErrNotSaved)
	wait(10 * time.Second)
	_, err = src.Token()
	wantIs(t, err, authtrip.ErrNotSaved)
	return src, down
}

// TestRefreshWhoseSaveComesLateIsToldAsOne: later callers were not told that it is not saved, and OnEvent that
// somebody else had refreshed it.
func TestRefreshWhoseSaveComesLateIsToldAsOne(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		src, down := notSaved(t, r, func(op string) bool { return op != "load" })
		wantIs(t, src.Status().Err, authtrip.ErrNotSaved)
		down.Store(false)
		wait(10 * time.Second)
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		if n := r.events.count(authtrip.EventTokenRefreshed); n != 1 {
			t.Errorf("events: %v", r.events.kinds())
		}
	})
}

// TestErrNotSavedStaysWhileTheStoreDoesNotAnswer: later callers got the error of the load alone.
func TestErrNotSavedStaysWhileTheStoreDoesNotAnswer(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		_, _ = notSaved(t, r, func(string) bool { return true })
	})
}

// TestRampAfterAnOutageBeginsWithOne: the first answer let 32 in at once.
func TestRampAfterAnOutageBeginsWithOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		users := crowdOf(t, e, 500)
		defer users.Close()
		e.down.Store(true)
		for range 100 {
			crowd(500, func(i int) { _, _ = users.Source(fmt.Sprint(i)).Token() })
			wait(100 * time.Millisecond)
		}
		e.most.Store(0)
		e.down.Store(false)
		began := time.Now()
		var first atomic.Int64
		var done sync.WaitGroup
		for i := range 500 {
			done.Go(func() {
				for {
					if _, err := users.Source(fmt.Sprint(i)).Token(); err == nil {
						first.CompareAndSwap(0, int64(time.Since(began)))
						return
					}
					wait(50 * time.Millisecond)
				}
			})
		}
		for first.Load() == 0 {
			wait(time.Millisecond)
		}
		wait(5 * time.Millisecond)
		if n := e.inside.Load(); n > 4 {
			t.Errorf("%d requests at once after the first that was answered", n)
		}
		done.Wait()
	})
}
