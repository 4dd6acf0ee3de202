package authtrip_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

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

// TestThirdPartySourceIsToldOfASecondRejection: it was told of the first one only, and
// would have returned the other token again.
func TestThirdPartySourceIsToldOfASecondRejection(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		src := new(authtriptest.Source)
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source, u.Subject = src, "alice" })
		r.srv.Fail(authtriptest.UserInfoPath,
			authtriptest.Fault{Challenge: authtriptest.InvalidToken}, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
		_, err := info.UserInfo(t.Context())
		wantStatus(t, err, http.StatusUnauthorized)
		if c := src.Counts(); c.Invalidated != 2 {
			t.Errorf("tokens rejected = %d, want 2", c.Invalidated)
		}
	})
}
