package authtrip_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// steps is a Store with hooks before and after its operations.
type steps struct {
	authtrip.MemoryStore
	before func(ctx context.Context, op string) error
	after  func(op string)
}

func (s *steps) do(ctx context.Context, op string) error {
	if s.before != nil {
		return s.before(ctx, op)
	}
	return nil
}

func (s *steps) done(op string) {
	if s.after != nil {
		s.after(op)
	}
}

func (s *steps) Load(ctx context.Context, key string) ([]byte, string, error) {
	if err := s.do(ctx, "load"); err != nil {
		return nil, "", err
	}
	defer s.done("load")
	return s.MemoryStore.Load(ctx, key)
}

func (s *steps) Save(ctx context.Context, key string, v []byte, ver string) (string, error) {
	if err := s.do(ctx, "save"); err != nil {
		return "", err
	}
	defer s.done("save")
	return s.MemoryStore.Save(ctx, key, v, ver)
}

func (s *steps) Delete(ctx context.Context, key, ver string) error {
	if err := s.do(ctx, "delete"); err != nil {
		return err
	}
	return s.MemoryStore.Delete(ctx, key, ver)
}

func (s *steps) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	if err := s.do(ctx, "lease"); err != nil {
		return nil, err
	}
	give, err := s.MemoryStore.Lease(ctx, key, ttl)
	return func(ctx context.Context) error {
		if err := s.do(ctx, "release"); err != nil {
			return err
		}
		return give(ctx)
	}, err
}

// A lease that another process released late left too little time for the refresh: the send was cut
// off, and the new token was lost.
func TestLeaseThatComesLateLeavesTimeForTheRefresh(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		release, err := store.Lease(t.Context(), "alice", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(16*time.Second, func() { _ = release(context.Background()) })
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Delay: 3 * time.Second})
		_, err = src.Token()
		if err != nil {
			t.Errorf("%v", err)
		}
		wait(time.Minute)
		if _, err := src.Token(); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// With AllowRefreshWithoutStore a Store that hangs, in place of failing, kept the caller from a token.
func TestRefreshWithoutStoreWhileTheStoreHangs(t *testing.T) {
	for name, leases := range map[string]bool{"leases": true, "leaseless": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				store := new(steps)
				src := replicas(r, 1, store)[0]
				if !leases {
					src.Store = leaseless{store}
				}
				src.AllowRefreshWithoutStore = true
				if _, err := src.Token(); err != nil {
					t.Fatal(err)
				}
				expire(r)
				store.before = func(ctx context.Context, op string) error { <-ctx.Done(); return ctx.Err() }
				_, err := src.Token()
				if err != nil {
					t.Errorf("%v", err)
				}
				r.wantTokenRequests(t, 1)
			})
		})
	}
}

// Close broke off the wait for another process's lease, and with AllowRefreshWithoutStore the
// refresh went on without it: two processes used one refresh token.
func TestClosePassesNobodysLease(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := replicas(r, 1, store)[0]
		src.AllowRefreshWithoutStore = true
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := store.Lease(t.Context(), "alice", time.Hour); err != nil {
			t.Fatal(err)
		}
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: 8 * time.Second})
		got := make(chan error, 1)
		go func() { _, err := src.Token(); got <- err }()
		synctest.Wait()
		start := time.Now()
		_ = src.Close()
		if d := time.Since(start); d > 0 {
			t.Errorf("Close() took %v", d)
		}
		wantIs(t, <-got, authtrip.ErrClosed)
		r.wantTokenRequests(t, 0)
	})
}

// A round that waited for a lease until its time was over had sent nothing, and its error was
// ErrInDoubt all the same.
func TestLeaseThatNeverComesIsNoDoubt(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := replicas(r, 1, store)[0]
		src.AllowRefreshWithoutStore = true
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := store.Lease(t.Context(), "alice", time.Hour); err != nil {
			t.Fatal(err)
		}
		_, err := src.Token()
		r.wantTokenRequests(t, 0)
		if errors.Is(err, authtrip.ErrReauthRequired) || errors.Is(err, authtrip.ErrInDoubt) {
			t.Errorf("nothing was sent, but %v", err)
		}
	})
}

// A token that the Store had not taken was saved after Forget: the session was back.
func TestForgetForgetsWhatIsUnsaved(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		src := replicas(r, 1, store)[0]
		src.AllowRefreshWithoutStore = true
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		store.before = func(ctx context.Context, op string) error { return errStoreDown }
		expire(r)
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		store.before = nil
		if _, err := src.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := src.Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		wait(time.Minute)
		_, err = src.Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		wantTombstone(t, store)
	})
}

// wantTombstone checks that the record says that the user has logged out, and no more.
func wantTombstone(t *testing.T, store authtrip.Store) {
	t.Helper()
	doc, _, err := store.Load(t.Context(), "alice")
	if err != nil || !strings.Contains(string(doc), `"logged_out":true`) || strings.Contains(string(doc), "_token") {
		t.Errorf("Load() = %q, %v, want a tombstone", doc, err)
	}
}

// Forget, between the load and the save of Initial, was undone by that save.
func TestForgetDuringAFlightStays(t *testing.T) {
	for name, late := range map[string]bool{"valid Initial": false, "expired Initial": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				store := new(steps)
				src := replicas(r, 1, store)[0]
				if late {
					expire(r)
				}
				var once atomic.Bool
				store.before = func(ctx context.Context, op string) error {
					if op == "save" && !once.Swap(true) {
						if _, err := src.Forget(context.Background()); err != nil {
							t.Error(err)
						}
					}
					return nil
				}
				_, err := src.Token()
				wantIs(t, err, authtrip.ErrReauthRequired)
				wait(time.Minute)
				_, err = src.Token()
				wantIs(t, err, authtrip.ErrReauthRequired)
				wantTombstone(t, store)
			})
		})
	}
}

// A login with a refresh token alone, during a refresh, left the waiting caller with an empty token
// or with that of the session before.
func TestLoginWithARefreshTokenAloneDuringAFlight(t *testing.T) {
	for name, same := range map[string]bool{"same Source": true, "another": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				store := new(authtrip.MemoryStore)
				all := replicas(r, 2, store)
				for _, src := range all {
					if _, err := src.Token(); err != nil {
						t.Fatal(err)
					}
				}
				expire(r)
				r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: 5 * time.Second})
				type res struct {
					tok *oauth2.Token
					err error
				}
				got := make(chan res, 1)
				go func() { tok, err := all[0].Token(); got <- res{tok, err} }()
				synctest.Wait()
				who := all[1]
				if same {
					who = all[0]
				}
				if err := who.SetToken(t.Context(), &oauth2.Token{RefreshToken: r.srv.Issue("alice").RefreshToken}); err != nil {
					t.Fatal(err)
				}
				g := <-got
				if g.err != nil || !r.srv.Valid(g.tok.AccessToken) {
					t.Errorf("Token() = %d bytes, %v; events %v", len(g.tok.AccessToken), g.err, r.events.kinds())
				}
			})
		})
	}
}

// Sources dropped a session whose refresh was in flight, and its new token, which the Store had not
// taken, was lost.
func TestSourceInFlightIsNotDropped(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		var down atomic.Bool
		store := new(steps)
		all := &authtrip.Sources{MaxSources: 2, New: func(subject string) (*authtrip.Source, error) {
			return &authtrip.Source{Refresher: r.src.Refresher, Store: store, Key: subject}, nil
		}}
		defer all.Close()
		alice := all.Source("alice")
		if err := alice.SetToken(t.Context(), r.src.Initial); err != nil {
			t.Fatal(err)
		}
		expire(r)
		store.before = func(ctx context.Context, op string) error {
			if down.Load() {
				return errStoreDown
			}
			return nil
		}
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: 5 * time.Second})
		got := make(chan error, 1)
		ctx := authtrip.WithKey(t.Context(), "alice")
		go func() { _, err := all.TokenContext(ctx); got <- err }()
		synctest.Wait()
		down.Store(true)
		for _, other := range []string{"bob", "carol", "dave"} {
			all.Source(other)
		}
		wantIs(t, <-got, authtrip.ErrNotSaved)
		down.Store(false)
		wait(30 * time.Second)
		if _, err := all.TokenContext(ctx); err != nil {
			t.Errorf("Store is back: %v", err)
		}
	})
}

// A token that the Store had not taken came back after an API had rejected it.
func TestRefusedTokenThatIsUnsavedIsReplaced(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		r.src.Store = store
		r.src.AllowRefreshWithoutStore = true
		r.mustGet(t)
		expire(r)
		store.before = func(context.Context, string) error { return errStoreDown }
		r.mustGet(t)
		tok, _ := r.src.Token()
		r.src.Invalidate(tok)
		wait(time.Minute)
		next, err := r.src.Token()
		if err != nil || next.AccessToken == tok.AccessToken {
			t.Errorf("the refused token came back, %v (events %v)", err, r.events.kinds())
		}
	})
}

// An unsaved token that was due for refresh was told as refreshed at every request.
func TestUnsavedTokenIsOneEvent(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		r.src.Store = store
		r.src.AllowRefreshWithoutStore = true
		r.mustGet(t)
		expire(r)
		store.before = func(context.Context, string) error { return errStoreDown }
		r.mustGet(t)
		wait(56 * time.Minute)
		for range 120 {
			_, _ = r.src.Token()
			wait(time.Second)
		}
		if n, reqs := r.events.count(authtrip.EventTokenRefreshed), r.srv.Counts().Token; n != reqs {
			t.Errorf("%d token_refreshed events, %d token requests", n, reqs)
		}
	})
}

// A token that an API rejected while its own round released the lease came back, as the caller
// joined that round.
func TestTokenRefusedBeforeItsFlightHasEnded(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		store.before = func(ctx context.Context, op string) error {
			if op == "release" {
				wait(2 * time.Second)
			}
			return nil
		}
		go func() { _, _ = src.Token() }()
		defer src.Close()
		wait(time.Second)
		tok, err := src.Token()
		if err != nil {
			t.Fatal(err)
		}
		src.Invalidate(tok)
		next, err := src.Token()
		if err != nil || next.AccessToken == tok.AccessToken {
			t.Errorf("the refused token came back, %v", err)
		}
	})
}

// A message of Watch made a rejected token usable again.
func TestWatchLeavesARefusedTokenRefused(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &lossy{changed: make(chan struct{}, 10)}
		all := replicas(r, 2, store)
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = all[0].Watch(ctx) }()
		tok, _ := all[0].Token()
		for _, src := range all {
			src.Invalidate(tok)
		}
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"expires_in": 20}})
		if _, err := all[1].Token(); err != nil { // the message of it is lost
			t.Fatal(err)
		}
		wait(30 * time.Second)
		store.changed <- struct{}{} // a later one is not
		synctest.Wait()
		got, err := all[0].Token()
		if err != nil || got.AccessToken == tok.AccessToken {
			t.Errorf("the refused token is served again, %v", err)
		}
	})
}

type lossy struct {
	authtrip.MemoryStore
	changed chan struct{}
}

func (s *lossy) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	c := make(chan struct{})
	go func() {
		defer close(c)
		for {
			select {
			case <-s.changed:
				select {
				case c <- struct{}{}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return c, nil
}

// A slow Store left no time to send; the refresh marker stayed, was taken for a send whose answer was
// lost, and the user had to log in.
func TestStoreThatTakesAllTheTimeCostsNoLogin(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		var slow atomic.Bool
		slow.Store(true)
		store.before = func(ctx context.Context, op string) error {
			if op == "load" && slow.Load() {
				wait(9 * time.Second)
			}
			return nil
		}
		store.after = func(op string) {
			if op == "save" && slow.Load() {
				wait(2 * time.Second)
			}
		}
		if _, err := src.Token(); errors.Is(err, authtrip.ErrReauthRequired) {
			t.Errorf("%v", err)
		}
		slow.Store(false)
		wait(time.Minute)
		if _, err := src.Token(); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// After a session had ended once, and another login, a logout in another process was not noticed: the
// token was still handed out.
func TestLogoutElsewhereAfterADeadToken(t *testing.T) {
	for name, died := range map[string]bool{"had died before": true, "never died": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				store := new(authtrip.MemoryStore)
				all := replicas(r, 2, store)
				tok, err := all[0].Token()
				if err != nil {
					t.Fatal(err)
				}
				if died {
					expire(r)
					r.srv.Revoke(tok.RefreshToken)
					_, err = all[0].Token()
					wantIs(t, err, authtrip.ErrReauthRequired)
				}
				if err := all[0].SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
					t.Fatal(err)
				}
				if _, err := all[1].Forget(t.Context()); err != nil {
					t.Fatal(err)
				}
				wait(56 * time.Minute) // ageing: looks into the Store
				_, _ = all[0].Token()
				wait(10 * time.Second)
				_, err = all[0].Token()
				wantIs(t, err, authtrip.ErrReauthRequired)
			})
		})
	}
}

// With AllowRefreshWithoutStore a record that cannot be read made the caller wait, for an
// ErrConflict.
func TestRefreshWithoutStoreOfARecordThatCannotBeRead(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := replicas(r, 1, store)[0]
		src.AllowRefreshWithoutStore = true
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		_, v, _ := store.Load(t.Context(), "alice")
		_, _ = store.Save(t.Context(), "alice", []byte(`{"format":99}`), v)
		start := time.Now()
		_, err := src.Token()
		if d := time.Since(start); d > 0 || err == nil || errors.Is(err, authtrip.ErrConflict) {
			t.Errorf("after %v: %v", d, err)
		}
	})
}

// A session that was over, or in doubt, asked the Store at every request while its access token
// was usable.
func TestSessionThatCanOnlyServeItsTokenAsksTheStoreSeldom(t *testing.T) {
	for name, fault := range map[string]authtriptest.Fault{
		"no": {Error: "invalid_grant"}, "doubt": {Reset: true, Early: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				store := new(steps)
				var loads atomic.Int32
				store.before = func(_ context.Context, op string) error {
					if op == "load" {
						loads.Add(1)
					}
					return nil
				}
				src := replicas(r, 1, store)[0]
				if _, err := src.Token(); err != nil {
					t.Fatal(err)
				}
				wait(56 * time.Minute)
				r.srv.FailAlways(authtriptest.TokenPath, fault)
				_, _ = src.Token()
				wait(40 * time.Second)
				loads.Store(0)
				for range 1000 {
					if _, err := src.Token(); err != nil {
						t.Fatal(err)
					}
					wait(10 * time.Millisecond)
				}
				if n := loads.Load(); n > 20 {
					t.Errorf("loads in 10 s: %d", n)
				}
				expire(r)
				if _, err := src.Token(); err == nil {
					t.Error("the token has expired: no error")
				}
				if n := r.events.count(authtrip.EventReauthRequired); name == "no" && n != 1 {
					t.Errorf("%d events that a login is needed, want 1", n)
				}
			})
		})
	}
}

// A login with a refresh token alone, while a request with the old one hung, was in doubt for
// seconds: that request may still be answered, but it is not the new one's.
func TestLoginWhileASendHangsIsUsedAtOnce(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		src := replicas(r, 1, new(authtrip.MemoryStore))[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Hour})
		go func() { _, _ = src.Token() }()
		wait(9 * time.Second)
		if err := src.SetToken(t.Context(), &oauth2.Token{RefreshToken: r.srv.Issue("bob").RefreshToken}); err != nil {
			t.Fatal(err)
		}
		wait(2 * time.Second)
		if _, err := src.Token(); err != nil {
			t.Errorf("%v", err)
		}
	})
}
