package authtrip_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// This file has what somebody is told who has to wait: why, and until when.

// TestOutageOfOthersIsNoDoubtOfMine: a refresh by hand said that the refresh token had been
// sent before, to a session of which nothing was ever sent; and its Status said that an
// attempt was due which was turned down at once.
func TestOutageOfOthersIsNoDoubtOfMine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		users := crowdOf(t, e, 20)
		defer users.Close()
		e.down.Store(true)
		turnedDown := 0
		for n := range 300 {
			_, _ = users.Source(fmt.Sprint(n % 5)).Token()
			before := e.asked.Load()
			_, err := users.Source("19").Refresh(t.Context())
			if e.asked.Load() == before && err != nil {
				turnedDown++
				if errors.Is(err, authtrip.ErrInDoubt) {
					t.Fatalf("Refresh() = %v, and nothing was sent", err)
				}
				if re, ok := errors.AsType[*authtrip.RefreshError](err); !ok || re.StatusCode != http.StatusServiceUnavailable {
					t.Fatalf("Refresh() = %v, want what the endpoint says", err)
				}
				if st := users.Source("19").Status(); st.NextAttempt.IsZero() {
					t.Fatalf("Status().NextAttempt is zero after %v", err)
				}
			}
			wait(200 * time.Millisecond)
		}
		if turnedDown < 100 {
			t.Errorf("turned down %d times of 300: the endpoint is down", turnedDown)
		}
	})
}

// TestFirstTokenThatIsOnItsWayIsNoDoubt: nothing that could be used twice was sent.
func TestFirstTokenThatIsOnItsWayIsNoDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		src := &authtrip.Source{Refresher: asking(func(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) {
			asked.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		})}
		defer src.Close()
		if _, err := src.Token(); err == nil {
			t.Fatal("a token came from a server that hangs")
		}
		wait(1500 * time.Millisecond) // its answer would still be used
		_, err := src.Token()
		if err == nil || errors.Is(err, authtrip.ErrInDoubt) {
			t.Errorf("Token() error = %v", err)
		}
		if st := src.Status(); st.NextAttempt.IsZero() {
			t.Error("Status().NextAttempt is zero, and nobody asks before the answer cannot come any more")
		}
		wait(time.Second)
		if _, _ = src.Token(); asked.Load() != 2 {
			t.Errorf("asked %d times, want once more two seconds after the time-out", asked.Load())
		}
	})
}

// TestEndThatAnotherProcessFoundIsTold: it was known here already, and who refreshed by hand
// was told of the doubt before it.
func TestEndThatAnotherProcessFoundIsTold(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		all := replicas(r, 2, store)
		for _, src := range all {
			src.GracePeriod = time.Nanosecond
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Status: 502})
		for _, src := range all {
			_, err := src.Refresh(t.Context())
			wantIs(t, err, authtrip.ErrInDoubt)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = all[1].Watch(ctx) }()
		wait(time.Second)
		doc, version, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		var rec map[string]any
		if err := json.Unmarshal(doc, &rec); err != nil {
			t.Fatal(err)
		}
		delete(rec, "refresh_marker")
		delete(rec, "refresh_token")
		rec["ended"] = map[string]any{"error": "invalid_grant", "status": 400}
		doc, _ = json.Marshal(rec)
		if _, err := store.Save(t.Context(), "alice", doc, version); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		_, err = all[1].Refresh(t.Context())
		wantIs(t, err, authtrip.ErrReauthRequired)
	})
}

// TestWhoJoinsALookGetsATokenOfHisOwn: a look at the Store found nothing, as nobody had asked
// for a token yet, and whoever had joined it was told to try again.
func TestWhoJoinsALookGetsATokenOfHisOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(steps)
		store.before = func(_ context.Context, op string) error {
			if op == "load" {
				wait(time.Second)
			}
			return nil
		}
		var asked atomic.Int32
		src := &authtrip.Source{Store: store, Key: "service", Refresher: asking(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			return &oauth2.Token{AccessToken: fmt.Sprint("token-", asked.Add(1)), Expiry: time.Now().Add(time.Hour)}, nil
		})}
		defer src.Close()
		crowd(200, func(i int) {
			wait(time.Duration(i) * 10 * time.Millisecond)
			ask := (*authtrip.Source).TokenContext
			if i%2 == 0 {
				ask = (*authtrip.Source).Refresh // which looks first
			}
			if _, err := ask(src, t.Context()); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	})
}

// TestTokenRejectedDuringARoundForNobody: whoever joins it needs another token, and the round
// sees that the one before is of no use any more.
func TestTokenRejectedDuringARoundForNobody(t *testing.T) {
	for name, ask := range map[string]func(*authtrip.Source, context.Context) (*oauth2.Token, error){
		"Token": (*authtrip.Source).TokenContext, "Refresh": (*authtrip.Source).Refresh,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				store := new(steps)
				store.before = func(_ context.Context, op string) error {
					if op == "load" {
						wait(time.Second)
					}
					return nil
				}
				src := replicas(r, 1, store)[0]
				src.GracePeriod = time.Nanosecond
				if _, err := src.Token(); err != nil {
					t.Fatal(err)
				}
				r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Status: 502})
				_, err := src.Refresh(t.Context())
				wantIs(t, err, authtrip.ErrInDoubt)
				wait(57 * time.Minute)
				old, err := src.Token() // which is due: a round begins beside it
				if err != nil {
					t.Fatal(err)
				}
				wait(500 * time.Millisecond)
				src.Invalidate(old)
				if tok, err := ask(src, t.Context()); err != nil || tok.AccessToken == old.AccessToken {
					t.Errorf("error = %v, want another token", err)
				}
			})
		})
	}
}

// TestCloseKeepsTheMarkerOfAnother: it may be sending.
func TestCloseKeepsTheMarkerOfAnother(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Reset: true})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := src.Refresh(ctx); err == nil {
			t.Fatal("a token came without an answer")
		}
		wait(30 * time.Second) // the round has ended
		doc, version, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		var rec map[string]any
		if err := json.Unmarshal(doc, &rec); err != nil {
			t.Fatal(err)
		}
		rec["refresh_marker"] = map[string]any{"owner": "another", "outcome_unknown": true}
		doc, _ = json.Marshal(rec)
		if _, err := store.Save(t.Context(), "alice", doc, version); err != nil {
			t.Fatal(err)
		}
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
		if doc, _, _ = store.Load(t.Context(), "alice"); !strings.Contains(string(doc), `"owner":"another"`) {
			t.Error("the marker of another process is gone")
		}
	})
}

// TestLongestRefreshTimeout: with one of centuries the time that others wait was negative.
func TestLongestRefreshTimeout(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		src := replicas(r, 1, new(authtrip.MemoryStore))[0]
		src.RefreshTimeout = math.MaxInt64
		expire(r)
		if _, err := src.Token(); err != nil {
			t.Errorf("Token() = %v", err)
		}
	})
}

// TestLookThatHangsIsMadeAgainSoon: a look at the Store that hung took as long as a refresh
// may, and so long what the Store had lost was not put back.
func TestLookThatHangsIsMadeAgainSoon(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		var hangs atomic.Int32
		store.before = func(ctx context.Context, op string) error {
			if op != "load" || !hangs.CompareAndSwap(1, 0) {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		old, _, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, version, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = src.Watch(ctx) }()
		wait(time.Second)
		hangs.Store(1)
		if _, err := store.MemoryStore.Save(t.Context(), "alice", old, version); err != nil {
			t.Fatal(err)
		}
		wait(4 * time.Second)
		now, _, err := store.MemoryStore.Load(t.Context(), "alice")
		if err != nil || generation(t, now) != 1 {
			t.Errorf("the Store has generation %d, %v, want 1 again", generation(t, now), err)
		}
	})
}

// TestGatesAreDroppedWithTheirSessions: where each session had a Refresher of its own, what
// was known of its token endpoint stayed for ever.
func TestGatesAreDroppedWithTheirSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(authtrip.MemoryStore)
		users := &authtrip.Sources{MaxSources: 10, New: func(key string) (*authtrip.Source, error) {
			return &authtrip.Source{Refresher: new(endpoint), Store: store, Key: key}, nil
		}}
		defer users.Close()
		for i := range 200 {
			if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), &oauth2.Token{AccessToken: "a", Expiry: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		if n := users.Gates(); n > 20 {
			t.Errorf("%d gates for 10 sessions", n)
		}
	})
}
