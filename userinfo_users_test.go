package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

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

// userTokens is a third-party source of many users, each named in the context.
type userTokens struct {
	mu     sync.Mutex
	tokens map[string]*oauth2.Token
	issue  func(user string, scopes ...string) *oauth2.Token
}

type userName struct{}

func (u *userTokens) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	name, _ := ctx.Value(userName{}).(string)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.tokens[name] == nil {
		u.tokens[name] = u.issue(name)
	}
	return u.tokens[name], nil
}

func (u *userTokens) Token() (*oauth2.Token, error) { return u.TokenContext(context.Background()) }

func (u *userTokens) Invalidate(*oauth2.Token) {}

// TestUsersOfAThirdPartySourceKeepTheirOwnAnswers: each call for another user than the
// last one was a request.
func TestUsersOfAThirdPartySourceKeepTheirOwnAnswers(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		src := &userTokens{tokens: make(map[string]*oauth2.Token), issue: r.srv.Issue}
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source = src })
		for i := range 99 {
			want := fmt.Sprint("user", i%3)
			u, err := info.UserInfo(context.WithValue(t.Context(), userName{}, want))
			if err != nil || u.Subject != want {
				t.Fatalf("UserInfo() of %s: %v", want, err)
			}
		}
		r.wantFetches(t, 3)
		crowd(300, func(i int) {
			want := fmt.Sprint("user", i%30)
			u, err := info.UserInfo(context.WithValue(t.Context(), userName{}, want))
			if err != nil || u.Subject != want {
				t.Errorf("UserInfo() of %s: %v", want, err)
			}
		})
		r.wantFetches(t, 30)
	})
}

// TestTwoUserInfoSourcesOfOneSourcesKeepTheirOwnAnswers: they took each other's place,
// and each call was a request.
func TestTwoUserInfoSourcesOfOneSourcesKeepTheirOwnAnswers(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		all, _ := many(r, new(authtrip.MemoryStore))
		one := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source = all })
		other := newInfo(t, r, func(u *authtrip.UserInfoSource) { u.Source, u.Issuer = all, "https://other.example" })
		for i := range 30 {
			for info, issuer := range map[*authtrip.UserInfoSource]string{one: asURL, other: "https://other.example"} {
				u, err := info.UserInfo(withUser(t, i%3))
				if err != nil || u.Issuer != issuer || u.Subject != fmt.Sprint("user", i%3) {
					t.Errorf("UserInfo() = %+v, %v", u, err)
				}
			}
		}
		r.wantFetches(t, 6)
	})
}

// TestAnswersInMemoryAreTenThousandAtMost: the promise at the type.
func TestAnswersInMemoryAreTenThousandAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetches := 0
		info := &authtrip.UserInfoSource{
			URL: userInfoURL, Subject: "alice", TTL: 24 * time.Hour,
			Source: &userTokens{
				tokens: make(map[string]*oauth2.Token),
				issue:  func(user string, _ ...string) *oauth2.Token { return &oauth2.Token{AccessToken: user} },
			},
			Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
				fetches++
				return &http.Response{
					StatusCode: http.StatusOK,
					Header:     http.Header{"Content-Type": {"application/json"}},
					Body:       io.NopCloser(strings.NewReader(`{"sub":"alice"}`)),
					Request:    req,
				}, nil
			}),
		}
		defer info.Close()
		ask := func(user int) {
			if _, err := info.UserInfo(context.WithValue(t.Context(), userName{}, fmt.Sprint("user", user))); err != nil {
				t.Fatal(err)
			}
		}
		want := func(what string, n int) {
			t.Helper()
			if fetches != n {
				t.Errorf("%s: %d requests, want %d", what, fetches, n)
			}
			fetches = n
		}
		for user := range 5000 {
			ask(user)
		}
		for user := range 5000 {
			ask(user)
		}
		want("5,000 users, twice", 5000)
		for user := range 10_000 {
			ask(5000 + user)
			ask(1) // is in use, and stays
		}
		want("10,000 more", 15_000)
		ask(0)
		want("one of 15,000 who was not asked for since", 15_001)
		// Those of an hour ago go with the next two that are new.
		for range 2 {
			wait(time.Hour + time.Second)
			ask(20_000 + fetches)
		}
		want("two hours later", 15_003)
		ask(14_999)
		want("the last one before", 15_004)
	})
}
