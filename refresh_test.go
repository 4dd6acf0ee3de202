package authtrip_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func rotating(lifetime time.Duration) *authtriptest.Server {
	return &authtriptest.Server{Rotate: true, Lifetime: lifetime}
}

func rotatingHourly() *authtriptest.Server { return rotating(time.Hour) }

func TestThousandGoroutinesAtAnExpiredTokenMakeOneTokenRequest(t *testing.T) {
	inBothForms(t, rotatingHourly, nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		expire(r)
		r.turnAfter(roleAPI, 500)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Second})
		crowd(1000, func(int) {
			if status, err := r.get(t.Context()); status != http.StatusOK {
				t.Errorf("GET = %d, %v, want 200", status, err)
			}
		})
		r.wantTokenRequests(t, 1)
		if got := r.srv.Counts().FamiliesRevoked; got != 0 {
			t.Errorf("families revoked = %d, want 0", got)
		}
	})
}

func TestThousandGoroutinesOnSocketsMakeOneTokenRequest(t *testing.T) {
	before := runtime.NumGoroutine()
	srv := rotating(time.Hour)
	site := authtriptest.Start(t, srv)
	src := &authtrip.Source{
		Refresher: authtrip.RefreshToken(srv.Config(site.URL)),
		Initial:   expired(srv.Issue("alice")),
	}
	crowd(1000, func(int) {
		if _, err := src.TokenContext(t.Context()); err != nil {
			t.Errorf("TokenContext() error = %v", err)
		}
	})
	if got := srv.Counts().Token; got != 1 {
		t.Errorf("token requests = %d, want 1", got)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+8; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("goroutines after Close = %d, before = %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestAgeingTokenIsServedWhileItIsRenewed(t *testing.T) {
	inBothForms(t, rotatingHourly, nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		wait(58 * time.Minute)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: 5 * time.Second})
		r.turnAfter(roleAPI, 500)
		start := time.Now()
		crowd(1000, func(int) {
			if status, err := r.get(t.Context()); status != http.StatusOK {
				t.Errorf("GET = %d, %v, want 200", status, err)
			}
		})
		if waited := time.Since(start); waited != 0 {
			t.Errorf("requests waited %v for a refresh that they did not need", waited)
		}
		wait(11 * time.Second)
		r.mustGet(t)
		r.wantTokenRequests(t, 1)
	})
}

func TestShortTokensAreNotFetchedOnEveryCall(t *testing.T) {
	for _, lifetime := range []time.Duration{time.Minute, 10 * time.Second, time.Second} {
		t.Run(lifetime.String(), func(t *testing.T) {
			inBubble(t, rotating(lifetime), nil, func(t *testing.T, r *rig) {
				const lives, callsPerLife = 20, 50
				for range lives * callsPerLife {
					r.mustGet(t)
					wait(lifetime / callsPerLife)
				}
				// Each is used for at least three quarters of its life.
				if got := r.srv.Counts().Token; got < lives-1 || got > lives*4/3+1 {
					t.Errorf("token requests in %d lifetimes = %d", lives, got)
				}
			})
		})
	}
}

func TestMarginLargerThanTheLifetimeDoesNotStorm(t *testing.T) {
	inBubble(t, rotating(10*time.Second), func(r *rig) { r.src.EarlyRefresh = time.Hour }, func(t *testing.T, r *rig) {
		for range 100 {
			r.mustGet(t)
			wait(time.Second)
		}
		if got := r.srv.Counts().Token; got > 25 {
			t.Errorf("token requests in 10 lifetimes = %d, want at most 25", got)
		}
	})
}

func TestNegativeEarlyRefreshWaitsForTheEnd(t *testing.T) {
	inBubble(t, rotating(time.Hour), func(r *rig) { r.src.EarlyRefresh = -1 }, func(t *testing.T, r *rig) {
		wait(59 * time.Minute)
		r.mustGet(t)
		synctest.Wait()
		r.wantTokenRequests(t, 0)
		wait(time.Minute)
		r.mustGet(t)
		r.wantTokenRequests(t, 1)
	})
}

func TestTokenWithoutExpiryIsUsedUntilRefused(t *testing.T) {
	inBubble(t, &authtriptest.Server{Rotate: true, Lifetime: -1}, nil, func(t *testing.T, r *rig) {
		for range 10 {
			r.mustGet(t)
			wait(1000 * time.Hour)
		}
		r.wantTokenRequests(t, 0)
		r.srv.RevokeAll()
		r.mustGet(t)
		r.wantTokenRequests(t, 1)
	})
}

func TestCancelledLeaderFailsNobodyElse(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: 5 * time.Second})
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the user closed the page")
		led := make(chan error)
		go func() {
			_, err := r.src.TokenContext(ctx)
			led <- err
		}()
		synctest.Wait()
		followers := make(chan error, 100)
		for range cap(followers) {
			go func() {
				_, err := r.src.TokenContext(t.Context())
				followers <- err
			}()
		}
		synctest.Wait()
		start := time.Now()
		cancel(gone)
		wantIs(t, <-led, gone)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the leader left after %v, want at once", waited)
		}
		for range cap(followers) {
			if err := <-followers; err != nil {
				t.Errorf("follower: %v", err)
			}
		}
		r.wantTokenRequests(t, 1)
	})
}

func TestWaiterLeavesAtItsOwnDeadline(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Hour})
		crowd(50, func(i int) {
			limit := time.Duration(i+1) * 100 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			start := time.Now()
			_, err := r.src.TokenContext(ctx)
			wantIs(t, err, context.DeadlineExceeded)
			if waited := time.Since(start); waited != limit {
				t.Errorf("waited %v, want %v", waited, limit)
			}
		})
	})
}

func TestCallerWithoutDeadlineComesBackFromAHangingServer(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: 24 * time.Hour})
		start := time.Now()
		_, err := r.src.Token()
		wantIs(t, err, authtrip.ErrInDoubt)
		if waited := time.Since(start); waited > 31*time.Second {
			t.Errorf("waited %v, want at most RefreshTimeout", waited)
		}
	})
}

func TestPanicInAGrantIsAnErrorForEveryWaiter(t *testing.T) {
	for name, f := range map[string]func(){
		"panic":  func() { panic("s3cr3t-of-the-grant") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := &authtrip.Source{Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
					wait(time.Second)
					f()
					return nil, nil
				})}
				crowd(1000, func(int) {
					_, err := src.TokenContext(t.Context())
					wantSafe(t, err, "s3cr3t-of-the-grant")
				})
			})
		})
	}
}

func TestGrantsReachTheServer(t *testing.T) {
	inBubble(t, new(authtriptest.Server), nil, func(t *testing.T, r *rig) {
		conf := r.srv.Config(asURL)
		public := authtrip.RefreshToken(conf)
		for grantType, g := range map[string]*authtrip.Grant{
			"refresh_token":      public,
			"client_credentials": authtrip.ClientCredentials(r.srv.ClientCredentials(asURL)),
			authtriptest.GrantJWTBearer: authtrip.JWTBearer(conf, func(context.Context) (string, error) {
				return r.srv.Sign(map[string]any{"sub": "alice"}), nil
			}),
			authtriptest.GrantTokenExchange: authtrip.TokenExchange(conf, func(context.Context) (string, string, error) {
				return r.srv.Issue("alice").AccessToken, "urn:ietf:params:oauth:token-type:access_token", nil
			}),
		} {
			g.HTTPClient = &http.Client{Transport: r.net}
			for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
				g.AuthStyle = style
				src := &authtrip.Source{Refresher: g, Initial: expired(r.srv.Issue("alice"))}
				tok, err := src.Token()
				if err != nil || !r.srv.Valid(tok.AccessToken) {
					t.Errorf("%s, AuthStyle %d: %v", grantType, style, err)
				}
			}
			if got := r.srv.Counts().Grants[grantType]; got != 3 {
				t.Errorf("%s: grants = %d, want 3", grantType, got)
			}
		}
		if got := r.srv.Counts().Token; got != 12 {
			t.Errorf("token requests = %d, want 12: the authentication style is never probed", got)
		}
	})
}

func TestFromTokenSourceFollowsItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &authtriptest.Source{Lifetime: time.Minute}
		src := &authtrip.Source{Refresher: authtrip.FromTokenSource(inner)}
		first, err := src.Token()
		if err != nil {
			t.Fatal(err)
		}
		wait(2 * time.Minute)
		second, err := src.Token()
		if err != nil || first.AccessToken == second.AccessToken {
			t.Errorf("an expired token came again: %v", err)
		}
	})
}

func TestRefusedNewTokensArePaced(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.srv.FailAlways(authtriptest.APIPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
		start := time.Now()
		for time.Since(start) < time.Minute {
			if status, err := r.get(t.Context()); status != http.StatusUnauthorized {
				t.Fatalf("GET = %d, %v, want the original 401", status, err)
			}
			wait(100 * time.Millisecond)
		}
		if got := r.srv.Counts().Token; got > 12 {
			t.Errorf("token requests in a minute = %d, want at most 12", got)
		}
		r.srv.Heal(authtriptest.APIPath)
		r.mustGet(t)
	})
}

func TestSetTokenWinsOverARefreshInFlight(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: 5 * time.Second})
		got := make(chan *oauth2.Token)
		go func() {
			tok, _ := r.src.Token()
			got <- tok
		}()
		synctest.Wait()
		login := r.srv.Issue("bob")
		if err := r.src.SetToken(t.Context(), login); err != nil {
			t.Fatal(err)
		}
		if tok := <-got; tok.AccessToken != login.AccessToken {
			t.Error("the refresh in flight returned an older token than the login")
		}
		if tok, _ := r.src.Token(); tok.AccessToken != login.AccessToken {
			t.Error("the refresh in flight overwrote the login")
		}
	})
}

func TestClosedSourceServesWhatItHas(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		if err := r.src.Close(); err != nil {
			t.Fatal(err)
		}
		r.mustGet(t)
		expire(r)
		_, err := r.src.Token()
		wantIs(t, err, authtrip.ErrClosed)
		r.wantTokenRequests(t, 0)
	})
}

func TestTokenRequestThatNeverLeftIsSentAgain(t *testing.T) {
	inBubble(t, rotating(time.Hour), func(r *rig) { r.src.GracePeriod = -1 }, func(t *testing.T, r *rig) {
		expire(r)
		r.net.Handle(asURL, nil) // connections are refused
		_, err := r.src.Token()
		if err == nil || errors.Is(err, authtrip.ErrInDoubt) || errors.Is(err, authtrip.ErrReauthRequired) {
			t.Errorf("error = %v, want one that passes", err)
		}
		r.net.Handle(asURL, r.srv)
		wait(time.Second)
		r.mustGet(t)
	})
}

func TestEventsTellTheStory(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		r.srv.RevokeAll()
		r.mustGet(t)
		expire(r)
		r.mustGet(t)
		want := []authtrip.EventKind{
			authtrip.EventTokenObtained,
			authtrip.EventTokenRejected, authtrip.EventTokenRefreshed, authtrip.EventRequestRetried,
			authtrip.EventTokenRefreshed,
		}
		if got := r.events.kinds(); !slices.Equal(got, want) {
			t.Errorf("events = %v, want %v", got, want)
		}
	})
}

func TestClockStepsDoNotEndATokenThatThisProcessObtained(t *testing.T) {
	// A token's life is measured by the monotonic clock: its Expiry as a date of
	// the wall clock may be anything.
	inBubble(t, rotating(time.Hour), func(r *rig) {
		r.src.Refresher = authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			tok := r.srv.Issue("alice")
			tok.Expiry = time.Now().Add(-10 * time.Minute).Round(0) // this machine is ten minutes ahead
			return tok, nil
		})
		r.src.Initial = nil
	}, func(t *testing.T, r *rig) {
		first, err := r.src.Token()
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			tok, err := r.src.Token()
			if err != nil || tok.AccessToken != first.AccessToken {
				t.Fatalf("a token that the server had just made was replaced: %v", err)
			}
			wait(time.Second)
		}
	})
}

type tokenFunc func() (*oauth2.Token, error)

func (f tokenFunc) Token() (*oauth2.Token, error) { return f() }
