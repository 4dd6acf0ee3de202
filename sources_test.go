package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
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

// many makes a client for many users; New logs each of them in.
func many(r *rig, store authtrip.Store) (*authtrip.Sources, *atomic.Int32) {
	made := new(atomic.Int32)
	all := &authtrip.Sources{New: func(subject string) (*authtrip.Source, error) {
		made.Add(1)
		return &authtrip.Source{Refresher: r.src.Refresher, Initial: r.srv.Issue(subject), Store: store, Key: subject}, nil
	}}
	r.transport.Source = all
	return all, made
}

func TestEachRequestCarriesTheTokenOfItsKey(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all, _ := many(r, new(authtrip.MemoryStore))
		defer func() { _ = all.Close() }()
		tokens := new(sync.Map)
		crowd(200, func(i int) {
			subject := fmt.Sprint("user", i%20)
			ctx := authtrip.WithKey(t.Context(), subject)
			if status, err := r.get(ctx); status != http.StatusOK {
				t.Errorf("%s: %d, %v", subject, status, err)
			}
			tok, err := all.TokenContext(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			if other, loaded := tokens.LoadOrStore(tok.AccessToken, subject); loaded && other != subject {
				t.Errorf("%s and %s got the same token", other, subject)
			}
		})
		r.srv.RevokeAll()
		crowd(200, func(i int) {
			if status, err := r.get(authtrip.WithKey(t.Context(), fmt.Sprint("user", i%20))); status != http.StatusOK {
				t.Errorf("user %d after the revocation: %d, %v", i%20, status, err)
			}
		})
		r.wantTokenRequests(t, 20)
	})
}

func TestRequestWithoutKeyIsAnError(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		many(r, new(authtrip.MemoryStore))
		if _, err := r.get(t.Context()); err == nil || !strings.Contains(err.Error(), "WithKey") {
			t.Errorf("error = %v, want one that says what to do", err)
		}
		r.transport.Source = &authtrip.Sources{}
		if _, err := r.get(authtrip.WithKey(t.Context(), "a")); err == nil || !strings.Contains(err.Error(), "Source.Refresher is nil") {
			t.Errorf("error = %v, want one that names the field", err)
		}
		r.transport.Source = &authtrip.Sources{New: func(string) (*authtrip.Source, error) { return &authtrip.Source{}, nil }}
		if _, err := r.get(authtrip.WithKey(t.Context(), "a")); err == nil || !strings.Contains(err.Error(), "Store") {
			t.Errorf("error = %v, want one that asks for a Store", err)
		}
	})
}

func TestSlowUserDelaysNoOther(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		many(r, new(authtrip.MemoryStore))
		slow := authtrip.WithKey(t.Context(), "slow")
		if _, err := r.get(slow); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: 5 * time.Second})
		done := make(chan error)
		go func() {
			_, err := r.get(slow)
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		crowd(100, func(i int) {
			if _, err := r.get(authtrip.WithKey(t.Context(), fmt.Sprint("fast", i))); err != nil {
				t.Error(err)
			}
		})
		if waited := time.Since(start); waited != 0 {
			t.Errorf("others waited %v", waited)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestIdleSourcesAreDroppedAndComeBackFromTheStore(t *testing.T) {
	inBubble(t, rotating(24*time.Hour), nil, func(t *testing.T, r *rig) {
		all, made := many(r, new(authtrip.MemoryStore))
		idle := authtrip.WithKey(t.Context(), "idle")
		busy := authtrip.WithKey(t.Context(), "busy")
		before, err := all.TokenContext(idle)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			if _, err := all.TokenContext(busy); err != nil {
				t.Fatal(err)
			}
			wait(time.Minute)
		}
		if got := made.Load(); got != 2 {
			t.Errorf("sources made = %d, want 2: the busy one stays", got)
		}
		after, err := all.TokenContext(idle)
		if err != nil || made.Load() != 3 {
			t.Fatalf("sources made = %d (%v), want 3: the idle one was dropped", made.Load(), err)
		}
		if before.AccessToken != after.AccessToken {
			t.Error("the idle subject's token was not found in the store again")
		}
		r.wantTokenRequests(t, 0)
	})
}

func TestSourcesStayUnderTheirCap(t *testing.T) {
	const limit, subjects = 1000, 20_000
	var live atomic.Int64
	store := new(authtrip.MemoryStore)
	all := &authtrip.Sources{MaxSources: limit, New: func(subject string) (*authtrip.Source, error) {
		src := &authtrip.Source{Refresher: authtrip.FromTokenSource(new(authtriptest.Source)), Store: store, Key: subject}
		live.Add(1)
		runtime.AddCleanup(src, func(*atomic.Int64) { live.Add(-1) }, &live)
		return src, nil
	}}
	crowd(8, func(g int) {
		for i := range subjects / 8 {
			if _, err := all.TokenContext(authtrip.WithKey(t.Context(), fmt.Sprint(g, "/", i))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for deadline := time.Now().Add(20 * time.Second); live.Load() > limit; {
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("sources in memory = %d, want at most %d", live.Load(), limit)
		}
	}
	runtime.KeepAlive(all)
}

func TestSourceWithAnUnsavedTokenIsNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		r := newRig(t, rotating(time.Hour), nil)
		all, made := many(r, store)
		ctx := authtrip.WithKey(t.Context(), "alice")
		if _, err := all.TokenContext(ctx); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Until: closedAfter(func() { store.down.Store(true) })})
		_, err := all.TokenContext(ctx)
		wantIs(t, err, authtrip.ErrNotSaved)
		before := made.Load()
		wait(time.Hour)
		store.down.Store(false)
		wait(time.Minute)
		if _, err := all.TokenContext(ctx); err != nil {
			t.Errorf("the rotated token is lost: %v", err)
		}
		if got := made.Load(); got != before {
			t.Errorf("sources made = %d, want %d: the one with the token stays", got, before)
		}
		r.wantTokenRequests(t, 2)
	})
}

func TestClosedSourcesLeaveNothingBehind(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all, _ := many(r, new(authtrip.MemoryStore))
		ctx := authtrip.WithKey(t.Context(), "alice")
		if _, err := r.get(ctx); err != nil {
			t.Fatal(err)
		}
		if err := all.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := all.TokenContext(ctx)
		wantIs(t, err, authtrip.ErrClosed)
	})
}

func TestKeyFunctionChooses(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all, _ := many(r, new(authtrip.MemoryStore))
		refused := errors.New("no session")
		all.Key = func(ctx context.Context) (string, error) {
			if ctx.Value("session") == nil {
				return "", refused
			}
			return "alice", nil
		}
		_, err := r.get(t.Context())
		wantIs(t, err, refused)
		if _, err := r.get(context.WithValue(t.Context(), "session", 1)); err != nil { //nolint:staticcheck // a key of this test alone
			t.Error(err)
		}
	})
}

// BenchmarkSources reports what a subject costs in memory beyond the bytes of its
// tokens, and what a request costs among so many.
func BenchmarkSources(b *testing.B) {
	for _, subjects := range []int{1, 10_000, 100_000} {
		b.Run(fmt.Sprint(subjects), func(b *testing.B) {
			access, refresh := strings.Repeat("a", 900), strings.Repeat("r", 100)
			doc := fmt.Appendf(nil, `{"format":1,"access_token":%q,"token_type":"Bearer","refresh_token":%q,"obtained_at":%q,"expiry":%q}`,
				access, refresh, time.Now().Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
			all := &authtrip.Sources{MaxSources: 2 * subjects, New: func(subject string) (*authtrip.Source, error) {
				return &authtrip.Source{Refresher: new(authtrip.Grant), Store: oneRecord(doc), Key: subject}, nil
			}}
			contexts := make([]context.Context, subjects)
			for i := range contexts {
				contexts[i] = authtrip.WithKey(b.Context(), fmt.Sprint("user", i))
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for _, ctx := range contexts {
				if _, err := all.TokenContext(ctx); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			each := float64(after.HeapAlloc-before.HeapAlloc)/float64(subjects) - float64(len(access)+len(refresh))
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := all.TokenContext(contexts[i%subjects]); err != nil {
					b.Fatal(err)
				}
				i += 7919
			}
			b.ReportMetric(each, "B/subject")
		})
	}
}

// oneRecord is a Store in which every key holds the same.
type oneRecord []byte

func (r oneRecord) Load(context.Context, string) ([]byte, string, error) { return r, "1", nil }
func (r oneRecord) Save(context.Context, string, []byte, string) (string, error) {
	return "", authtrip.ErrConflict
}
func (r oneRecord) Delete(context.Context, string, string) error { return authtrip.ErrConflict }

// Close took two and a half seconds for each session that was unsaved, while the Store hung.
func TestCloseSavesAllSessionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(steps)
		users := &authtrip.Sources{Each: authtrip.Source{Store: store, AllowRefreshWithoutStore: true, Refresher: authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			return &oauth2.Token{AccessToken: "new", RefreshToken: old.RefreshToken + "+", Expiry: time.Now().Add(time.Hour)}, nil
		})}}
		for i := range 20 {
			if err := users.Source(fmt.Sprint(i)).SetToken(t.Context(), &oauth2.Token{RefreshToken: "r"}); err != nil {
				t.Fatal(err)
			}
		}
		store.before = func(ctx context.Context, op string) error { <-ctx.Done(); return ctx.Err() }
		crowd(20, func(i int) {
			if _, err := users.Source(fmt.Sprint(i)).Token(); err != nil {
				t.Error(err)
			}
		})
		start := time.Now()
		users.Close()
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("Close() took %v", d)
		}
	})
}

// A handle that was kept acted on a session that had been dropped from memory: after a login by it, requests
// still carried the old token.
func TestKeptHandleFollowsItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Pointer[error]
		users := &authtrip.Sources{Each: authtrip.Source{Store: new(authtrip.MemoryStore), Refresher: counted(&fail)}}
		kept := users.Source("alice")
		tok := func(name string) *oauth2.Token {
			return &oauth2.Token{AccessToken: name, RefreshToken: "r" + name, Expiry: time.Now().Add(24 * time.Hour)}
		}
		if err := kept.SetToken(t.Context(), tok("first")); err != nil {
			t.Fatal(err)
		}
		ctx := authtrip.WithKey(t.Context(), "alice")
		same := func(what string) {
			t.Helper()
			wait(time.Hour) // the session is dropped
			got, err := users.TokenContext(ctx)
			mine, mineErr := kept.TokenContext(t.Context())
			if err != nil || mineErr != nil || got != mine {
				t.Errorf("after %s: the handle has another token than the requests (%v, %v)", what, err, mineErr)
			}
		}
		same("a login")
		if err := kept.SetToken(t.Context(), tok("second")); err != nil {
			t.Fatal(err)
		}
		same("another login")
		if _, err := kept.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		same("a refresh")
		old, err := kept.Token()
		if err != nil {
			t.Fatal(err)
		}
		wait(time.Hour)
		kept.Invalidate(old)
		if got, err := users.TokenContext(ctx); err != nil || got.AccessToken == old.AccessToken {
			t.Errorf("after Invalidate the requests carry the rejected token (%v)", err)
		}
		wait(time.Hour)
		old, err = users.TokenContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		users.Source("alice").Invalidate(old) // one that was not used before
		if got, err := users.TokenContext(ctx); err == nil && got == old {
			t.Error("after Invalidate by a new handle the requests carry the rejected token")
		}
		wait(time.Hour)
		_, _ = users.TokenContext(ctx)
		if _, err := kept.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = users.TokenContext(ctx)
		wantIs(t, err, authtrip.ErrLoggedOut)
		if st := kept.Status(); st.State != authtrip.StateLoggedOut {
			t.Errorf("Status().State = %s", st.State)
		}
		_ = users.Close()
		_, err = kept.Token()
		wantIs(t, err, authtrip.ErrClosed)
		wantIs(t, kept.Status().Err, authtrip.ErrClosed)
	})
}

// A New that had failed once failed for ever for those who had the handle.
func TestHandleAsksNewAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Pointer[error]
		down := errors.New("down")
		broken := true
		users := &authtrip.Sources{New: func(key string) (*authtrip.Source, error) {
			if broken {
				return nil, down
			}
			return &authtrip.Source{Store: new(authtrip.MemoryStore), Key: key, Refresher: counted(&fail)}, nil
		}}
		defer users.Close()
		kept := users.Source("alice")
		wantIs(t, kept.SetToken(t.Context(), &oauth2.Token{AccessToken: "a"}), down)
		broken = false
		if err := kept.SetToken(t.Context(), &oauth2.Token{AccessToken: "a"}); err != nil {
			t.Errorf("SetToken() = %v", err)
		}
	})
}

// A session in doubt stayed in memory until its user came back.
func TestSessionsInDoubtDoNotPileUp(t *testing.T) {
	for _, lost := range []error{errors.New("connection reset"), status(http.StatusBadGateway)} {
		synctest.Test(t, func(t *testing.T) {
			var made atomic.Int32
			var fail atomic.Pointer[error]
			store := new(authtrip.MemoryStore)
			users := &authtrip.Sources{New: func(key string) (*authtrip.Source, error) {
				made.Add(1)
				return &authtrip.Source{Store: store, Key: key, Refresher: counted(&fail)}, nil
			}}
			defer users.Close()
			ctx := authtrip.WithKey(t.Context(), "alice")
			if err := users.Source("alice").SetToken(t.Context(), &oauth2.Token{RefreshToken: "r"}); err != nil {
				t.Fatal(err)
			}
			failing(&fail, lost)
			_, err := users.TokenContext(ctx)
			wantIs(t, err, authtrip.ErrInDoubt)
			before := made.Load()
			wait(time.Hour)
			fail.Store(nil)
			if _, err := users.TokenContext(ctx); err != nil {
				t.Errorf("TokenContext() = %v", err)
			}
			if made.Load() == before {
				t.Error("the session was not dropped")
			}
		})
	}
}

// It forgets nothing: who comes back before the access token has expired does not send the
// refresh token that may be used.
func TestDroppedDoubtIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		users := &authtrip.Sources{Each: authtrip.Source{GracePeriod: time.Nanosecond, Store: new(authtrip.MemoryStore), Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			asked.Add(1)
			return nil, errors.New("connection reset")
		})}}
		defer users.Close()
		ctx := authtrip.WithKey(t.Context(), "alice")
		if err := users.Source("alice").SetToken(t.Context(), &oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now().Add(10 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		_, _ = users.Source("alice").Refresh(t.Context())
		wait(time.Minute)
		wait(9*time.Hour + 56*time.Minute) // it is due for refresh, and dropped
		before := asked.Load()
		for range 10 {
			if _, err := users.TokenContext(ctx); err != nil {
				t.Errorf("TokenContext() = %v", err)
			}
			wait(10 * time.Second)
		}
		if n := asked.Load() - before; n != 0 {
			t.Errorf("the refresh token was sent %d times more", n)
		}
	})
}

// TestADroppedSessionPutsBackWhatTheStoreLoses: a session in doubt was dropped from memory
// with its next look at the Store, and what the Store lost then was lost for good.
func TestADroppedSessionPutsBackWhatTheStoreLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(authtrip.MemoryStore)
		users := &authtrip.Sources{Each: authtrip.Source{GracePeriod: time.Nanosecond, Store: store, Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			return nil, errors.New("connection reset")
		})}}
		defer users.Close()
		if err := users.Source("alice").SetToken(t.Context(), &oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now().Add(10 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		_, err := users.Source("alice").Refresh(t.Context())
		wantIs(t, err, authtrip.ErrInDoubt)
		wait(time.Hour) // it is dropped
		_, version, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Delete(t.Context(), "alice", version); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		if _, _, err := store.Load(t.Context(), "alice"); err != nil {
			t.Errorf("Load() = %v a minute after the Store lost the record", err)
		}
	})
}
