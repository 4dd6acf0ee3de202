package authtrip_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

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

// TestEachUsersFailuresAreBackedOffByThemselves: with one slot for the last failure of
// all, 99 calls for two users in turn were 99 requests.
func TestEachUsersFailuresAreBackedOffByThemselves(t *testing.T) {
	for name, fault := range map[string]authtriptest.Fault{
		"forbidden":    {Status: http.StatusForbidden},
		"another user": {JSON: map[string]any{"sub": "mallory"}},
		"html":         answers("text/html", "<html>"),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				all, _ := many(r, new(authtrip.MemoryStore))
				info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source = all })
				r.srv.FailAlways(authtriptest.UserInfoPath, fault)
				for i := range 99 {
					if _, err := info.UserInfo(withUser(t, i%2)); err == nil {
						t.Fatal("no error")
					}
				}
				r.wantFetches(t, 2)
				r.srv.Heal(authtriptest.UserInfoPath)
				wait(time.Second)
				for i := range 2 {
					if _, err := info.UserInfo(withUser(t, i)); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// withUser returns a context whose requests carry the token of the i-th user.
func withUser(t *testing.T, i int) context.Context {
	return authtrip.WithKey(t.Context(), fmt.Sprint("user", i))
}

// TestFailuresOfOneMomentCountOnce: an outage that a hundred users met at once was
// backed off as if a hundred attempts had failed one after the other: for half a minute.
func TestFailuresOfOneMomentCountOnce(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all, _ := many(r, new(authtrip.MemoryStore))
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source = all })
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: http.StatusServiceUnavailable, Delay: time.Second})
		crowd(100, func(i int) { _, _ = info.UserInfo(withUser(t, i)) })
		r.srv.Heal(authtriptest.UserInfoPath)
		wait(250 * time.Millisecond)
		for i := range 2 {
			if _, err := info.UserInfo(withUser(t, i)); err != nil {
				t.Errorf("a quarter of a second after one failure: %v", err)
			}
		}
	})
}

// TestOneUserAsksWhetherTheEndpointIsBack: whenever the next attempt was due, each user's
// call was one.
func TestOneUserAsksWhetherTheEndpointIsBack(t *testing.T) {
	for name, fault := range map[string]authtriptest.Fault{
		"rate limit": {Status: http.StatusTooManyRequests, Delay: time.Second},
		"down":       {Status: http.StatusBadGateway, Delay: time.Second},
		"no answer":  {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(24*time.Hour), nil, func(t *testing.T, r *rig) {
				all, _ := many(r, new(authtrip.MemoryStore))
				info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source = all })
				r.srv.FailAlways(authtriptest.UserInfoPath, fault)
				for i := range 10 {
					crowd(100, func(i int) {
						if _, err := info.UserInfo(withUser(t, i)); err == nil {
							t.Error("no error")
						}
					})
					if i == 0 {
						wait(time.Hour)
						continue // they could not know
					}
					r.wantFetches(t, 100+i)
					wait(time.Hour)
				}
				r.srv.Heal(authtriptest.UserInfoPath)
				if _, err := info.UserInfo(withUser(t, 0)); err != nil {
					t.Fatal(err)
				}
				crowd(100, func(i int) {
					if _, err := info.UserInfo(withUser(t, i)); err != nil {
						t.Error(err)
					}
				})
			})
		})
	}
}

// TestAnswerForOneUserEndsTheOutageForAll, whatever it says of that user; a call that
// never came to ask ends nothing.
func TestAnswerForOneUserEndsTheOutageForAll(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all, _ := many(r, new(authtrip.MemoryStore))
		cache := new(authtrip.MemoryCache)
		other := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source, u.Cache = all, cache })
		if _, err := other.UserInfo(withUser(t, 2)); err != nil {
			t.Fatal(err)
		}
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source, u.Cache = all, cache })
		r.srv.Fail(authtriptest.UserInfoPath,
			authtriptest.Fault{Status: http.StatusServiceUnavailable},
			authtriptest.Fault{Status: http.StatusForbidden})
		_, err := info.UserInfo(withUser(t, 0))
		wantStatus(t, err, http.StatusServiceUnavailable)
		wait(time.Second)
		if _, err = info.UserInfo(withUser(t, 2)); err != nil {
			t.Errorf("what the Cache has: %v", err)
		}
		_, err = info.UserInfo(withUser(t, 0))
		wantStatus(t, err, http.StatusForbidden)
		if _, err = info.UserInfo(withUser(t, 1)); err != nil {
			t.Errorf("another user, after the endpoint was back: %v", err)
		}
	})
}

// TestEndpointThatCannotBeFoundIsOneFactForEveryUser: each user's call looked for it anew.
func TestEndpointThatCannotBeFoundIsOneFactForEveryUser(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all, _ := many(r, new(authtrip.MemoryStore))
		asked, found := 0, errStoreDown
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.Source = all
			u.FindURL = func(context.Context) (string, error) {
				asked++
				return userInfoURL, found
			}
		})
		for i := range 100 {
			_, err := info.UserInfo(withUser(t, i))
			wantIs(t, err, errStoreDown)
		}
		if asked != 1 {
			t.Errorf("FindURL was called %d times, want once", asked)
		}
		found = nil
		wait(time.Second)
		for i := range 100 {
			if _, err := info.UserInfo(withUser(t, i)); err != nil {
				t.Error(err)
			}
		}
	})
}
