package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// again calls Token until it works or the time is over, as users do.
func again(src *authtrip.Source, d time.Duration) error {
	var err error
	for end := time.Now().Add(d); time.Now().Before(end); wait(time.Second) {
		if _, err = src.Token(); err == nil || errors.Is(err, authtrip.ErrReauthRequired) {
			return err
		}
	}
	return err
}

// Pain 26: eight seconds of 502, 503 or HTML ended every session that was due, for good,
// also after a restart; so did a token endpoint that could not be reached for 30 s.
func TestRule54OutageEndsNoSession(t *testing.T) {
	for name, fault := range map[string]authtriptest.Fault{
		"502":       {Status: http.StatusBadGateway},
		"503":       {Status: http.StatusServiceUnavailable},
		"HTML":      {Status: http.StatusOK, Body: "<html>", Header: http.Header{"Content-Type": {"text/html"}}},
		"reset":     {Reset: true, Early: true},
		"swallowed": {Delay: 2 * time.Hour, Early: true},
	} {
		for _, grace := range []time.Duration{0, time.Minute} {
			for _, outage := range []time.Duration{8 * time.Second, 30 * time.Second, time.Hour} {
				inBubble(t, rotating(time.Hour), func(r *rig) { r.src.GracePeriod = grace }, func(t *testing.T, r *rig) {
					expire(r)
					r.srv.FailAlways(authtriptest.TokenPath, fault)
					if err := again(r.src, outage); err == nil || errors.Is(err, authtrip.ErrReauthRequired) {
						t.Errorf("%s for %v: %v", name, outage, err)
					}
					r.srv.Heal(authtriptest.TokenPath)
					if err := again(r.src, time.Minute); err != nil {
						t.Errorf("after %v of %s: %v", outage, name, err)
					}
				})
			}
		}
	}
}

// The server's no ends a session, in memory and in the record, and it is asked once.
func TestRule54ProvidersNoEndsASession(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		all := replicas(r, 2, store)
		if _, err := all[0].Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		for _, src := range all {
			_, err := src.Token()
			wantIs(t, err, authtrip.ErrSessionEnded)
			wantIs(t, err, authtrip.ErrReauthRequired)
			if st := src.Status(); st.State != authtrip.StateEnded || !st.NeedsLogin() {
				t.Errorf("State = %s", st.State)
			}
		}
		r.wantTokenRequests(t, 1)
		if errors.Is(all[0].Status().Err, authtrip.ErrLoggedOut) || errors.Is(all[0].Status().Err, authtrip.ErrNoSession) {
			t.Error("an ended session is told as another end")
		}
	})
}

// Pain 29: one lost answer, then connections that were refused or answers 429, used up
// the resends of a grace period that was still open.
func TestRule55RefusedConnectionsUseUpNoResend(t *testing.T) {
	srv := rotating(time.Hour)
	srv.ReuseGrace = 30 * time.Second
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		grant := r.src.Refresher
		var n atomic.Int32
		r.src.Refresher = authtrip.RefresherFunc(func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			switch n.Add(1) {
			case 1:
				r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Reset: true})
			case 2, 4:
				return nil, &authtrip.RefreshError{Err: errors.New("connection refused")}
			case 3:
				return nil, &authtrip.RefreshError{StatusCode: http.StatusTooManyRequests, Err: errors.New("busy")}
			}
			return grant.Refresh(ctx, old)
		})
		expire(r)
		if err := again(r.src, 25*time.Second); err != nil {
			t.Errorf("inside of the grace period: %v", err)
		}
		if c := r.srv.Counts(); c.FamiliesRevoked != 0 {
			t.Errorf("families revoked = %d", c.FamiliesRevoked)
		}
	})
}

// A record that was lost is put back by whoever holds the token, and nobody is logged out.
func TestRule56LostRecordIsPutBack(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := &authtrip.Source{Refresher: r.src.Refresher, Store: store, Key: "alice"}
		r.others = append(r.others, src)
		if err := src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		_, version, _ := store.Load(t.Context(), "alice")
		if err := store.Delete(t.Context(), "alice", version); err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := src.Token(); err != nil {
			t.Errorf("after the record was lost: %v", err)
		}
		if _, _, err := store.Load(t.Context(), "alice"); err != nil {
			t.Errorf("the record was not put back: %v", err)
		}
	})
}

// Pain 31: a user who had logged out was back after a restart, as the configuration
// still had the token; and after the loss of the tombstone, by a replica's memory.
func TestRule56LogoutStays(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		all := replicas(r, 2, store)
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		before, _, _ := store.Load(t.Context(), "alice")
		if _, err := all[0].Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		restarted := replicas(r, 1, store)[0] // with the same Initial
		_, err := restarted.Token()
		wantIs(t, err, authtrip.ErrLoggedOut)
		wait(48 * time.Hour)
		_, err = replicas(r, 1, store)[0].Token()
		wantIs(t, err, authtrip.ErrLoggedOut)

		_, version, _ := store.Load(t.Context(), "alice")
		if _, err := store.Save(t.Context(), "alice", before, version); err != nil {
			t.Fatal(err)
		}
		_, err = all[0].Token() // it knows of the logout, and puts it back
		wantIs(t, err, authtrip.ErrLoggedOut)
		wantTombstone(t, store)
		r.wantTokenRequests(t, 0)
	})
}

// Where keys are random names, a day after a logout nothing is left of it.
func TestTombstonesOfRandomKeysDoNotPileUp(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: r.src.Refresher, Store: store}}
		defer users.Close()
		const logouts = 2000
		for i := range logouts {
			src := users.Source(fmt.Sprint("session", i))
			if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "a", RefreshToken: "r"}); err != nil {
				t.Fatal(err)
			}
			if gone, err := src.Forget(t.Context()); err != nil || gone == nil || gone.RefreshToken != "r" {
				t.Fatalf("Forget() = %v, %v", gone != nil, err)
			}
		}
		wait(25 * time.Hour)
		for i := range logouts {
			if _, _, err := store.Load(t.Context(), fmt.Sprint("session", i)); !errors.Is(err, authtrip.ErrNotFound) {
				t.Fatalf("session%d: %v, want nothing left", i, err)
			}
		}
	})
}

// Pain 30: a login as somebody else was ignored where the Store had a record.
func TestRule57NewLoginWins(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, r *rig, src *authtrip.Source){
		"over a record": func(*testing.T, *rig, *authtrip.Source) {},
		"over a dead one": func(t *testing.T, r *rig, src *authtrip.Source) {
			expire(r)
			r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
			_, err := src.Token()
			wantIs(t, err, authtrip.ErrSessionEnded)
		},
		"over a logout": func(t *testing.T, _ *rig, src *authtrip.Source) {
			if _, err := src.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"over one that cannot be read": func(t *testing.T, _ *rig, src *authtrip.Source) {
			_, version, _ := src.Store.Load(t.Context(), "alice")
			if _, err := src.Store.Save(t.Context(), "alice", []byte("{"), version); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				all := replicas(r, 2, new(authtrip.MemoryStore))
				if _, err := all[0].Token(); err != nil {
					t.Fatal(err)
				}
				prepare(t, r, all[0])
				bob := r.srv.Issue("bob")
				if err := all[1].SetToken(t.Context(), bob); err != nil {
					t.Fatal(err)
				}
				for i, src := range []*authtrip.Source{all[1], replicas(r, 1, all[0].Store)[0]} {
					if tok, err := src.Token(); err != nil || tok.AccessToken != bob.AccessToken {
						t.Errorf("source %d does not have the new login: %v", i, err)
					}
				}
				wait(2 * time.Hour)
				if tok, err := all[0].Token(); err != nil || !r.srv.Valid(tok.AccessToken) {
					t.Errorf("the replica: %v", err)
				}
			})
		})
	}
}

// A login with the refresh token that was dead before is a new one: the server may have
// revived it, and it is asked.
func TestLoginWithTheSameRefreshTokenAfterItsEnd(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		_, err := r.src.Token()
		wantIs(t, err, authtrip.ErrSessionEnded)
		if err := r.src.SetToken(t.Context(), &oauth2.Token{RefreshToken: r.src.Initial.RefreshToken}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.src.Token(); err != nil {
			t.Errorf("after the new login: %v", err)
		}
	})
}

// Pain 28: on a conflict any record counted as the winner, even one that still held the
// token that was used: another replica's marker dropped the successor.
func TestRule59SuccessorIsSavedOverAMarker(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		saves := 0
		store.before = func(ctx context.Context, op string) error {
			if op != "save" {
				return nil
			}
			if saves++; saves == 2 { // the successor's: another replica writes its marker
				doc, version, _ := store.MemoryStore.Load(ctx, "alice")
				other := strings.Replace(string(doc), `"owner":"`, `"owner":"OTHER`, 1)
				_, _ = store.MemoryStore.Save(ctx, "alice", []byte(other), version)
			}
			return nil
		}
		tok, err := src.Token()
		if err != nil {
			t.Fatal(err)
		}
		doc, _, _ := store.MemoryStore.Load(t.Context(), "alice")
		if !strings.Contains(string(doc), tok.RefreshToken) {
			t.Error("the successor was dropped")
		}
		r.wantTokenRequests(t, 1)
	})
}

// Pain 32: Token().Extra("instance_url") was gone after the switch from x/oauth2.
func TestPain32AllMembersOfTheResponseStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(authtrip.MemoryStore)
		grant := authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			if got := old.Extra("instance_url"); got != "https://eu.example" {
				t.Errorf("the Refresher is given instance_url = %v", got)
			}
			tok := &oauth2.Token{AccessToken: "a2", RefreshToken: "r2", Expiry: time.Now().Add(time.Hour), ExpiresIn: 3600}
			return tok.WithExtra(map[string]any{"team": map[string]any{"id": "T1"}, "count": 3.0}), nil
		})
		src := &authtrip.Source{Refresher: grant, Store: store, Key: "alice"}
		first := &oauth2.Token{AccessToken: "a1", RefreshToken: "r1", Expiry: time.Now().Add(time.Hour), ExpiresIn: 3600}
		if err := src.SetToken(t.Context(), first.WithExtra(map[string]any{"instance_url": "https://eu.example", "count": 2.0})); err != nil {
			t.Fatal(err)
		}
		want := func(src *authtrip.Source, count float64, team bool) {
			t.Helper()
			tok, err := src.Token()
			if err != nil || tok.ExpiresIn != 3600 || tok.Extra("instance_url") != "https://eu.example" || tok.Extra("count") != count {
				t.Errorf("%v, expires_in %d, instance_url %v, count %v", err, tok.ExpiresIn, tok.Extra("instance_url"), tok.Extra("count"))
			}
			if _, ok := tok.Extra("team").(map[string]any); ok != team {
				t.Errorf("team = %v", tok.Extra("team"))
			}
		}
		want(src, 2, false)
		wait(2 * time.Hour)
		want(src, 3, true)
		want(&authtrip.Source{Refresher: grant, Store: store, Key: "alice"}, 3, true)
	})
}

// Pain 33: two sources of one store without a key got each other's tokens.
func TestPain33StoreWithoutKeyIsAnError(t *testing.T) {
	src := &authtrip.Source{Refresher: new(authtrip.Grant), Store: new(authtrip.MemoryStore)}
	for name, err := range map[string]error{
		"SetToken": src.SetToken(t.Context(), &oauth2.Token{AccessToken: "a"}),
		"Token":    func() error { _, err := src.Token(); return err }(),
		"Forget":   func() error { _, err := src.Forget(t.Context()); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "Source.Key") {
			t.Errorf("%s: %v, want an error that names the field", name, err)
		}
	}
}

// Pain 35: a hook that called SetToken, Close or Token from within an event blocked the
// source for ever.
func TestPain35HooksMayCallBack(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		var src *authtrip.Source
		var n atomic.Int32
		src = &authtrip.Source{Refresher: r.src.Refresher, OnEvent: func(e authtrip.Event) {
			if n.Add(1) > 3 {
				return
			}
			_, _ = src.TokenContext(t.Context())
			_ = src.Status()
			if e.Kind == authtrip.EventSessionStarted && n.Load() == 1 {
				_ = src.SetToken(t.Context(), r.srv.Issue("bob"))
			}
			go src.Close()
		}}
		if err := src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		if n.Load() < 2 {
			t.Error("the hook was not called again")
		}
		synctest.Wait()
	})
}

// Pain 37: printing a source with %+v printed its tokens.
func TestPain37PrintingShowsNoTokens(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.src.Store, r.src.Key = new(authtrip.MemoryStore), "alice"
		if _, err := r.src.Token(); err != nil {
			t.Fatal(err)
		}
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: r.src.Refresher}}
		defer users.Close()
		if err := users.Source("k").SetToken(t.Context(), r.src.Initial); err != nil {
			t.Fatal(err)
		}
		for _, v := range []any{r.src, users, users.Source("k"), r.transport, &authtrip.Transport{Source: users}, r.src.Refresher, r.src.Status()} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
				text := fmt.Sprintf(verb, v)
				for _, secret := range []string{r.src.Initial.AccessToken, r.src.Initial.RefreshToken, "client-secret"} {
					if strings.Contains(text, secret) {
						t.Errorf("%s of %T shows a secret", verb, v)
					}
				}
			}
		}
	})
}

// By hand, as Authlib's refresh_token(): a new token whatever the state of the old one,
// one for all who ask at once, and never the one that was to be replaced.
func TestRefreshByHand(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		before, err := r.src.Token()
		if err != nil {
			t.Fatal(err)
		}
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Second})
		crowd(100, func(int) {
			tok, err := r.src.Refresh(t.Context())
			if err != nil || tok.AccessToken == before.AccessToken {
				t.Errorf("Refresh() = the same token: %v", err)
			}
		})
		r.wantTokenRequests(t, 1)
		for range 20 { // it paces nothing
			before, _ = r.src.Token()
			if tok, err := r.src.Refresh(t.Context()); err != nil || tok.AccessToken == before.AccessToken {
				t.Errorf("Refresh() again: %v", err)
			}
		}
		r.wantTokenRequests(t, 21)

		// While it runs, the token that there is is handed out.
		go func() { _, _ = r.src.Refresh(t.Context()) }()
		synctest.Wait()
		start := time.Now()
		if _, err := r.src.Token(); err != nil || time.Since(start) > 0 {
			t.Errorf("Token() during a refresh by hand: %v after %v", err, time.Since(start))
		}
		// One that fails takes nothing away.
		synctest.Wait()
		wait(2 * time.Second)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Status: http.StatusServiceUnavailable})
		if _, err := r.src.Refresh(t.Context()); err == nil {
			t.Error("Refresh() of a server that is down: no error")
		}
		if _, err := r.src.Token(); err != nil {
			t.Errorf("Token() after it: %v", err)
		}
	})
}

// Status says how a session stands, without a secret in it.
func TestStatusTellsTheStory(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		src := &authtrip.Source{Refresher: r.src.Refresher, Store: new(authtrip.MemoryStore), Key: "alice", GracePeriod: -1}
		r.others = append(r.others, src)
		is := func(want authtrip.State) authtrip.Status {
			t.Helper()
			st := src.Status()
			if st.State != want {
				_, file, line, _ := runtime.Caller(1)
				t.Errorf("%s:%d: State = %s, want %s", file[strings.LastIndex(file, "/")+1:], line, st.State, want)
			}
			return st
		}
		is(authtrip.StateNotLoaded)
		_, err := src.Token()
		wantIs(t, err, authtrip.ErrNoSession)
		is(authtrip.StateNoSession)
		if err := src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		if st := is(authtrip.StateActive); st.Expiry.Before(time.Now()) || st.RefreshedAt.IsZero() || st.Err != nil {
			t.Errorf("%+v", st)
		}
		expire(r)
		is(authtrip.StateExpired)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Reset: true})
		_, _ = src.Token()
		if st := is(authtrip.StateUnknown); st.Err == nil || !st.NeedsLogin() {
			t.Errorf("%+v", st)
		}
		r.srv.Heal(authtriptest.TokenPath)
		if err := src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		is(authtrip.StateActive)
		if _, err := src.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		is(authtrip.StateLoggedOut)
	})
}

// Pain 36: two watching replicas and one API that rejected all made 2,000 token requests
// in ten seconds; without Watch there were six.
func TestPain36WatchKeepsTheBackOffOfRejections(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all := replicas(r, 2, new(authtrip.MemoryStore))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, len(all))
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
			go func() { ended <- src.Watch(ctx) }()
		}
		synctest.Wait()
		r.srv.FailAlways(authtriptest.APIPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
		crowd(len(all), func(i int) {
			client := &http.Client{Transport: &authtrip.Transport{Source: all[i], Base: r.net}}
			for range 1000 {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, apiURL, nil)
				if resp, err := client.Do(req); err == nil {
					_ = resp.Body.Close()
				}
				wait(10 * time.Millisecond)
			}
		})
		if c := r.srv.Counts(); c.Token > 20 {
			t.Errorf("token requests in ten seconds = %d, want at most 20", c.Token)
		}
		cancel()
		for range all {
			wantIs(t, <-ended, context.Canceled)
		}
	})
}

// A hook that asked for a token when a refresh had failed waited for the round that it was
// called from, for ever, and with it everybody.
func TestHookMayAskForATokenAfterAFailure(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		var n atomic.Int32
		var src *authtrip.Source
		src = &authtrip.Source{Refresher: r.src.Refresher, OnEvent: func(e authtrip.Event) {
			if e.Kind == authtrip.EventRefreshFailed || e.Kind == authtrip.EventReauthRequired {
				n.Add(1)
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				start := time.Now()
				_, err := src.TokenContext(ctx)
				if time.Since(start) > 0 {
					t.Errorf("%s: hook waited %v: %v", e.Kind, time.Since(start), err)
				}
			}
		}}
		defer func() { src.Close() }()
		if err := src.SetToken(t.Context(), r.srv.Issue("a")); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Status: 429})
		_, _ = src.Token()
		wait(time.Hour)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		_, _ = src.Token()
		if n.Load() != 2 {
			t.Errorf("n = %d", n.Load())
		}
	})
}

// A session of client credentials was back a day after Forget, as its tombstone had gone.
func TestLogoutStaysWhereTheGrantNeedsNoLogin(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		make := func() *authtrip.Source {
			src := &authtrip.Source{Store: store, Key: "k", Refresher: authtrip.FromTokenSource(tokenFunc(func() (*oauth2.Token, error) {
				return &oauth2.Token{AccessToken: "x", Expiry: time.Now().Add(time.Hour)}, nil
			}))}
			r.others = append(r.others, src)
			return src
		}
		src := make()
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		if _, err := src.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(50 * time.Hour)
		_, err := src.Token()
		wantIs(t, err, authtrip.ErrLoggedOut)
		_, err = make().Token()
		wantIs(t, err, authtrip.ErrLoggedOut)
	})
}

// A session was over when the Store lost its record thirteen hours into an outage of the token
// endpoint, though the Store had been asked a minute before.
func TestRule56RecordIsPutBackAfterALongOutage(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := replicas(r, 1, store)[0]
		src.Initial = nil
		if err := src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Status: 503, Header: http.Header{"Retry-After": {"1"}}})
		_ = again(src, 14*time.Hour)
		_, version, _ := store.Load(t.Context(), "alice")
		if err := store.Delete(t.Context(), "alice", version); err != nil {
			t.Fatal(err)
		}
		r.srv.Heal(authtriptest.TokenPath)
		if err := again(src, time.Minute); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// Token asked for a login, and Status did not: the session had no refresh token.
func TestStatusOfASessionWithoutARefreshTokenNeedsALogin(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		src := &authtrip.Source{Refresher: r.src.Refresher}
		defer src.Close()
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "a", Expiry: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		expire(r)
		_, err := src.Token()
		wantIs(t, err, authtrip.ErrSessionEnded)
		if st := src.Status(); !st.NeedsLogin() {
			t.Errorf("State = %s, Err %v", st.State, st.Err)
		}
	})
}

// Whoever had been told that nobody had logged in was told so for seconds after a login in
// another process, in spite of Watch.
func TestWatchHearsOfTheFirstLogin(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all := replicas(r, 2, new(authtrip.MemoryStore))
		for _, src := range all {
			src.Initial = nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = all[0].Watch(ctx) }()
		for range 5 {
			_, err := all[0].Token()
			wantIs(t, err, authtrip.ErrNoSession)
			wait(6 * time.Second)
		}
		_, _ = all[0].Token()
		if err := all[1].SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := all[0].Token(); err != nil {
			t.Errorf("%v", err)
		}
	})
}
