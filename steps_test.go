package authtrip_test

import (
	"context"
	"errors"
	"math/rand/v2"
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

// Lease gotten late leaves no time for the refresh.
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

// Allow + hanging store.
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

// C: Close with AllowRefreshWithoutStore while another has the lease.
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

// Another process holds the lease for longer than the flight.
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

// D: Forget of an unsaved token is undone.
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

// E: Forget between a flight's read and its Save of Initial.
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

// F: SetToken with a refresh token alone during a flight.
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

// G: Sources drops a Source in flight, whose token is then not saved.
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

// Unsaved token refused while Store is down.
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

// Events of an ageing unsaved token.
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

// Refused while the lease is being released.
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

// J: Watch un-refuses.
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

// Nothing was sent as the Store took all the time; a mark is left.
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

// Dead once, new login, forgotten elsewhere: still served when the deletion has been seen.
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

// M: Allow + unreadable record: how long does the caller block, and what error?
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

// The Store fails, before and after it has done what it was asked; the server never
// does.
func TestStoresThatFailAtEveryStepCostNoLogin(t *testing.T) {
	for _, leases := range []bool{true, false} {
		for seed := range uint64(8) {
			inBubble(t, rotating(time.Minute), nil, func(t *testing.T, r *rig) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				var mu sync.Mutex
				n := func(k int) int { mu.Lock(); defer mu.Unlock(); return rnd.IntN(k) }
				inner := new(authtrip.MemoryStore)
				var off atomic.Bool
				mk := func() authtrip.Store {
					s := &chaos{MemoryStore: inner, n: n, off: &off}
					if !leases {
						return leaseless{s}
					}
					return s
				}
				all := make([]*authtrip.Source, 6)
				for i := range all {
					all[i] = &authtrip.Source{Refresher: r.src.Refresher, Initial: r.src.Initial, Key: "alice", Store: mk(), GracePeriod: authtrip.GraceForever}
				}
				for i := range 3 { // variants
					all[3+i].Variant = []string{"", "a", "b"}[i]
				}
				for i := range all {
					defer all[i].Close()
				}
				crowd(len(all)*4, func(i int) {
					src := all[i%len(all)]
					for range 200 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+n(20))*time.Second)
						start := time.Now()
						tok, err := src.TokenContext(ctx)
						if d := time.Since(start); d > 21*time.Second {
							t.Errorf("blocked %v", d)
						}
						cancel()
						if err == nil {
							if !r.srv.Valid(tok.AccessToken) {
								t.Errorf("seed %d: not valid", seed)
							} else if n(20) == 0 {
								src.Invalidate(tok)
							}
						} else if errors.Is(err, authtrip.ErrReauthRequired) {
							t.Errorf("seed %d leases %v: %v", seed, leases, err)
							return
						}
						wait(time.Duration(n(3000)) * time.Millisecond)
					}
				})
				off.Store(true)
				wait(2 * time.Minute)
				for i, src := range all {
					if _, err := src.Token(); err != nil {
						t.Errorf("seed %d leases %v: source %d at the end: %v", seed, leases, i, err)
					}
				}
				if c := r.srv.Counts(); c.Reuses != 0 || c.Overlaps != 0 || c.FamiliesRevoked != 0 {
					t.Errorf("seed %d leases %v: %+v", seed, leases, c)
				}
			})
		}
	}
}

type chaos struct {
	*authtrip.MemoryStore
	n   func(int) int
	off *atomic.Bool
}

func (s *chaos) fail() bool {
	wait(time.Duration(s.n(50)) * time.Millisecond)
	return !s.off.Load() && s.n(8) == 0
}

func (s *chaos) Load(ctx context.Context, key string) ([]byte, string, error) {
	if s.fail() {
		return nil, "", errStoreDown
	}
	return s.MemoryStore.Load(ctx, key)
}

func (s *chaos) Save(ctx context.Context, key string, v []byte, ver string) (string, error) {
	if s.fail() {
		return "", errStoreDown
	}
	ver, err := s.MemoryStore.Save(ctx, key, v, ver)
	if err == nil && s.fail() {
		return "", errStoreDown
	}
	return ver, err
}

func (s *chaos) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	if s.fail() {
		return nil, errStoreDown
	}
	give, err := s.MemoryStore.Lease(ctx, key, ttl)
	if err == nil && s.fail() {
		return func(context.Context) error { return nil }, nil // never released
	}
	return give, err
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
