package authtrip_test

import (
	"context"
	"errors"
	"fmt"
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
