package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
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

func TestExpiresInMayBeNumberFloatOrString(t *testing.T) {
	for _, v := range []any{60, 60.0, "60", "60.0"} {
		t.Run(fmt.Sprintf("%T %v", v, v), func(t *testing.T) {
			inBubble(t, rotating(time.Minute), func(r *rig) {
				r.src.Initial = expired(r.src.Initial)
				r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"expires_in": v}})
			}, func(t *testing.T, r *rig) {
				tok, err := r.src.Token()
				if err != nil {
					t.Fatal(err)
				}
				if got := time.Until(tok.Expiry); got != time.Minute {
					t.Errorf("token lives %v, want 1m", got)
				}
			})
		})
	}
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

func TestTokenEndpointDownForTwoSeconds(t *testing.T) {
	for _, tt := range []struct {
		name      string
		configure func(*rig)
	}{
		{"refresh token", nil},
		{"client credentials", func(r *rig) {
			grant := authtrip.ClientCredentials(r.srv.ClientCredentials(asURL))
			grant.HTTPClient = &http.Client{Transport: r.net}
			r.src.Refresher, r.src.Initial = grant, nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), tt.configure, func(t *testing.T, r *rig) {
				expire(r)
				r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Status: http.StatusServiceUnavailable})
				up := time.AfterFunc(2*time.Second, func() { r.srv.Heal(authtriptest.TokenPath) })
				defer up.Stop()
				var down atomic.Int64
				start := time.Now()
				crowd(50, func(int) {
					for time.Since(start) < 10*time.Second {
						if _, err := r.src.TokenContext(t.Context()); err != nil {
							down.Store(int64(time.Since(start)))
						}
						wait(10 * time.Millisecond)
					}
				})
				if got := r.srv.Counts().Token; got > 6 {
					t.Errorf("token requests = %d, want at most 6", got)
				}
				if got := time.Duration(down.Load()); got > 4*time.Second {
					t.Errorf("callers still failed after %v", got)
				}
			})
		})
	}
}

func TestFailureWithValidTokenIsNotSeen(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		wait(56 * time.Minute)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"100"}}})
		for range 120 {
			r.mustGet(t)
			wait(time.Second)
		}
		r.wantTokenRequests(t, 2) // Retry-After is honoured
		r.srv.Heal(authtriptest.TokenPath)
		wait(time.Minute + 40*time.Second)
		r.mustGet(t)
		synctest.Wait()
		r.mustGet(t)
		r.wantTokenRequests(t, 3)
	})
}

func TestInvalidGrantIsAskedOnceAndThenSaidAtOnce(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		tok, err := r.src.Token()
		if err != nil {
			t.Fatal(err)
		}
		r.srv.Revoke(tok.RefreshToken)
		expire(r)
		for range 100 {
			start := time.Now()
			_, err := r.src.Token()
			wantIs(t, err, authtrip.ErrReauthRequired)
			wantSafe(t, err, tok.AccessToken, tok.RefreshToken, "client-secret")
			if waited := time.Since(start); waited != 0 {
				t.Errorf("the error took %v", waited)
			}
			wait(time.Minute)
		}
		r.wantTokenRequests(t, 1)

		if err := r.src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		r.mustGet(t)
	})
}

func TestInvalidGrantLeavesAValidTokenInUse(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		wait(57 * time.Minute)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		for range 10 {
			r.mustGet(t)
			wait(time.Second)
		}
		r.wantTokenRequests(t, 1)
		wait(4 * time.Minute)
		_, err := r.src.Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		r.wantTokenRequests(t, 1)
	})
}

func TestConfigurationErrorsKeepTheToken(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Status: 401, Error: "invalid_client"})
		_, err := r.src.Token()
		if errors.Is(err, authtrip.ErrReauthRequired) || !strings.Contains(err.Error(), "check ClientID") {
			t.Errorf("error = %v, want one that says what to check", err)
		}
		wait(time.Minute)
		r.mustGet(t)
	})
}

func TestErrorsAsRetrieveErrorKeepsWorking(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		_, err := r.src.Token()
		var re *oauth2.RetrieveError
		if !errors.As(err, &re) {
			t.Fatalf("error %v is no *oauth2.RetrieveError", err)
		}
		if re.ErrorCode != "invalid_grant" || re.Response.StatusCode != http.StatusBadRequest || re.Body != nil || re.Response.Request != nil {
			t.Errorf("RetrieveError has code %q, status %d: want a sanitised copy", re.ErrorCode, re.Response.StatusCode)
		}
		if re.Error() == "" {
			t.Error("RetrieveError has no text")
		}
	})
}

func TestBadTokenResponsesAreErrorsThatSayWhat(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html"}}
	for _, tt := range []struct {
		name  string
		fault authtriptest.Fault
		want  string
	}{
		{"HTML", authtriptest.Fault{Status: 200, Body: "<html>", Header: html}, "not a JSON object (Content-Type text/html)"},
		{"two gigabytes", authtriptest.Fault{Status: 200, BodySize: 2 << 30}, "larger than 1048576 bytes"},
		{"no access_token", authtriptest.Fault{JSON: map[string]any{"access_token": nil}}, "no access_token"},
		{"redirect", authtriptest.Fault{Status: 307, Header: http.Header{"Location": {"https://evil.example"}}}, "set TokenURL to where it points"},
		{"status 204", authtriptest.Fault{Status: 204}, "no access_token"},
		{"error with status 200", authtriptest.Fault{Status: 200, Body: `{"error":"invalid_client"}`}, "check ClientID"},
		{"error code that is none", authtriptest.Fault{Error: "Ha Ha"}, "unprintable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), func(r *rig) { r.src.GracePeriod = -1 }, func(t *testing.T, r *rig) {
				old, err := r.src.Token()
				if err != nil {
					t.Fatal(err)
				}
				expire(r)
				r.srv.FailAlways(authtriptest.TokenPath, tt.fault)
				_, err = r.src.Token()
				wantSafe(t, err, old.AccessToken, old.RefreshToken, "client-secret", "<html>")
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error = %v, want it to contain %q", err, tt.want)
				}
			})
		})
	}
}

func TestTokenOfAnUnknownTypeIsStoredAndNotSent(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"token_type": "mac"}})
		_, err := r.get(t.Context())
		if err == nil || !strings.Contains(err.Error(), `has type "mac", want Bearer`) {
			t.Errorf("error = %v, want one that names the type", err)
		}
		tok, err := r.src.Token()
		if err != nil || !r.srv.Valid(tok.RefreshToken) {
			t.Errorf("the rotated refresh token was lost: %v", err)
		}
	})
}

func TestConfigurationMistakesNameTheField(t *testing.T) {
	conf := (&authtriptest.Server{}).Config(asURL)
	grant := func(edit func(*authtrip.Grant)) *authtrip.Source {
		g := authtrip.RefreshToken(conf)
		edit(g)
		return &authtrip.Source{Refresher: g, Initial: &oauth2.Token{RefreshToken: "r"}}
	}
	for _, tt := range []struct {
		src  *authtrip.Source
		want string
	}{
		{&authtrip.Source{}, "Source.Refresher is nil"},
		{grant(func(g *authtrip.Grant) { g.TokenURL = "" }), "Grant.TokenURL is empty"},
		{grant(func(g *authtrip.Grant) { g.TokenURL = "as.example/token" }), "Grant.TokenURL is not an absolute https URL"},
		{grant(func(g *authtrip.Grant) { g.TokenURL = "http://as.example/token" }), "Grant.TokenURL is plain http"},
		{grant(func(g *authtrip.Grant) { g.TokenURL = "https://u:p@as.example/token" }), "Grant.TokenURL must have no user"},
		{grant(func(g *authtrip.Grant) { g.ClientID = "" }), "Grant.ClientID is empty"},
		{&authtrip.Source{Refresher: authtrip.FromTokenSource(nil)}, "TokenSource is nil"},
		{&authtrip.Source{Refresher: authtrip.RefreshToken(conf)}, "nobody has logged in"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			_, err := tt.src.Token()
			wantSafe(t, err)
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want it to contain %q", err, tt.want)
			}
		})
	}
	if err := new(authtrip.Source).SetToken(t.Context(), nil); err == nil {
		t.Error("SetToken(nil): no error")
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

func TestTokenIsStoredBeforeAnyWaiterGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{delay: 2 * time.Second}
		r := newRig(t, rotating(time.Hour), func(r *rig) { r.src.Store = store })
		r.src.Initial = expired(r.src.Initial)
		crowd(100, func(int) {
			tok, err := r.src.TokenContext(t.Context())
			if err != nil {
				t.Error(err)
			} else if !store.holds(tok.AccessToken) {
				t.Error("a waiter got a token that was not stored")
			}
		})
	})
}

// slowStore takes its time for every Save, and fails while it is down.
type slowStore struct {
	authtrip.MemoryStore
	delay time.Duration
	down  atomic.Bool
}

var errStoreDown = errors.New("connection refused")

func (s *slowStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	if s.down.Load() {
		return nil, "", errStoreDown
	}
	return s.MemoryStore.Load(ctx, key)
}

func (s *slowStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	wait(s.delay)
	if s.down.Load() {
		return "", errStoreDown
	}
	return s.MemoryStore.Save(ctx, key, value, version)
}

func (s *slowStore) holds(token string) bool {
	b, _, err := s.MemoryStore.Load(context.Background(), "alice")
	return err == nil && strings.Contains(string(b), token)
}

func TestRotatedTokenThatCannotBeSavedIsKeptAndSavedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		r := newRig(t, rotating(time.Hour), func(r *rig) { r.src.Store = store })
		r.mustGet(t)
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Until: closedAfter(func() { store.down.Store(true) })})
		_, err := r.src.Token()
		wantIs(t, err, authtrip.ErrNotSaved)
		r.wantTokenRequests(t, 1)
		store.down.Store(false)
		wait(time.Minute)
		r.mustGet(t)
		r.wantTokenRequests(t, 1)
		tok, err := r.src.Token()
		if err != nil || !store.holds(tok.RefreshToken) {
			t.Errorf("the rotated refresh token is not in the store: %v", err)
		}
	})
}

// closedAfter returns a closed channel, after f.
func closedAfter(f func()) <-chan struct{} {
	c := make(chan struct{})
	f2 := func() { f(); close(c) }
	time.AfterFunc(time.Second, f2)
	return c
}

func TestStoreDownServesTheValidTokenAndSpendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		r := newRig(t, rotating(time.Hour), func(r *rig) { r.src.Store = store })
		r.mustGet(t)
		store.down.Store(true)
		wait(57 * time.Minute)
		r.mustGet(t)
		wait(4 * time.Minute)
		_, err := r.src.Token()
		wantIs(t, err, errStoreDown)
		r.wantTokenRequests(t, 0)
		store.down.Store(false)
		wait(time.Minute)
		r.mustGet(t)
	})
}

func TestStoreDownDoesNotStopClientCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		store.down.Store(true)
		r := newRig(t, rotating(time.Hour), func(r *rig) {
			grant := authtrip.ClientCredentials(r.srv.ClientCredentials(asURL))
			grant.HTTPClient = &http.Client{Transport: r.net}
			r.src.Refresher, r.src.Initial, r.src.Store = grant, nil, store
		})
		r.mustGet(t)
		expire(r)
		r.mustGet(t)
	})
}

func TestAnswerLostAfterCommit(t *testing.T) {
	lost := authtriptest.Fault{Commit: true, Reset: true}
	for _, tt := range []struct {
		name     string
		grace    time.Duration
		window   time.Duration
		reauth   bool
		requests int
	}{
		{"server with grace", 30 * time.Second, 0, false, 2},
		{"never sent again", 0, -1, true, 1},
		{"server without grace", 0, 0, true, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := rotating(time.Hour)
			srv.ReuseGrace = tt.grace
			inBubble(t, srv, func(r *rig) { r.src.GracePeriod = tt.window }, func(t *testing.T, r *rig) {
				expire(r)
				r.srv.Fail(authtriptest.TokenPath, lost)
				_, err := r.src.Token()
				switch {
				case tt.reauth:
					wantIs(t, err, authtrip.ErrReauthRequired)
					wantIs(t, err, authtrip.ErrInDoubt)
				case err != nil:
					t.Errorf("Token() error = %v", err)
				}
				wait(time.Hour / 2)
				_, _ = r.src.Token()
				r.wantTokenRequests(t, tt.requests)
			})
		})
	}
}

func TestServerThatDoesNotRotateIsAskedAgainAfterAnyOutage(t *testing.T) {
	inBubble(t, &authtriptest.Server{Lifetime: time.Minute}, nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		expire(r)
		r.mustGet(t) // from here on it is known that the refresh token stays
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Reset: true})
		for range 60 {
			if _, err := r.src.Token(); errors.Is(err, authtrip.ErrReauthRequired) {
				t.Fatalf("error = %v: nobody has to log in again", err)
			}
			wait(time.Minute)
		}
		r.srv.Heal(authtriptest.TokenPath)
		wait(time.Minute)
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

// TestFailureOfAnOlderTokenDoesNotHoldUpTheNext: a login that comes while a refresh
// is failing for good must be kept alive like any other.
func TestFailureOfAnOlderTokenDoesNotHoldUpTheNext(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: 5 * time.Second, Error: "invalid_grant"})
		failed := make(chan struct{})
		go func() {
			_, _ = r.src.Token()
			close(failed)
		}()
		synctest.Wait()
		if err := r.src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		<-failed
		for range 5 {
			expire(r)
			r.mustGet(t)
		}
	})
}

func TestShortOutageDuringARenewalInTheBackgroundIsSurvived(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.mustGet(t)
		wait(57 * time.Minute)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Status: http.StatusServiceUnavailable})
		up := time.AfterFunc(6*time.Second, func() { r.srv.Heal(authtriptest.TokenPath) })
		defer up.Stop()
		r.mustGet(t)
		wait(10 * time.Minute)
		r.mustGet(t)
		if got := r.srv.Counts().Token; got != 3 {
			t.Errorf("token requests = %d, want 3: the first, and two replays in the window", got)
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

func TestRefreshKeepsWhatTheResponseLeavesOut(t *testing.T) {
	inBubble(t, &authtriptest.Server{Lifetime: time.Minute}, nil, func(t *testing.T, r *rig) {
		r.src.Initial = r.srv.Issue("alice", "read", "write")
		idToken := r.src.Initial.Extra("id_token")
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"scope": nil, "id_token": nil, "refresh_token": nil}})
		tok, err := r.src.Token()
		if err != nil {
			t.Fatal(err)
		}
		if tok.RefreshToken != r.src.Initial.RefreshToken || tok.Extra("scope") != "read write" || tok.Extra("id_token") != idToken {
			t.Errorf("scope %v, or a token, was lost", tok.Extra("scope"))
		}
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

// A server that answered with the token that an API had rejected was asked in a loop without
// a pause and without an end: no caller came back, and Close neither.
func TestServerThatRepeatsARejectedTokenIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		src := &authtrip.Source{Refresher: authtrip.FromTokenSource(tokenFunc(func() (*oauth2.Token, error) {
			if n.Add(1) > 50 {
				return nil, errors.New("enough")
			}
			return &oauth2.Token{AccessToken: "same", Expiry: time.Now().Add(time.Hour)}, nil
		}))}
		defer src.Close()
		tok, err := src.Token()
		if err != nil {
			t.Fatal(err)
		}
		src.Invalidate(tok)
		_, err = src.Token()
		if err == nil || n.Load() > 3 {
			t.Errorf("Token() = %v after %d token requests", err, n.Load())
		}
	})
}

// The same, with a refresh token of which each was spent at once.
func TestServerThatRepeatsARejectedTokenWithANewRefreshTokenIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		src := &authtrip.Source{Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			if n.Add(1) > 50 {
				return nil, errors.New("enough")
			}
			return &oauth2.Token{AccessToken: "same", RefreshToken: fmt.Sprint(n.Load()), Expiry: time.Now().Add(time.Hour)}, nil
		})}
		defer src.Close()
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "same", RefreshToken: "r", Expiry: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		tok, _ := src.Token()
		src.Invalidate(tok)
		_, err := src.Token()
		if err == nil || n.Load() > 3 {
			t.Errorf("Token() = %v after %d token requests", err, n.Load())
		}
	})
}

// Tokens that had expired when the Store had them were asked for in a loop without an end.
func TestTokensThatExpireBeforeTheyAreSavedAreNotFetchedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		store := new(steps)
		store.before = func(_ context.Context, op string) error {
			if op == "save" {
				wait(1500 * time.Millisecond)
			}
			return nil
		}
		src := &authtrip.Source{Store: store, Key: "k", Refresher: authtrip.FromTokenSource(tokenFunc(func() (*oauth2.Token, error) {
			if n.Add(1) > 50 {
				return nil, errors.New("enough")
			}
			return &oauth2.Token{AccessToken: fmt.Sprint(n.Load()), Expiry: time.Now().Add(time.Second)}, nil
		}))}
		defer src.Close()
		_, err := src.Token()
		if err == nil || n.Load() > 3 {
			t.Errorf("Token() = %v after %d token requests", err, n.Load())
		}
	})
}
