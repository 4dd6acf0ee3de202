package authtrip_test

import (
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
