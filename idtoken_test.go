package authtrip_test

import (
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

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
