package authtrip_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// Providers without OpenID Connect.

const forge = "https://forge.example" // an issuer of the program's own

// claimInBubble runs a test on the user info of a provider that knows its users by the
// claim id. Its tokens have an ID token, which is another thing's business.
func claimInBubble(t *testing.T, claim string, f func(t *testing.T, r *rig, info *authtrip.UserInfoSource)) {
	t.Helper()
	srv := rotating(time.Hour)
	srv.Claims = func(subject string) map[string]any {
		return map[string]any{"id": len(subject), "login": subject}
	}
	inBubble(t, srv, func(r *rig) {
		bare := *r.src.Initial
		r.src.Initial = bare.WithExtra(nil)
	}, func(t *testing.T, r *rig) {
		f(t, r, newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.Issuer, u.SubjectClaim, u.TTL = forge, claim, time.Minute
		}))
	})
}

// says makes the endpoint answer with this body from now on.
func (r *rig) says(body string) {
	r.srv.Heal(authtriptest.UserInfoPath)
	r.srv.FailAlways(authtriptest.UserInfoPath, answers("application/json", body))
}

// wantSubjectError holds that the answer was refused for the user whom it names.
func wantSubjectError(t *testing.T, info *authtrip.UserInfoSource, want, got string) {
	t.Helper()
	u, err := info.UserInfo(t.Context())
	e, ok := errors.AsType[*authtrip.SubjectError](err)
	if u != nil || !ok || e.Want != want || e.Got != got || e.Claim != info.SubjectClaim {
		t.Errorf("UserInfo() = %v, %v (%+v), want a SubjectError with %q for %q", u, err, e, got, want)
	}
}

func TestClaimStandsInForSub(t *testing.T) {
	for body, want := range map[string]string{
		`{"id":583231,"login":"octocat"}`:       "583231",
		`{"id":12345678901234567890,"login":1}`: "12345678901234567890", // no float64 has it
		`{"id":-1}`:                             "-1",
		`{"id":1.50}`:                           "1.50",
		`{"id":"{7f3a-4c}","sub":"bob"}`:        "{7f3a-4c}",
		`{"id":"alice","ID":"bob"}`:             "alice",
	} {
		claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
			info.Users = new(authtrip.Users)
			r.says(body)
			wantUser(t, info, want)
			wantUser(t, info, want)
			r.wantFetches(t, 1)
			if u, err := info.Users.Get(t.Context(), forge, want); err != nil || u.Subject != want || u.Issuer != forge {
				t.Errorf("Get() = %+v, %v", u, err)
			}
		})
	}
}

func TestClaimThatNamesNobodyIsASubjectError(t *testing.T) {
	for _, body := range []string{
		`{}`, `{"id":null}`, `{"id":""}`, `{"id":true}`, `{"id":[1]}`, `{"id":{"id":1}}`, `{"ID":1}`, `{"sub":"alice"}`,
		`{"id":1,"id":2}`, `{"id":1,"id":1}`, `null`,
	} {
		claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
			cache := new(spyCache)
			info.Cache = cache
			r.says(body)
			wantSubjectError(t, info, "", "")
			if cache.len() != 0 {
				t.Errorf("%s is in the Cache", body)
			}
		})
	}
}

func TestFirstAnswerOfASessionBindsItsUser(t *testing.T) {
	claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.says(`{"id":1}`)
		wantUser(t, info, "1")
		wait(time.Minute)
		r.says(`{"id":2}`)
		wantSubjectError(t, info, "1", "2")
		_, err := info.UserInfo(t.Context())
		wantSafe(t, err, "\"1\"", "\"2\"", "alice")
		// Nor is the other one believed later, or with the next token of the session.
		wait(time.Hour)
		wantSubjectError(t, info, "1", "2")
		r.wantTokenRequests(t, 1)
		// Not a rejected token, nor an outage, makes the session forget.
		wait(time.Minute)
		r.srv.RevokeAll()
		r.mustGet(t) // finds out
		wantSubjectError(t, info, "1", "2")
		r.wantTokenRequests(t, 2)
		wait(time.Minute)
		r.says(`{"id":1}`)
		wantUser(t, info, "1")
	})
}

func TestNewLoginBindsAnotherUser(t *testing.T) {
	claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.says(`{"id":1}`)
		wantUser(t, info, "1")
		if err := r.src.SetToken(t.Context(), r.srv.Issue("bob")); err != nil {
			t.Fatal(err)
		}
		r.says(`{"id":2}`)
		wantUser(t, info, "2")
		wait(time.Minute)
		r.says(`{"id":1}`)
		wantSubjectError(t, info, "2", "1")
	})
}

func TestNamedSubjectIsHeldAgainstTheClaim(t *testing.T) {
	claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		info.Subject = "7"
		r.says(`{"id":8}`)
		wantSubjectError(t, info, "7", "8")
		r.says(`{"id":7}`)
		wait(time.Minute)
		wantUser(t, info, "7")
	})
}

func TestClaimSubIsHeldAgainstAnIDTokenWhereThereIsOne(t *testing.T) {
	claimInBubble(t, "sub", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.says(`{"sub":"mallory"}`)
		wantUser(t, info, "mallory") // there is none, and it is the first answer
		if err := r.src.SetToken(t.Context(), r.srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		wantSubjectError(t, info, "alice", "mallory")
	})
}

func TestUsersOfSourcesAreBoundEachByItself(t *testing.T) {
	claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		info.Source, _ = many(r, new(authtrip.MemoryStore))
		for i := range 6 {
			r.says([]string{`{"id":1}`, `{"id":2}`}[i%2])
			if u, err := info.UserInfo(withUser(t, i%2)); err != nil || u.Subject != []string{"1", "2"}[i%2] {
				t.Errorf("UserInfo() = %+v, %v", u, err)
			}
			wait(30 * time.Second)
		}
		wait(time.Minute)
		_, err := info.UserInfo(withUser(t, 0))
		if e, ok := errors.AsType[*authtrip.SubjectError](err); !ok || e.Want != "1" || e.Got != "2" {
			t.Errorf("error = %v, want a SubjectError", err)
		}
	})
}

func TestTokensOfAThirdPartySourceAreBoundEachByItself(t *testing.T) {
	claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		src := &userTokens{tokens: make(map[string]*oauth2.Token), issue: r.srv.Issue}
		info.Source = src
		ctx := context.WithValue(t.Context(), userName{}, "alice")
		for i, body := range []string{`{"id":1}`, `{"id":2}`} {
			r.says(body)
			if u, err := info.UserInfo(ctx); err != nil || u.Subject != []string{"1", "2"}[i] {
				t.Errorf("UserInfo() = %+v, %v", u, err)
			}
			src.tokens["alice"] = r.srv.Issue("alice")
		}
	})
}

// TestCacheOfAnotherUserIsNotBelieved: what is in the Cache for a token of the session
// cannot name another user than the session has.
func TestCacheOfAnotherUserIsNotBelieved(t *testing.T) {
	claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		info.Cache = &oddCache{value: `{"format":1,"iss":"` + forge + `","sub":"2","fetched_at":"2000-01-01T00:00:00Z","claims":{"id":2}}`}
		wantUser(t, info, "2") // it binds: there is nothing to hold it against
		wait(time.Minute)
		r.says(`{"id":1}`)
		wantSubjectError(t, info, "2", "1")
	})
	claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		cache := &oddCache{}
		info.Cache = cache
		r.says(`{"id":1}`)
		wantUser(t, info, "1")
		cache.value = `{"format":1,"iss":"` + forge + `","sub":"2","fetched_at":"2000-01-01T00:02:00Z","claims":{"id":2}}`
		wait(2 * time.Minute)
		wantUser(t, info, "1")
		r.wantFetches(t, 2)
	})
}

func TestClaimNeedsAnIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		info := &authtrip.UserInfoSource{URL: userInfoURL, Source: new(authtriptest.Source), SubjectClaim: "id"}
		_, err := info.UserInfo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "UserInfoSource.Issuer is empty") {
			t.Errorf("error = %v, want one that names UserInfoSource.Issuer", err)
		}
	})
}

func TestForbiddenUserInfoDoesNotPretendThatThereIsOpenIDConnect(t *testing.T) {
	claimInBubble(t, "id", func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
		r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: http.StatusForbidden})
		_, err := info.UserInfo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "the provider's own") {
			t.Errorf("error = %v", err)
		}
	})
}
