package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
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

func TestThousandUserInfoCallersMakeOneFetch(t *testing.T) {
	inBothForms(t, rotatingHourly, nil, func(t *testing.T, r *rig) {
		info := newInfo(t, r, nil)
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

// async calls f; the channel is closed when it has returned, also by FailNow.
func async(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
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
