package authtrip_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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

const userInfoURL = asURL + authtriptest.UserInfoPath

// newInfo returns the user info of the rig's user.
func newInfo(t *testing.T, r *rig, configure func(*authtrip.UserInfoSource)) *authtrip.UserInfoSource {
	t.Helper()
	info := &authtrip.UserInfoSource{URL: userInfoURL, Source: r.src, Base: r.net, OnEvent: r.events.add}
	if configure != nil {
		configure(info)
	}
	t.Cleanup(func() {
		if err := info.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return info
}

// infoInBubble runs a test on the user info of alice, whose token lasts an hour.
func infoInBubble(t *testing.T, configure func(*authtrip.UserInfoSource), f func(t *testing.T, r *rig, info *authtrip.UserInfoSource)) {
	t.Helper()
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		f(t, r, newInfo(t, r, configure))
	})
}

// wantUser asks and holds that the answer is fresh and of this user.
func wantUser(t *testing.T, info *authtrip.UserInfoSource, subject string) {
	t.Helper()
	u, err := info.UserInfo(t.Context())
	if err != nil {
		t.Fatalf("UserInfo() = %v", err)
	}
	if u.Subject != subject || u.Stale {
		t.Errorf("UserInfo() = %q, stale %v, want %q, fresh", u.Subject, u.Stale, subject)
	}
}

func (r *rig) wantFetches(t *testing.T, want int) {
	t.Helper()
	if got := r.srv.Counts().UserInfo; got != want {
		t.Errorf("user info requests = %d, want %d (events: %v)", got, want, r.events.kinds())
	}
}

// answers is a fault that answers with a body of this type.
func answers(contentType, body string) authtriptest.Fault {
	return authtriptest.Fault{Body: body, Header: http.Header{"Content-Type": {contentType}}}
}

func TestThousandUserInfoCallersMakeOneFetch(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Delay: 3 * time.Second})
		crowd(1000, func(int) { wantUser(t, info, "alice") })
		r.wantFetches(t, 1)
		r.wantTokenRequests(t, 0)
	})
}

func TestThousandUserInfoCallersOnSocketsMakeOneFetch(t *testing.T) {
	srv := &authtriptest.Server{}
	site := authtriptest.Start(t, srv)
	fetching, proceed := make(chan struct{}), make(chan struct{})
	srv.OnRequest = func(*http.Request) { close(fetching) } // a second request panics
	srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Until: proceed})
	info := &authtrip.UserInfoSource{
		URL:    site.URL + authtriptest.UserInfoPath,
		Source: oauth2.StaticTokenSource(srv.Issue("alice")),
		Base:   site.Client.Transport,
	}
	go func() {
		<-fetching
		close(proceed)
	}()
	crowd(1000, func(int) { wantUser(t, info, "alice") })
	if got := srv.Counts().UserInfo; got != 1 {
		t.Errorf("user info requests = %d, want 1", got)
	}
	if err := info.Close(); err != nil {
		t.Error(err)
	}
}

func TestPain24UserInfoIsFetchedOncePerTTL(t *testing.T) {
	for name, c := range map[string]struct {
		ttl  time.Duration
		want int // in half an hour
	}{
		"default":   {0, 6},
		"a minute":  {time.Minute, 30},
		"two hours": {2 * time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.TTL = c.ttl }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				for range 30 * 60 {
					wantUser(t, info, "alice")
					wait(time.Second)
				}
				r.wantFetches(t, c.want)
				if hits := r.events.count(authtrip.EventUserInfoHit); hits != 30*60-c.want {
					t.Errorf("hits = %d, want %d", hits, 30*60-c.want)
				}
			})
		})
	}
}

func TestNegativeTTLAsksEachTime(t *testing.T) {
	cache := new(authtrip.MemoryCache)
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.TTL, u.Cache = -1, cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		for range 5 {
			wantUser(t, info, "alice")
		}
		r.wantFetches(t, 5)
	})
}

func TestUserInfoSurvivesARefreshAndDiesWithItsToken(t *testing.T) {
	inBubble(t, rotating(time.Minute), nil, func(t *testing.T, r *rig) {
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.TTL = time.Hour })
		wantUser(t, info, "alice")
		wait(53 * time.Second) // past the refresh point
		r.mustGet(t)
		synctest.Wait()
		r.wantTokenRequests(t, 1)
		wantUser(t, info, "alice")
		r.wantFetches(t, 1)
		wait(7 * time.Second)
		wantUser(t, info, "alice")
		r.wantFetches(t, 2)
	})
}

func TestUserInfoDiesWhenItsTokenIsRefused(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		r.srv.RevokeAll()
		r.mustGet(t) // finds out
		wantUser(t, info, "alice")
		r.wantFetches(t, 2)
		r.wantTokenRequests(t, 1)
	})
}

func TestUserInfoOfARevokedLoginIsNotServed(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		r.srv.Revoke(r.src.Initial.RefreshToken)
		if status, err := r.get(t.Context()); status != http.StatusUnauthorized || err != nil {
			t.Fatalf("GET = %d, %v, want 401", status, err)
		}
		_, err := info.UserInfo(t.Context())
		wantIs(t, err, authtrip.ErrReauthRequired)
		r.wantFetches(t, 1)
	})
}

func TestTokenThatUserInfoRefusesIsRefreshedOnce(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.RevokeAll()
		crowd(1000, func(int) { wantUser(t, info, "alice") })
		r.wantFetches(t, 2)
		r.wantTokenRequests(t, 1)
		// What came belongs to the token that it came for.
		wantUser(t, info, "alice")
		r.wantFetches(t, 2)
	})
}

func TestRefusedUserInfoRequestKeepsItsConnection(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.RevokeAll()
		wantUser(t, info, "alice")
		if n := r.net.Connections(); n != 1 {
			t.Errorf("connections = %d, want 1 for two fetches and a refresh", n)
		}
	})
}

func TestTokenThatUserInfoAcceptedIsReplacedAtOnceWhenItIsRefused(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.RevokeAll()
		wantUser(t, info, "alice")
		r.srv.RevokeAll()
		r.mustGet(t)
		r.wantTokenRequests(t, 2)
	})
}

func TestRule36UserInfoWithTooLittleScopeIsNotCuredByARefresh(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Challenge: `Bearer error="insufficient_scope", scope="openid"`})
		_, err := info.UserInfo(t.Context())
		wantStatus(t, err, http.StatusUnauthorized)
		r.wantFetches(t, 1)
		r.wantTokenRequests(t, 0)
	})
}

func TestRefusedForGoodIsAnErrorAndEndsTheCopy(t *testing.T) {
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.TTL = time.Minute }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		wait(time.Minute)
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken}, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
		_, err := info.UserInfo(t.Context())
		wantStatus(t, err, http.StatusUnauthorized)
		r.wantFetches(t, 3)
		r.wantTokenRequests(t, 1)
		// Nor is the copy back when the endpoint merely fails.
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: http.StatusServiceUnavailable})
		wait(time.Minute)
		_, err = info.UserInfo(t.Context())
		wantStatus(t, err, http.StatusServiceUnavailable)
	})
}

func TestLoginThatEndsDuringAFetchIsSaid(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.Revoke(r.src.Initial.RefreshToken)
		_, err := info.UserInfo(t.Context())
		wantIs(t, err, authtrip.ErrReauthRequired)
		wantSafe(t, err, r.src.Initial.AccessToken, r.src.Initial.RefreshToken)
		r.wantFetches(t, 1)
	})
}

// wantStatus holds that err is a UserInfoError with this status.
func wantStatus(t *testing.T, err error, want int) *authtrip.UserInfoError {
	t.Helper()
	e, ok := errors.AsType[*authtrip.UserInfoError](err)
	if !ok {
		t.Fatalf("error = %v (%T), want *UserInfoError", err, err)
	}
	if e.StatusCode != want {
		t.Errorf("StatusCode = %d, want %d (%v)", e.StatusCode, want, err)
	}
	return e
}

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
		"two, last wrong": {answers("application/json", `{"sub":"alice","sub":"mallory"}`), "mallory"},
		"nothing":         {answers("application/json", `null`), ""},
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

func TestRule49SignedUserInfo(t *testing.T) {
	verify := func(_ context.Context, raw string) ([]byte, error) {
		if raw != "a signed jwt" {
			return nil, errors.New("signature is wrong")
		}
		return []byte(`{"sub":"alice","name":"Alice"}`), nil
	}
	for name, c := range map[string]struct {
		verify func(context.Context, string) ([]byte, error)
		body   string
		want   string // in the error; "" if there is none
	}{
		"no verifier":  {nil, "a signed jwt", "UserInfoSource.VerifyJWT"},
		"verified":     {verify, "a signed jwt", ""},
		"not verified": {verify, "a forged jwt", "signature is wrong"},
		"of another user": {
			func(context.Context, string) ([]byte, error) { return []byte(`{"sub":"mallory"}`), nil },
			"a signed jwt", "sub is not",
		},
		"verifier panics": {func(context.Context, string) ([]byte, error) { panic("mine") }, "a signed jwt", "panic"},
		"verifier hangs":  {func(context.Context, string) ([]byte, error) { wait(time.Hour); return nil, nil }, "a signed jwt", "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &spyCache{}
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.VerifyJWT, u.Cache = c.verify, cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				r.srv.FailAlways(authtriptest.UserInfoPath, answers("application/jwt", c.body))
				if c.want == "" {
					wantUser(t, info, "alice")
					return
				}
				for range 100 { // paced, whatever it was
					_, err := info.UserInfo(t.Context())
					wantSafe(t, err, c.body)
					if !strings.Contains(err.Error(), c.want) {
						t.Errorf("error = %v, want it to say %q", err, c.want)
					}
				}
				r.wantFetches(t, 1)
				wait(time.Hour) // until what hangs has ended
				if n := cache.len(); n != 0 {
					t.Errorf("%d entries in the Cache, want none", n)
				}
			})
		})
	}
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

func TestUserInfoClaimsAreAllThere(t *testing.T) {
	srv := rotating(time.Hour)
	srv.Claims = func(string) map[string]any {
		return map[string]any{"email": "alice@example.com", "groups": []string{"a", "b"}}
	}
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		u, err := newInfo(t, r, nil).UserInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			Email  string   `json:"email"`
			Groups []string `json:"groups"`
		}
		if err := u.Claims(&claims); err != nil || claims.Email != "alice@example.com" || len(claims.Groups) != 2 {
			t.Errorf("Claims() = %+v, %v", claims, err)
		}
		var wrong struct {
			Email int `json:"email"`
		}
		wantSafe(t, u.Claims(&wrong), "alice@example.com")
	})
}

func TestSetTokenOfAnotherUserNeverShowsTheFormersInfo(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		if err := r.src.SetToken(t.Context(), r.srv.Issue("bob")); err != nil {
			t.Fatal(err)
		}
		wantUser(t, info, "bob")
		r.wantFetches(t, 2)
		// Not as a stale copy either.
		if err := r.src.SetToken(t.Context(), r.srv.Issue("carol")); err != nil {
			t.Fatal(err)
		}
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: http.StatusServiceUnavailable})
		u, err := info.UserInfo(t.Context())
		if u != nil {
			t.Errorf("UserInfo() = %q, stale %v, want none", u.Subject, u.Stale)
		}
		wantStatus(t, err, http.StatusServiceUnavailable)
	})
}

func TestSetTokenDuringAFetchDoesNotMixUsers(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Delay: 3 * time.Second})
		done := async(func() { wantUser(t, info, "alice") }) // who asked while it was alice
		synctest.Wait()
		if err := r.src.SetToken(t.Context(), r.srv.Issue("bob")); err != nil {
			t.Fatal(err)
		}
		wantUser(t, info, "bob") // does not join alice's flight
		<-done
		wantUser(t, info, "bob") // and is not overwritten when that lands
	})
}

func TestTokenReplacedByAnotherUsersDuringAFetch(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Delay: 3 * time.Second, Challenge: authtriptest.InvalidToken})
		// Alice's token is refused, and the next one there is is bob's.
		done := async(func() { wantUser(t, info, "bob") })
		synctest.Wait()
		if err := r.src.SetToken(t.Context(), r.srv.Issue("bob")); err != nil {
			t.Fatal(err)
		}
		<-done
		wantUser(t, info, "bob")
		r.wantFetches(t, 2)
		r.wantTokenRequests(t, 0)
	})
}

func TestOneUsersFailureDoesNotHoldUpTheNext(t *testing.T) {
	for name, fault := range map[string]authtriptest.Fault{
		"sub":       {JSON: map[string]any{"sub": "mallory"}},
		"forbidden": {Status: http.StatusForbidden, Header: http.Header{"Retry-After": {"60"}}},
	} {
		t.Run(name, func(t *testing.T) {
			infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				r.srv.Fail(authtriptest.UserInfoPath, fault)
				if _, err := info.UserInfo(t.Context()); err == nil {
					t.Error("no error")
				}
				if err := r.src.SetToken(t.Context(), r.srv.Issue("bob")); err != nil {
					t.Fatal(err)
				}
				wantUser(t, info, "bob")
			})
		})
	}
}

func TestBusyEndpointIsLeftAloneByEveryUser(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"60"}}})
		for range 10 {
			_, err := info.UserInfo(t.Context())
			if e := wantStatus(t, err, http.StatusTooManyRequests); e.RetryAfter != time.Minute {
				t.Errorf("RetryAfter = %v, want 1m", e.RetryAfter)
			}
			if err := r.src.SetToken(t.Context(), r.srv.Issue("bob")); err != nil {
				t.Fatal(err)
			}
		}
		r.wantFetches(t, 1)
		wait(time.Minute)
		wantUser(t, info, "bob")
	})
}

func TestUserInfoOfManySubjectsIsNotMixedUp(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		users := &authtrip.Sources{New: func(subject string) (*authtrip.Source, error) {
			return &authtrip.Source{Refresher: r.src.Refresher, Store: store, Key: subject, Initial: r.srv.Issue(subject)}, nil
		}}
		defer users.Close()
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Delay: time.Second})
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.Source, u.Cache = users, &authtrip.MemoryCache{}
		})
		names := []string{"alice", "bob", "carol"}
		for range 3 {
			crowd(300, func(i int) {
				name := names[i%len(names)]
				u, err := info.UserInfo(authtrip.WithKey(t.Context(), name))
				if err != nil || u.Subject != name {
					t.Errorf("UserInfo() of %s = %+v, %v", name, u, err)
				}
			})
		}
		r.wantFetches(t, len(names))
	})
}

func TestFailingEndpointIsPacedAndTheLastCopyServed(t *testing.T) {
	retryAfter := func(s string) http.Header { return http.Header{"Retry-After": {s}} }
	for name, c := range map[string]struct {
		fault authtriptest.Fault
		most  int // requests in ten minutes
	}{
		"403":                  {authtriptest.Fault{Status: http.StatusForbidden}, 40},
		"500":                  {authtriptest.Fault{Status: http.StatusInternalServerError}, 40},
		"429 with Retry-After": {authtriptest.Fault{Status: http.StatusTooManyRequests, Header: retryAfter("120")}, 5},
		"503 for a year":       {authtriptest.Fault{Status: http.StatusServiceUnavailable, Header: retryAfter("31536000")}, 2},
		"html":                 {answers("text/html", "<html>"), 40},
		"no answer":            {authtriptest.Fault{Reset: true}, 3 * 40},
		"too slow":             {authtriptest.Fault{Delay: time.Hour}, 40},
	} {
		t.Run(name, func(t *testing.T) {
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.TTL = time.Minute }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				wantUser(t, info, "alice")
				fetched := time.Now()
				wait(time.Minute)
				r.srv.FailAlways(authtriptest.UserInfoPath, c.fault)
				for failing := time.Now(); time.Since(failing) < 10*time.Minute; wait(time.Second) {
					u, err := info.UserInfo(t.Context())
					if err != nil || u.Subject != "alice" || !u.Stale || !u.FetchedAt.Equal(fetched) {
						t.Fatalf("UserInfo() = %+v, %v, want the copy from %v, stale", u, err, fetched)
					}
				}
				if got := r.srv.Counts().UserInfo; got < 3 || got > 1+c.most {
					t.Errorf("requests in ten minutes = %d, want a few, %d at most", got-1, c.most)
				}
				if age := r.events.last(t, authtrip.EventUserInfoStale).Age; age < 10*time.Minute {
					t.Errorf("age of the last stale copy = %v, want eleven minutes", age)
				}
				r.srv.Heal(authtriptest.UserInfoPath)
				wait(5 * time.Minute)
				wantUser(t, info, "alice")
			})
		})
	}
}

func TestFailingEndpointWithoutACopyIsPaced(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: http.StatusInternalServerError})
		for range 60 {
			crowd(50, func(int) {
				_, err := info.UserInfo(t.Context())
				wantStatus(t, err, http.StatusInternalServerError)
			})
			wait(time.Second)
		}
		if got := r.srv.Counts().UserInfo; got > 10 {
			t.Errorf("requests in a minute = %d, want 10 at most", got)
		}
		r.srv.Heal(authtriptest.UserInfoPath)
		wait(30 * time.Second)
		wantUser(t, info, "alice")
	})
}

func TestSuccessEndsTheRowOfFailures(t *testing.T) {
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.TTL = time.Minute }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: http.StatusInternalServerError})
		for range 100 {
			_, _ = info.UserInfo(t.Context())
			wait(time.Second)
		}
		r.srv.Heal(authtriptest.UserInfoPath)
		wait(30 * time.Second)
		wantUser(t, info, "alice")
		wait(time.Minute)
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Status: http.StatusInternalServerError})
		if u, err := info.UserInfo(t.Context()); err != nil || !u.Stale {
			t.Errorf("UserInfo() = %+v, %v, want the copy, stale", u, err)
		}
		wait(time.Second) // not half a minute, as before
		wantUser(t, info, "alice")
	})
}

func TestOneLostAnswerIsNotSeen(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Reset: true})
		wantUser(t, info, "alice")
	})
}

func TestAnswersThatAreNoUserInfo(t *testing.T) {
	for name, c := range map[string]struct {
		fault authtriptest.Fault
		want  string
	}{
		"html":            {answers("text/html", "<html>secret</html>"), "Content-Type is text/html"},
		"plain text":      {authtriptest.Fault{Body: `{"sub":"alice"}`}, "Content-Type is text/plain"},
		"no type":         {answers("", `{"sub":"alice"}`), "Content-Type is missing"},
		"a list":          {answers("application/json", `[{"sub":"alice"}]`), "not a JSON object"},
		"half an object":  {answers("application/json", `{"sub":"alice"`), "not a JSON object"},
		"two objects":     {answers("application/json", `{"sub":"alice"}{}`), "not a JSON object"},
		"nothing":         {authtriptest.Fault{Status: http.StatusNoContent}, "want status 200"},
		"other success":   {authtriptest.Fault{Status: http.StatusAccepted}, "want status 200"},
		"half the answer": {authtriptest.Fault{Truncate: true}, "unexpected EOF"},
		"forbidden":       {authtriptest.Fault{Status: http.StatusForbidden}, "scope openid"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &spyCache{}
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache = cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				r.srv.FailAlways(authtriptest.UserInfoPath, c.fault)
				_, err := info.UserInfo(t.Context())
				if _, ok := errors.AsType[*authtrip.UserInfoError](err); !ok || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error = %v, want a UserInfoError that says %q", err, c.want)
				}
				wantSafe(t, err, "secret", r.src.Initial.AccessToken)
				if n := cache.len(); n != 0 {
					t.Errorf("%d entries in the Cache, want none", n)
				}
			})
		})
	}
}

func TestHugeUserInfoIsCutAtTheLimit(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		var read atomic.Int64
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.Base = roundTripFunc(func(req *http.Request) (*http.Response, error) {
				resp, err := r.net.RoundTrip(req)
				if err == nil {
					resp.Body = &countingBody{resp.Body, &read}
				}
				return resp, err
			})
		})
		huge := answers("application/json", " ")
		huge.BodySize = 2 << 30
		r.srv.Fail(authtriptest.UserInfoPath, huge)
		_, err := info.UserInfo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("error = %v, want one of the size", err)
		}
		if n := read.Load(); n > 2<<20 {
			t.Errorf("%d bytes were read", n)
		}
	})
}

type countingBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

func TestRule20UserInfoDoesNotFollowRedirects(t *testing.T) {
	for _, to := range []string{"https://evil.example/", asURL + "/elsewhere", "http://as.example/userinfo"} {
		for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
			infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				var requests atomic.Int32
				evil := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) })
				r.net.Handle("https://evil.example", evil)
				r.net.Handle("http://as.example", evil)
				r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: status, Header: http.Header{"Location": {to}}})
				_, err := info.UserInfo(t.Context())
				wantStatus(t, err, status)
				if !strings.Contains(err.Error(), "UserInfoSource.URL") {
					t.Errorf("error = %v, want it to say what to set", err)
				}
				if n := requests.Load(); n != 0 {
					t.Errorf("%d requests to %s", n, to)
				}
				r.wantFetches(t, 1)
			})
		}
	}
}

func TestCancelledUserInfoLeaderFailsNobodyElse(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Delay: 3 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		leader := async(func() {
			_, err := info.UserInfo(ctx)
			wantIs(t, err, context.Canceled)
		})
		synctest.Wait()
		others := async(func() { crowd(100, func(int) { wantUser(t, info, "alice") }) })
		synctest.Wait()
		start := time.Now()
		cancel()
		<-leader
		if d := time.Since(start); d != 0 {
			t.Errorf("the leader was back after %v, want at once", d)
		}
		<-others
		r.wantFetches(t, 1)
	})
}

func TestCancelledCallerGetsNoStaleCopy(t *testing.T) {
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.TTL = time.Minute }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		wait(time.Minute)
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Delay: 3 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		caller := async(func() {
			_, err := info.UserInfo(ctx)
			wantIs(t, err, context.Canceled)
		})
		synctest.Wait()
		cancel()
		<-caller
		if n := r.events.count(authtrip.EventUserInfoStale); n != 0 {
			t.Errorf("%d stale copies, want none", n)
		}
	})
}

func TestUserInfoWaiterLeavesAtItsOwnDeadline(t *testing.T) {
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.TTL = time.Minute }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		ask := func() (*authtrip.UserInfo, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			u, err := info.UserInfo(ctx)
			if d := time.Since(start); d != time.Second {
				t.Errorf("back after %v, want 1s", d)
			}
			return u, err
		}
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Delay: 5 * time.Second})
		_, err := ask()
		wantIs(t, err, context.DeadlineExceeded)
		wantUser(t, info, "alice") // the fetch went on
		r.wantFetches(t, 1)
		wait(time.Minute)
		if u, err := ask(); err != nil || !u.Stale { // with a copy there is something to return
			t.Errorf("UserInfo() = %+v, %v, want the copy, stale", u, err)
		}
	})
}

func TestUserInfoIsSharedThroughACache(t *testing.T) {
	cache := &spyCache{}
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache = cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		wait(time.Minute)
		second := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Cache = cache })
		wantUser(t, second, "alice")
		r.wantFetches(t, 1)
		// It does not live longer for being shared.
		wait(4*time.Minute + time.Second)
		wantUser(t, second, "alice")
		r.wantFetches(t, 2)
	})
}

func TestCachedUserInfoIsNotOlderThanTheReadersTTL(t *testing.T) {
	cache := &spyCache{}
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = cache, time.Hour }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		wait(10 * time.Minute)
		wantUser(t, newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = cache, time.Minute }), "alice")
		r.wantFetches(t, 2)
	})
}

func TestUserInfoInACacheEndsWithTheToken(t *testing.T) {
	cache := &spyCache{}
	inBubble(t, rotating(time.Minute), nil, func(t *testing.T, r *rig) {
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = cache, time.Hour })
		wantUser(t, info, "alice")
		if ttl := cache.longest(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("ttl in the Cache = %v, want the token's minute at most", ttl)
		}
	})
}

func TestPain24KeysInTheCacheSayNothing(t *testing.T) {
	cache := &spyCache{}
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache, u.Issuer = cache, asURL }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		keys := cache.keys()
		if len(keys) != 1 {
			t.Fatalf("%d keys, want 1", len(keys))
		}
		for _, secret := range []string{r.src.Initial.AccessToken, "alice", "as.example"} {
			if strings.Contains(keys[0], secret) {
				t.Errorf("the key %q holds %q", keys[0], secret)
			}
		}
		for _, doc := range cache.values() {
			if strings.Contains(doc, r.src.Initial.AccessToken) {
				t.Error("the value holds the access token")
			}
		}
	})
}

func TestUserInfoDoesWithoutACacheThatFails(t *testing.T) {
	down := errors.New("connection refused")
	for name, c := range map[string]struct {
		cache authtrip.Cache
		took  time.Duration // at most
		says  bool
	}{
		"fails":           {&oddCache{err: down}, 0, true},
		"hangs":           {&oddCache{hang: true}, 2 * time.Second, true},
		"holds nonsense":  {&oddCache{value: "\x00\x01"}, 0, false},
		"holds nothing":   {&oddCache{value: ""}, 0, false},
		"later format":    {&oddCache{value: `{"format":99,"sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`}, 0, false},
		"no claims":       {&oddCache{value: `{"format":1,"sub":"alice","fetched_at":"2000-01-01T00:00:00Z"}`}, 0, false},
		"another user":    {&oddCache{value: `{"format":1,"sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"mallory"}}`}, 0, false},
		"the whole past":  {&oddCache{value: `{"format":1,"sub":"alice","fetched_at":"1999-01-01T00:00:00Z","claims":{"sub":"alice"}}`}, 0, false},
		"from the future": {&oddCache{value: `{"format":1,"sub":"alice","fetched_at":"2999-01-01T00:00:00Z","claims":{"sub":"alice"}}`}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache, u.TTL = c.cache, 24*time.Hour }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				start := time.Now() // midnight of the first of January 2000
				wantUser(t, info, "alice")
				if d := time.Since(start); d > c.took {
					t.Errorf("it took %v, want %v at most", d, c.took)
				}
				r.wantFetches(t, 1)
				wantUser(t, info, "alice")
				r.wantFetches(t, 1)
				said := r.events.count(authtrip.EventUserInfoFailed) > 0
				if said != c.says {
					t.Errorf("operators were told: %v, want %v (%v)", said, c.says, r.events.kinds())
				}
			})
		})
	}
}

func TestGoodDocumentInACacheIsUsed(t *testing.T) {
	// What the test above holds against: the same document with nothing wrong.
	cache := &oddCache{value: `{"format":1,"iss":"https://as.example","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`}
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache = cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		wantUser(t, info, "alice")
		r.wantFetches(t, 0)
	})
}

func TestFetchedUserInfoIsRecordedInUsers(t *testing.T) {
	users := new(authtrip.Users)
	infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Users = users }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		fetched, err := info.UserInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		u, err := users.Get(t.Context(), asURL, "alice")
		if err != nil || u.Subject != "alice" || !u.FetchedAt.Equal(fetched.FetchedAt) {
			t.Errorf("Get() = %+v, %v, want what was fetched", u, err)
		}
		broken := newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.Users = &authtrip.Users{Cache: &oddCache{err: errors.New("down")}}
		})
		wantUser(t, broken, "alice")
	})
}

func TestClosedUserInfoSourceFetchesNothing(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Delay: 3 * time.Second})
		caller := async(func() { wantUser(t, info, "alice") })
		synctest.Wait()
		start := time.Now()
		if err := info.Close(); err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("Close() = %v after %v, want nil when the fetch is done", err, time.Since(start))
		}
		<-caller
		wantUser(t, info, "alice") // still good
		wait(6 * time.Minute)
		_, err := info.UserInfo(t.Context())
		wantIs(t, err, authtrip.ErrClosed)
		r.wantFetches(t, 1)
	})
}

func TestUserInfoOfAnyTokenSource(t *testing.T) {
	inBubble(t, &authtriptest.Server{Lifetime: time.Hour}, nil, func(t *testing.T, r *rig) {
		conf := r.srv.Config(asURL)
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: r.net})
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.Source, u.Subject, u.TTL = conf.TokenSource(ctx, r.srv.Issue("alice")), "alice", 24*time.Hour
		})
		for range 120 { // minutes: one lifetime and then another
			wantUser(t, info, "alice")
			wait(time.Minute)
		}
		r.wantFetches(t, r.srv.Counts().Token+1) // each token is asked about anew
		if got := r.srv.Counts().Token; got < 1 || got > 2 {
			t.Errorf("token requests = %d, want 1 or 2", got)
		}
	})
}

func TestUserInfoOfATokenThatStaysDiesWithIt(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.Source, u.TTL = oauth2.StaticTokenSource(r.srv.Issue("alice")), 24*time.Hour
		})
		wantUser(t, info, "alice")
		expire(r)
		_, err := info.UserInfo(t.Context())
		wantStatus(t, err, http.StatusUnauthorized)
	})
}

func TestContextTokenSourceIsToldOfARefusal(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		src := new(authtriptest.Source)
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source, u.Subject = src, "alice" })
		r.srv.Fail(authtriptest.UserInfoPath,
			authtriptest.Fault{Challenge: authtriptest.InvalidToken},
			answers("application/json", `{"sub":"alice"}`))
		wantUser(t, info, "alice")
		wantUser(t, info, "alice")
		r.wantFetches(t, 2)
		if c := src.Counts(); c.Invalidated != 1 || c.Tokens != 2 {
			t.Errorf("counts = %+v, want one token refused and two made", c)
		}
	})
}

func TestUserInfoConfigurationMistakesNameTheField(t *testing.T) {
	src := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret"})
	typed := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret", TokenType: "mac"})
	for name, c := range map[string]struct {
		info *authtrip.UserInfoSource
		want string
	}{
		"nothing":       {&authtrip.UserInfoSource{}, "UserInfoSource.Source is nil"},
		"no source":     {&authtrip.UserInfoSource{URL: userInfoURL}, "UserInfoSource.Source is nil"},
		"no URL":        {&authtrip.UserInfoSource{Source: src}, "UserInfoSource.URL is empty"},
		"a path":        {&authtrip.UserInfoSource{Source: src, URL: "/userinfo"}, "UserInfoSource.URL is not"},
		"no URL at all": {&authtrip.UserInfoSource{Source: src, URL: "https://%zz"}, "UserInfoSource.URL is not"},
		"another kind":  {&authtrip.UserInfoSource{Source: src, URL: "ftp://as.example"}, "UserInfoSource.URL is not"},
		"a password":    {&authtrip.UserInfoSource{Source: src, URL: "https://user:pass@as.example"}, "UserInfoSource.URL must have no user"},
		"plain http":    {&authtrip.UserInfoSource{Source: src, URL: "http://as.example/userinfo"}, "UserInfoSource.URL is plain http"},
		"no subject":    {&authtrip.UserInfoSource{Source: src, URL: userInfoURL}, "UserInfoSource.Subject is empty"},
		"token type":    {&authtrip.UserInfoSource{Source: typed, URL: userInfoURL, Subject: "alice"}, "want Bearer"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second one too
				_, err := c.info.UserInfo(t.Context())
				wantSafe(t, err, "secret", "pass")
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error = %v, want it to say %q", err, c.want)
				}
			}
			if err := c.info.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUserInfoGoesOverPlainHTTPWhereThatIsNamed(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		r.net.Handle("http://inner.example", r.srv)
		wantUser(t, newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.URL, u.AllowInsecureHTTP = "http://inner.example"+authtriptest.UserInfoPath, true
		}), "alice")
	})
}

// BenchmarkUserInfoMiss is a fetch, without a network.
func BenchmarkUserInfoMiss(b *testing.B) {
	info := newUserInfo(b)
	asked := &authtrip.UserInfoSource{URL: info.URL, Source: info.Source, Subject: info.Subject, Base: info.Base, TTL: -1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := asked.UserInfo(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// last returns the last event of a kind.
func (l *eventLog) last(t *testing.T, kind authtrip.EventKind) authtrip.Event {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.all) - 1; i >= 0; i-- {
		if l.all[i].Kind == kind {
			return l.all[i]
		}
	}
	t.Fatalf("no event %q", kind)
	return authtrip.Event{}
}

// spyCache is a Cache that a test can look into.
type spyCache struct {
	authtrip.MemoryCache

	mu  sync.Mutex
	all map[string]string
	ttl time.Duration // the longest
}

func (s *spyCache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[string]string)
	}
	s.all[key] = string(value)
	s.ttl = max(s.ttl, ttl)
	return s.MemoryCache.Set(ctx, key, value, ttl)
}

func (s *spyCache) len() int { return len(s.keys()) }

func (s *spyCache) keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for k := range s.all {
		keys = append(keys, k)
	}
	return keys
}

func (s *spyCache) values() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var values []string
	for _, v := range s.all {
		if !json.Valid([]byte(v)) {
			v = "not JSON: " + v
		}
		values = append(values, v)
	}
	return values
}

func (s *spyCache) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ttl
}

// oddCache fails, hangs, or holds one value under every key.
type oddCache struct {
	err   error
	hang  bool
	value string
}

func (o *oddCache) do(ctx context.Context) error {
	if o.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return o.err
}

func (o *oddCache) Get(ctx context.Context, _ string) ([]byte, error) {
	return []byte(o.value), o.do(ctx)
}

func (o *oddCache) Set(ctx context.Context, _ string, _ []byte, _ time.Duration) error {
	return o.do(ctx)
}

func (o *oddCache) Take(ctx context.Context, _ string) ([]byte, error) {
	return []byte(o.value), o.do(ctx)
}

// async calls f; the channel is closed when it has returned, also by FailNow.
func async(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

// TestLoginInAnotherProcessEndsTheAnswerHere: the other process's token has no ID
// token by which the users could be told apart.
func TestLoginInAnotherProcessEndsTheAnswerHere(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		all := replicas(r, 2, store)
		here := &authtrip.UserInfoSource{URL: asURL + authtriptest.UserInfoPath, Source: all[0], Base: r.net, TTL: 24 * time.Hour}
		if info, err := here.UserInfo(t.Context()); err != nil || info.Subject != "alice" {
			t.Fatalf("UserInfo() = %v, %v", info, err)
		}
		bob := r.srv.Issue("bob").WithExtra(map[string]any{})
		if err := all[1].SetToken(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		all[0].Invalidate(r.src.Initial)
		if info, err := here.UserInfo(t.Context()); err == nil {
			t.Errorf("the former user's info was served (%t), want an error: there is nothing to compare sub with", info.Subject == "alice")
		}
	})
}

func TestUsersOfSourcesKeepTheirOwnAnswers(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all, _ := many(r, new(authtrip.MemoryStore))
		info := &authtrip.UserInfoSource{URL: asURL + authtriptest.UserInfoPath, Source: all, Base: r.net}
		for range 20 {
			crowd(50, func(i int) {
				want := fmt.Sprint("user", i)
				got, err := info.UserInfo(authtrip.WithKey(t.Context(), want))
				if err != nil || got.Subject != want {
					t.Errorf("%s: %v", want, err)
				}
			})
		}
		if got := r.srv.Counts().UserInfo; got != 50 {
			t.Errorf("user info requests = %d, want one for each of 50 users", got)
		}
	})
}

func TestPrintedUserInfoSaysNothingOfTheUser(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		source := &authtrip.UserInfoSource{URL: asURL + authtriptest.UserInfoPath, Source: r.src, Base: r.net}
		info, err := source.UserInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("who", "user", info)
		if text := fmt.Sprintf("%v %+v %s", info, info, info) + log.String(); strings.Contains(text, "alice") {
			t.Error("printed user info names the user")
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

func TestUserInfoEndpointIsLookedUpWhenItIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rotating(time.Hour), nil)
		found, asked := "", 0
		info := &authtrip.UserInfoSource{Source: r.src, Base: r.net, FindURL: func(context.Context) (string, error) {
			asked++
			if found == "" {
				return "", errStoreDown
			}
			return found, nil
		}}
		defer info.Close()
		_, err := info.UserInfo(t.Context())
		wantIs(t, err, errStoreDown)
		found = "http://as.example/userinfo"
		wait(time.Minute)
		if _, err = info.UserInfo(t.Context()); err == nil || !strings.Contains(err.Error(), "FindURL is plain http") {
			t.Errorf("plain http: %v, want an error that says so", err)
		}
		found = userInfoURL
		wait(time.Minute)
		for range 3 {
			if user, err := info.UserInfo(t.Context()); err != nil || user.Subject != "alice" {
				t.Errorf("UserInfo() = %v, %v", user, err)
			}
		}
		if asked != 3 {
			t.Errorf("FindURL was called %d times, want once for each request", asked)
		}
	})
}
