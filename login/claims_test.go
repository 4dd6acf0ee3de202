package login_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// signRaw has the op sign the claims in a JSON document as it is written, with at_hash
// and nonce put in.
func signRaw(o *op, edit func(doc string) string) {
	o.sign = func(c map[string]any) string {
		b, err := json.Marshal(c)
		if err != nil {
			o.t.Fatal(err)
		}
		signer, err := jose.NewSigner(signingKey(o.keys[0]), nil)
		if err != nil {
			o.t.Fatal(err)
		}
		jws, err := signer.Sign([]byte(edit(string(b))))
		if err != nil {
			o.t.Fatal(err)
		}
		s, err := jws.CompactSerialize()
		if err != nil {
			o.t.Fatal(err)
		}
		return s
	}
}

// A claim in capitals after the real one was taken in its place.
func TestRule62ClaimsHaveExactNames(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit  func(string) string
		check string
	}{
		"SUB after sub":     {func(s string) string { return s[:len(s)-1] + `,"SUB":"mallory"}` }, ""},
		"SUB before sub":    {func(s string) string { return `{"SUB":"mallory",` + s[1:] }, ""},
		"Nonce, wrong type": {func(s string) string { return s[:len(s)-1] + `,"AMR":7,"Acr":[]}` }, ""},
		"only SUB":          {func(s string) string { return strings.Replace(s, `"sub":`, `"SUB":`, 1) }, "id_token sub"},
		"only NONCE":        {func(s string) string { return strings.Replace(s, `"nonce":`, `"NONCE":`, 1) }, "id_token nonce"},
		"only Iss":          {func(s string) string { return strings.Replace(s, `"iss":`, `"Iss":`, 1) }, "id_token iss"},
		"only AUD":          {func(s string) string { return strings.Replace(s, `"aud":`, `"AUD":`, 1) }, "id_token aud"},
		"only EXP":          {func(s string) string { return strings.Replace(s, `"exp":`, `"EXP":`, 1) }, "id_token exp"},
		"sub twice":         {func(s string) string { return `{"sub":"mallory",` + s[1:] }, "id_token claims"},
		"iss twice":         {func(s string) string { return `{"iss":"https://evil.example",` + s[1:] }, "id_token claims"},
		"aud twice":         {func(s string) string { return s[:len(s)-1] + `,"aud":"other"}` }, "id_token claims"},
		"another one twice": {func(s string) string { return s[:len(s)-1] + `,"x":1,"x":2}` }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			signRaw(o, tt.edit)
			s, err := o.run(t, o.client(), nil)
			if tt.check != "" {
				wantCheck(t, err, tt.check)
				return
			}
			if err != nil || s.IDToken.Subject != "alice" {
				t.Fatalf("error = %v, or another user", err)
			}
			var c struct{ Sub string }
			if err := s.IDToken.Claims(&c); err != nil || c.Sub != "alice" {
				t.Errorf("Claims: %v, or another user", err)
			}
		})
	}
}

// At a refresh too. With a claim twice the token cannot be read: it is left out, and the
// session goes on as the one of before, as with a token that is no JWT at all.
func TestRule62ClaimsOfARefreshedIDToken(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(string) string{
		"SUB hides another sub": func(s string) string {
			return strings.Replace(s[:len(s)-1], `"sub":"alice"`, `"sub":"mallory"`, 1) + `,"SUB":"alice"}`
		},
		"sub twice":   func(s string) string { return `{"sub":"mallory",` + s[1:] },
		"no claims":   func(string) string { return "[1]" },
		"not base64":  nil,
		"not a token": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			c := o.client()
			s, err := o.run(t, c, nil)
			if err != nil {
				t.Fatal(err)
			}
			switch name {
			case "not base64":
				o.sign = func(map[string]any) string { return "a.!.c" }
			case "not a token":
				o.token = func(m map[string]any) { m["id_token"] = 7 }
			default:
				signRaw(o, edit)
			}
			tok, err := c.RefreshToken().Refresh(t.Context(), s.Token)
			if name == "SUB hides another sub" {
				if !errors.Is(err, authtrip.ErrReauthRequired) {
					t.Errorf("the refresh was taken: %v", err)
				}
				return
			}
			if err != nil || tok.RefreshToken == s.Token.RefreshToken || tok.Extra("id_token") != nil {
				t.Errorf("want a new token without an ID token, got %v", err)
			}
		})
	}
}

// ORCID sends amr as a string, others acr as a number; the login was refused for it.
func TestRule62OddClaimsThatNobodyNeeds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		amr, acr any
		wantAMR  []string
		wantACR  string
	}{
		"as they should be": {[]string{"pwd", "otp"}, "2", []string{"pwd", "otp"}, "2"},
		"amr is a string":   {"pwd", "2", []string{"pwd"}, "2"},
		"acr is a number":   {nil, 2, nil, "2"},
		"neither is right":  {map[string]any{"x": 1}, []int{1}, nil, ""},
		"numbers in amr":    {[]any{"pwd", 3}, nil, []string{"pwd"}, ""},
		"null":              {nil, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.claims = func(c map[string]any) { c["amr"], c["acr"] = tt.amr, tt.acr }
			s, err := o.run(t, o.client(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(s.IDToken.AMR, tt.wantAMR) || s.IDToken.ACR != tt.wantACR {
				t.Errorf("AMR = %q, ACR = %q", s.IDToken.AMR, s.IDToken.ACR)
			}
		})
	}
}

// A clock that may be off by more than five minutes refused each token that had just
// been made.
func TestLargeClockSkew(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		nbf   time.Duration
		check string
	}{
		"now":             {0, ""},
		"within the skew": {9 * time.Minute, ""},
		"later":           {11 * time.Minute, "id_token nbf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.claims = func(c map[string]any) { c["nbf"] = time.Now().Add(tt.nbf).Unix() }
			c := o.client()
			c.ClockSkew = 10 * time.Minute
			_, err := o.run(t, c, nil)
			if tt.check != "" {
				wantCheck(t, err, tt.check)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// The password was typed when it was asked for, and reading the consent page took a
// few minutes more: the login was refused as too old.
func TestMaxAgeCountsFromTheRequest(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		maxAge, typed time.Duration // typed: after the request
		check         string
	}{
		"now, with a long consent":       {-1, 0, ""},
		"an hour, with a long consent":   {time.Hour, -59 * time.Minute, ""},
		"before the request":             {-1, -2 * time.Minute, "id_token auth_time"},
		"longer ago than the hour asked": {time.Hour, -62 * time.Minute, "id_token auth_time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				c := o.client()
				asked, tx := begin(t, c, &login.AuthRequest{MaxAge: tt.maxAge})
				typed := time.Now().Add(tt.typed)
				o.claims = func(c map[string]any) { c["auth_time"] = typed.Unix() }
				wait(8 * time.Minute)
				_, err := c.Exchange(t.Context(), tx, callback(o.consent(asked)))
				if tt.check != "" {
					wantCheck(t, err, tt.check)
				} else if err != nil {
					t.Error(err)
				}
			})
		})
	}
}
