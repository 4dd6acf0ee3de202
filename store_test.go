package authtrip_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// leaseless is a Store that is shared and has no leases.
type leaseless struct{ authtrip.Store }

// replicas makes n Sources of one user on one store, as so many processes would.
func replicas(r *rig, n int, store authtrip.Store) []*authtrip.Source {
	all := make([]*authtrip.Source, n)
	for i := range all {
		all[i] = &authtrip.Source{Refresher: r.src.Refresher, Initial: r.src.Initial, Key: "alice", Store: store, OnEvent: r.events.add}
	}
	r.others = append(r.others, all...)
	return all
}

func TestReplicasOfOneGrantMakeOneTokenRequest(t *testing.T) {
	for name, store := range map[string]func() authtrip.Store{
		"with leases":    func() authtrip.Store { return new(authtrip.MemoryStore) },
		"without leases": func() authtrip.Store { return leaseless{new(authtrip.MemoryStore)} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				all := replicas(r, 8, store())
				expire(r)
				r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: 3 * time.Second})
				crowd(8*50, func(i int) {
					if _, err := all[i%8].TokenContext(t.Context()); err != nil {
						t.Error(err)
					}
				})
				r.wantTokenRequests(t, 1)
				if c := r.srv.Counts(); c.Overlaps != 0 || c.Reuses != 0 || c.FamiliesRevoked != 0 {
					t.Errorf("overlaps %d, reuses %d, families revoked %d, want none", c.Overlaps, c.Reuses, c.FamiliesRevoked)
				}
			})
		})
	}
}

func TestReplicasKeepInStepOverManyLifetimes(t *testing.T) {
	inBubble(t, rotating(time.Minute), nil, func(t *testing.T, r *rig) {
		all := replicas(r, 8, new(authtrip.MemoryStore))
		const lives = 50
		crowd(len(all), func(i int) {
			for range lives * 60 {
				if tok, err := all[i].TokenContext(t.Context()); err != nil || !r.srv.Valid(tok.AccessToken) {
					t.Errorf("replica %d: %v", i, err)
					return
				}
				wait(time.Second)
			}
		})
		if c := r.srv.Counts(); c.Token > lives*3/2 || c.Reuses != 0 || c.FamiliesRevoked != 0 {
			t.Errorf("token requests %d in %d lifetimes, reuses %d, families revoked %d", c.Token, lives, c.Reuses, c.FamiliesRevoked)
		}
	})
}

// TestCrashBetweenAnswerAndSave: a process is killed after the server has
// answered and before the answer is stored. The next one sees the mark.
func TestCrashBetweenAnswerAndSave(t *testing.T) {
	for _, tt := range []struct {
		name  string
		grace time.Duration
		after time.Duration
		login bool // is still there
	}{
		{"restarted inside the server's grace", 30 * time.Second, time.Second, true},
		{"restarted after the window", 30 * time.Second, time.Minute, false},
		{"server without grace", 0, time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := rotating(time.Hour)
			srv.ReuseGrace = tt.grace
			inBubble(t, srv, nil, func(t *testing.T, r *rig) {
				store := &killedStore{after: 2} // Initial, the mark, and no more
				first := replicas(r, 1, store)[0]
				r.mustGet(t)
				if _, err := first.Token(); err != nil {
					t.Fatal(err)
				}
				expire(r)
				_, err := first.Token()
				wantIs(t, err, authtrip.ErrNotSaved)

				wait(tt.after)
				second := replicas(r, 1, &store.MemoryStore)[0]
				_, err = second.Token()
				if tt.login && err != nil {
					t.Errorf("restarted: %v, want a token", err)
				}
				if !tt.login {
					wantIs(t, err, authtrip.ErrReauthRequired)
				}
			})
		})
	}
}

// killedStore takes a number of saves, and none after it.
type killedStore struct {
	authtrip.MemoryStore
	after int
}

func (s *killedStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if s.after == 0 {
		return "", errStoreDown
	}
	s.after--
	return s.MemoryStore.Save(ctx, key, value, version)
}

// TestLosersInvalidGrantKeepsTheWinnersToken is pain 7: the answer to a spent
// token must not remove what replaced it.
func TestLosersInvalidGrantKeepsTheWinnersToken(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		all := replicas(r, 2, store)
		if _, err := all[0].Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: 5 * time.Second, Error: "invalid_grant"})
		got := make(chan error)
		go func() {
			tok, err := all[0].Token()
			if err == nil && !r.srv.Valid(tok.AccessToken) {
				t.Error("the loser returned a token that is not valid")
			}
			got <- err
		}()
		synctest.Wait()
		login := r.srv.Issue("alice")
		if err := all[1].SetToken(t.Context(), login); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Errorf("the loser failed: %v", err)
		}
		value, _, err := store.Load(t.Context(), "alice")
		if err != nil || !strings.Contains(string(value), login.RefreshToken) {
			t.Errorf("the winner's token is gone: %v", err)
		}
	})
}

func TestForgetReturnsATokenThatHasEndedWithoutRefreshingIt(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		all := replicas(r, 2, store)
		if _, err := all[0].Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		again := &authtrip.Source{Refresher: r.src.Refresher, Key: "alice", Store: store}
		removed, err := again.Forget(t.Context())
		if err != nil || removed == nil || removed.RefreshToken != r.src.Initial.RefreshToken {
			t.Errorf("Forget() = not the stored token, %v", err)
		}
		removed, err = again.Forget(t.Context())
		if removed != nil || err != nil {
			t.Errorf("Forget() again = a token, or %v; want nil, nil", err)
		}
		r.wantTokenRequests(t, 0)
	})
}

// A lease says that somebody is busy with the refresh token, and nothing of the
// access token.
func TestGoodTokenInTheStoreIsUsedWhileAnotherProcessHasTheLease(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		all := replicas(r, 2, store)
		if _, err := all[0].Token(); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Lease(t.Context(), "alice", time.Hour); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := all[1].Token(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("a new process got the stored token after %v, want at once", d)
		}
		r.wantTokenRequests(t, 0)
	})
}

func TestCloseDoesNotWaitForAnotherProcess(t *testing.T) {
	for name, store := range map[string]authtrip.Store{
		"with leases":    new(authtrip.MemoryStore),
		"without leases": leaseless{new(authtrip.MemoryStore)},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				all := replicas(r, 2, store)
				expire(r)
				r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: 8 * time.Second})
				for _, src := range all {
					go func() { _, _ = src.Token() }()
					synctest.Wait()
				}
				got := make(chan error, 1)
				go func() {
					_, err := all[1].Token()
					got <- err
				}()
				synctest.Wait()
				start := time.Now()
				_ = all[1].Close()
				if d := time.Since(start); d > 0 {
					t.Errorf("Close() took %v, want no time: it had sent nothing", d)
				}
				wantIs(t, <-got, authtrip.ErrClosed)
				_ = all[0].Close()
				if d := time.Since(start); d == 0 || d > 8*time.Second {
					t.Errorf("Close() of the one that refreshes took %v, want the refresh", d)
				}
				r.wantTokenRequests(t, 1)
			})
		})
	}
}

func TestLoginReplacesARecordThatCannotBeRead(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		key := func(b byte) [][]byte { return [][]byte{bytes.Repeat([]byte{b}, 32)} }
		under := new(authtrip.MemoryStore)
		lost := &authtrip.Sealed{Store: under, Keys: key(1)}
		if err := replicas(r, 1, lost)[0].SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		damaged := new(authtrip.MemoryStore)
		if _, err := damaged.Save(t.Context(), "alice", []byte("{"), ""); err != nil {
			t.Fatal(err)
		}
		for name, store := range map[string]authtrip.Store{
			"damaged":            damaged,
			"sealed with no key": &authtrip.Sealed{Store: under, Keys: key(2)},
		} {
			src := &authtrip.Source{Refresher: r.src.Refresher, Key: "alice", Store: store}
			if _, err := src.Token(); err == nil {
				t.Errorf("%s: Token() has no error", name)
			}
			if err := src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
				t.Errorf("%s: SetToken() = %v", name, err)
			}
			if _, err := src.Token(); err != nil {
				t.Errorf("%s: Token() after it: %v", name, err)
			}
		}
		r.wantTokenRequests(t, 0)
	})
}

func TestForgottenTokenIsGoneEverywhere(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all := replicas(r, 2, new(authtrip.MemoryStore))
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		removed, err := all[0].Forget(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if removed == nil || removed.RefreshToken != r.src.Initial.RefreshToken {
			t.Error("Forget() did not return the token that it removed, for the server to revoke")
		}
		_, err = all[0].Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		expire(r)
		_, err = all[1].Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		r.wantTokenRequests(t, 0)

		if err := all[0].SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Second)
		for i, src := range all {
			if _, err := src.Token(); err != nil {
				t.Errorf("replica %d after another login: %v", i, err)
			}
		}
	})
}

func TestValidTokenCostsNoStoreOperation(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &countingStore{Store: new(authtrip.MemoryStore)}
		r.src.Store = store
		r.mustGet(t)
		before := store.ops
		for range 1000 {
			r.mustGet(t)
		}
		if store.ops != before {
			t.Errorf("1000 requests made %d store operations, want none", store.ops-before)
		}
		expire(r)
		before = store.ops
		r.mustGet(t)
		if got := store.ops - before; got != 3 {
			t.Errorf("a refresh made %d store operations, want 3: load, mark, save", got)
		}
	})
}

type countingStore struct {
	authtrip.Store
	ops int
}

func (s *countingStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	s.ops++
	return s.Store.Load(ctx, key)
}

func (s *countingStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	s.ops++
	return s.Store.Save(ctx, key, value, version)
}

func TestCorruptRecordIsAnErrorAndStays(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		for _, doc := range []string{`{"format":1,`, `{"format":99}`} {
			store := new(authtrip.MemoryStore)
			if _, err := store.Save(t.Context(), "alice", []byte(doc), ""); err != nil {
				t.Fatal(err)
			}
			src := replicas(r, 1, store)[0]
			_, err := src.Token()
			wantSafe(t, err)
			if value, _, err := store.Load(t.Context(), "alice"); err != nil || string(value) != doc {
				t.Errorf("record %q is now %q, %v", doc, value, err)
			}
		}
	})
}

func TestAnotherUsersIDTokenRefusesTheRefresh(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"id_token": r.srv.Sign(map[string]any{"iss": "https://issuer.example", "sub": "mallory", "aud": "client"})}})
		_, err := r.src.Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		wantSafe(t, err, "mallory", "alice")
		if status, err := r.get(t.Context()); err == nil {
			t.Errorf("GET = %d with another user's token", status)
		}
	})
}

// TestIDTokenThatCannotBeReadEndsNoSession: a refreshed ID token that is no JWT, is encrypted
// or has a claim twice ended the session with ErrReauthRequired, and the new refresh token was
// lost. It says nothing of another user: the one from before stays.
func TestIDTokenThatCannotBeReadEndsNoSession(t *testing.T) {
	for name, odd := range map[string]any{
		"no JWT":    "odd",
		"encrypted": "a.b.c.d.e",
		"no claims": "e30.WzFd.sig",
		"a number":  7,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				r.mustGet(t)
				before, err := r.src.Token()
				if err != nil || before.Extra("id_token") == nil {
					t.Fatalf("the login has no ID token: %v", err)
				}
				expire(r)
				r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"id_token": odd}})
				r.mustGet(t)
				tok, err := r.src.Token()
				if err != nil || !r.srv.Valid(tok.AccessToken) {
					t.Fatalf("after the refresh: %v", err)
				}
				if tok.Extra("id_token") != before.Extra("id_token") {
					t.Error("the ID token from before is gone")
				}
				expire(r)
				r.mustGet(t) // and the new refresh token was kept
			})
		})
	}
}

// TestTwoResourcesFromOneRefreshToken: both callers refresh the same one-time
// token, one after the other, and each gets a token of its own (RFC 8707).
func TestTwoResourcesFromOneRefreshToken(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		var sources []*authtrip.Source
		for _, variant := range []string{"", "https://a.example", "https://b.example"} {
			src := replicas(r, 1, store)[0]
			src.Variant = variant
			sources = append(sources, src)
		}
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Second})
		for range 3 {
			tokens := make([]string, 90)
			crowd(len(tokens), func(i int) {
				tok, err := sources[i%3].TokenContext(t.Context())
				if err != nil || !r.srv.Valid(tok.AccessToken) {
					t.Errorf("variant %d: %v", i%3, err)
					return
				}
				tokens[i] = tok.AccessToken
			})
			for i, tok := range tokens {
				if tok != tokens[i%3] || tok == tokens[(i+1)%3] {
					t.Fatalf("caller %d of variant %d got another variant's token", i, i%3)
				}
			}
			expire(r)
		}
		r.wantTokenRequests(t, 2+3+3)
		if c := r.srv.Counts(); c.Overlaps != 0 || c.Reuses != 0 {
			t.Errorf("overlaps %d, reuses %d, want none", c.Overlaps, c.Reuses)
		}
	})
}

// TestLoginDuringTheSaveOfARefreshWins: the refresh is saved, and before it is
// published a new login is saved and published.
func TestLoginDuringTheSaveOfARefreshWins(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &hookedStore{}
		r.src.Store = store
		r.mustGet(t)
		expire(r)
		login := r.srv.Issue("bob")
		saves := 0
		store.afterSave = func() {
			if saves++; saves == 2 { // the mark was the first
				if err := r.src.SetToken(t.Context(), login); err != nil {
					t.Error(err)
				}
			}
		}
		tok, err := r.src.Token()
		if err != nil || tok.AccessToken != login.AccessToken {
			t.Errorf("the refresh's token came (%v), want the login's", err)
		}
		if tok, err = r.src.Token(); err != nil || tok.AccessToken != login.AccessToken {
			t.Errorf("the refresh overwrote the login (%v)", err)
		}
	})
}

type hookedStore struct {
	authtrip.MemoryStore
	afterSave func()
}

func (s *hookedStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	version, err := s.MemoryStore.Save(ctx, key, value, version)
	if s.afterSave != nil {
		s.afterSave()
	}
	return version, err
}

// TestDeadRefreshTokenThatCannotBeRemovedIsNotSentAgain: the store keeps it, and
// shows it at every read.
func TestDeadRefreshTokenThatCannotBeRemovedIsNotSentAgain(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.src.Store = new(undeletingStore)
		tok, err := r.src.Token()
		if err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.Revoke(tok.RefreshToken)
		for range 20 {
			_, err := r.src.Token()
			wantIs(t, err, authtrip.ErrReauthRequired)
			wait(6 * time.Second) // inside the replay window at first
		}
		r.wantTokenRequests(t, 1)
	})
}

type undeletingStore struct{ authtrip.MemoryStore }

func (*undeletingStore) Delete(context.Context, string, string) error { return errStoreDown }

// TestCallersThatLookedBeforeTheFlightLandedMakeNoSecondOne needs real threads: a
// caller finds the token expired, and asks just after the refresh is done.
func TestCallersThatLookedBeforeTheFlightLandedMakeNoSecondOne(t *testing.T) {
	for range 500 {
		var calls atomic.Int32
		src := &authtrip.Source{Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			return &oauth2.Token{AccessToken: fmt.Sprint("a", calls.Add(1))}, nil
		})}
		crowd(64, func(int) {
			if _, err := src.TokenContext(t.Context()); err != nil {
				t.Error(err)
			}
		})
		if got := calls.Load(); got != 1 {
			t.Fatalf("refreshes = %d, want 1", got)
		}
	}
}

// TestLeaseOfTheDeadEndsInsideTheGracePeriod: with default settings, a process that
// dies in a refresh does not take the login along.
func TestLeaseOfTheDeadEndsInsideTheGracePeriod(t *testing.T) {
	srv := rotating(time.Hour)
	srv.ReuseGrace = 30 * time.Second
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		shared := new(authtrip.MemoryStore)
		dying := replicas(r, 1, &dyingStore{MemoryStore: shared, saves: 2})[0]
		if _, err := dying.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := dying.Token(); err == nil {
			t.Fatal("the dead process got a token")
		}
		start := time.Now()
		if _, err := replicas(r, 1, shared)[0].Token(); err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		r.wantTokenRequests(t, 2)
	})
}

// dyingStore saves a few times, and never gives its lease back.
type dyingStore struct {
	*authtrip.MemoryStore
	saves int
}

func (s *dyingStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if s.saves == 0 {
		return "", errStoreDown
	}
	s.saves--
	return s.MemoryStore.Save(ctx, key, value, version)
}

func (s *dyingStore) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	_, err := s.MemoryStore.Lease(ctx, key, ttl)
	return func(context.Context) error { return nil }, err
}

// TestStoreThatLostItsLastWriteGetsItBack: a failover brings back the record of the
// refresh before, whose refresh token is spent.
func TestStoreThatLostItsLastWriteGetsItBack(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		older, _, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		_, version, _ := store.Load(t.Context(), "alice")
		if _, err := store.Save(t.Context(), "alice", older, version); err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := src.Token(); err != nil {
			t.Errorf("after the failover: %v", err)
		}
		if c := r.srv.Counts(); c.Reuses != 0 || c.FamiliesRevoked != 0 {
			t.Errorf("reuses %d, families revoked %d, want none", c.Reuses, c.FamiliesRevoked)
		}
	})
}

// TestMarkThatWasSavedAfterAllIsNotASend: the store fails while it takes the mark,
// and nothing is sent. Long after it, the refresh token is as good as it was.
func TestMarkThatWasSavedAfterAllIsNotASend(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &gaspingStore{}
		r.src.Store = store
		r.mustGet(t)
		expire(r)
		store.gasp = true
		if _, err := r.src.Token(); err == nil {
			t.Fatal("no error")
		}
		store.gasp = false
		wait(time.Hour)
		if _, err := r.src.Token(); err != nil {
			t.Errorf("an hour later: %v", err)
		}
		r.wantTokenRequests(t, 1)
	})
}

// gaspingStore does what it is told, and says that it could not.
type gaspingStore struct {
	authtrip.MemoryStore
	gasp bool
}

func (s *gaspingStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	version, err := s.MemoryStore.Save(ctx, key, value, version)
	if s.gasp {
		return "", errStoreDown
	}
	return version, err
}

// watchedStore tells of every change.
type watchedStore struct {
	authtrip.MemoryStore
	changed chan struct{}
}

func (s *watchedStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	version, err := s.MemoryStore.Save(ctx, key, value, version)
	s.changed <- struct{}{}
	return version, err
}

func (s *watchedStore) Delete(ctx context.Context, key, version string) error {
	err := s.MemoryStore.Delete(ctx, key, version)
	s.changed <- struct{}{}
	return err
}

func (s *watchedStore) Watch(ctx context.Context, _ string) (<-chan struct{}, error) {
	out := make(chan struct{})
	go func() {
		defer close(out)
		for {
			select {
			case <-s.changed:
				select {
				case out <- struct{}{}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func TestWatchHearsOfALogoutAndALoginElsewhere(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &watchedStore{changed: make(chan struct{}, 10)}
		all := replicas(r, 2, store)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- all[0].Watch(ctx) }()
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		bob := r.srv.Issue("bob")
		if err := all[1].SetToken(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if tok, err := all[0].Token(); err != nil || tok.AccessToken != bob.AccessToken {
			t.Errorf("after a login elsewhere the old token is served (%v)", err)
		}
		if _, err := all[1].Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, err := all[0].Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		cancel()
		wantIs(t, <-ended, context.Canceled)
		wantIs(t, r.src.Watch(t.Context()), errors.ErrUnsupported)
	})
}

func TestRefreshWithoutStoreIsAChoiceWithAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		r := newRig(t, rotating(time.Hour), func(r *rig) {
			r.src.Store, r.src.AllowRefreshWithoutStore = store, true
		})
		r.mustGet(t)
		store.down.Store(true)
		for range 3 {
			expire(r)
			r.mustGet(t)
		}
		store.down.Store(false)
		expire(r)
		r.mustGet(t)
		tok, err := r.src.Token()
		if err != nil || !store.holds(tok.RefreshToken) {
			t.Errorf("the store is back, and does not hold the token: %v", err)
		}
		if c := r.srv.Counts(); c.Reuses != 0 || c.APIRefused != 0 {
			t.Errorf("reuses = %d, refused requests = %d, want none", c.Reuses, c.APIRefused)
		}
	})
}

// BenchmarkUsers reads a million user records back.
func BenchmarkUsers(b *testing.B) {
	const million = 1_000_000
	users := &authtrip.Users{Cache: &authtrip.MemoryCache{MaxEntries: million}}
	fetched, err := newUserInfo(b).UserInfo(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	names := make([]string, million)
	for i := range names {
		names[i] = fmt.Sprint("user", i)
		user := *fetched
		user.Issuer, user.Subject = asURL, names[i]
		if err := users.Put(b.Context(), &user); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if info, err := users.Get(b.Context(), asURL, names[i%million]); err != nil || info.Subject != names[i%million] {
			b.Fatal(err)
		}
		i += 7919
	}
}
