package authtrip_test

import (
	"errors"
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
