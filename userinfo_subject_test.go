package authtrip_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestRule48UserInfoOfAnotherSubjectIsNotUsedAndNotCached(t *testing.T) {
	json := func(members map[string]any) authtriptest.Fault { return authtriptest.Fault{JSON: members} }
	for name, c := range map[string]struct {
		fault authtriptest.Fault
		got   string
	}{
		"missing":         {json(map[string]any{"sub": nil}), ""},
		"different":       {json(map[string]any{"sub": "mallory"}), "mallory"},
		"empty":           {json(map[string]any{"sub": ""}), ""},
		"other case":      {json(map[string]any{"sub": "Alice"}), "Alice"},
		"a number":        {json(map[string]any{"sub": 5}), ""},
		"a list":          {json(map[string]any{"sub": []string{"alice"}}), ""},
		"null":            {answers("application/json", `{"sub":null}`), ""},
		"in capitals":     {answers("application/json", `{"SUB":"alice"}`), ""},
		"two, last wrong": {answers("application/json", `{"sub":"alice","sub":"mallory"}`), ""},
		// These were accepted: encoding/json takes the last of two members.
		"two, first wrong": {answers("application/json", `{"sub":"mallory","sub":"alice"}`), ""},
		"two, the same":    {answers("application/json", `{"sub":"alice","name":{"sub":"x"},"sub":"alice"}`), ""},
		"two, in disguise": {answers("application/json", `{"sub":"mallory","s\u0075b":"alice"}`), ""},
		"nothing":          {answers("application/json", `null`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &spyCache{}
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = cache, time.Minute }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				r.srv.FailAlways(authtriptest.UserInfoPath, c.fault)
				u, err := info.UserInfo(t.Context())
				e, ok := errors.AsType[*authtrip.SubjectError](err)
				if u != nil || !ok || e.Want != "alice" || e.Got != c.got {
					t.Fatalf("UserInfo() = %v, %v, want a SubjectError with %q for alice", u, err, c.got)
				}
				wantSafe(t, err, "alice", "mallory")
				if n := cache.len(); n != 0 {
					t.Errorf("%d entries in the Cache, want none", n)
				}
				r.srv.Heal(authtriptest.UserInfoPath)
				wait(time.Minute)
				wantUser(t, info, "alice")
				r.wantFetches(t, 2)
			})
		})
	}
}

func TestRule48AnotherSubjectEndsTheCopyOfBefore(t *testing.T) {
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.TTL = time.Minute }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		wait(time.Minute)
		r.srv.Fail(authtriptest.UserInfoPath,
			authtriptest.Fault{JSON: map[string]any{"sub": "mallory"}},
			authtriptest.Fault{Status: http.StatusInternalServerError})
		for range 2 {
			if u, err := info.UserInfo(t.Context()); err == nil {
				t.Errorf("UserInfo() = %q, stale %v, want an error", u.Subject, u.Stale)
			}
			wait(time.Minute)
		}
		r.wantFetches(t, 3)
	})
}

func TestRule48WithoutIDTokenTheSubjectMustBeNamed(t *testing.T) {
	inBubble(t, rotating(time.Hour), func(r *rig) {
		bare := *r.src.Initial
		r.src.Initial = bare.WithExtra(nil)
	}, func(t *testing.T, r *rig) {
		_, err := newInfo(t, r, nil).UserInfo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "UserInfoSource.Subject is empty") {
			t.Errorf("error = %v, want one that names UserInfoSource.Subject", err)
		}
		r.wantFetches(t, 0)
		wantUser(t, newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Subject = "alice" }), "alice")
		_, err = newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Subject = "bob" }).UserInfo(t.Context())
		if _, ok := errors.AsType[*authtrip.SubjectError](err); !ok {
			t.Errorf("error = %v, want a SubjectError", err)
		}
	})
}

func TestRule50IssuerAndSubjectNameTheUser(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		u, err := info.UserInfo(t.Context())
		if err != nil || u.Issuer != asURL || u.Subject != "alice" {
			t.Errorf("UserInfo() = %+v, %v, want the id_token's issuer and subject", u, err)
		}
		named := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Issuer = "https://other.example" })
		if u, err = named.UserInfo(t.Context()); err != nil || u.Issuer != "https://other.example" {
			t.Errorf("UserInfo() = %+v, %v, want the configured issuer", u, err)
		}
	})
}

// FuzzUserInfo holds that an answer, whatever it is, is an error or speaks of the
// user who was asked about.
func FuzzUserInfo(f *testing.F) {
	f.Add([]byte(`{"sub":"alice","name":"Alice"}`), "application/json", 200)
	f.Add([]byte(`{"sub":"mallory"}`), "application/json; charset=utf-8", 200)
	f.Add([]byte(`{"SUB":"alice","sub":["alice"]}`), "application/json", 200)
	f.Add([]byte(`a.b.c`), "application/jwt", 200)
	f.Add([]byte(`<html>`), "text/html", 429)
	f.Fuzz(func(t *testing.T, body []byte, contentType string, status int) {
		base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: status,
				Header:     http.Header{"Content-Type": {contentType}, "Retry-After": {contentType}},
				Body:       io.NopCloser(bytes.NewReader(body)),
				Request:    req,
			}, nil
		})
		source := &authtrip.UserInfoSource{URL: asURL, Source: new(authtriptest.Source), Base: base, Subject: "alice"}
		info, err := source.UserInfo(t.Context())
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error has more than one line: %q", err)
			}
			return
		}
		var claims struct {
			Subject string `json:"sub"`
		}
		if err := info.Claims(&claims); err != nil || claims.Subject != "alice" || info.Subject != "alice" || status != http.StatusOK {
			t.Errorf("status %d with sub %q was accepted (%v)", status, claims.Subject, err)
		}
	})
}
