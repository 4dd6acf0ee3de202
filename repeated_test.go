package authtrip_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// asking is a Refresher that is a function, and that can be asked again at no loss.
type asking func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)

func (f asking) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	return f(ctx, old)
}

func (asking) Repeatable() bool { return true }

// Symptom: a server that answers a refresh with the same access token and a later expiry
// was asked with each request from the refresh point on, and when the first expiry had
// passed every request failed, although the server had said that the token is good.
func TestAccessTokenWhoseLifeTheServerExtendsIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		src := &authtrip.Source{Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			asked.Add(1)
			return &oauth2.Token{AccessToken: "same", RefreshToken: "r", Expiry: time.Now().Add(time.Hour)}, nil
		})}
		defer func() { _ = src.Close() }()
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "same", RefreshToken: "r", Expiry: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		for range 3 * 60 {
			wait(time.Minute)
			if _, err := src.Token(); err != nil {
				t.Fatal("no token:", err)
			}
			synctest.Wait()
		}
		if n := asked.Load(); n > 5 {
			t.Errorf("%d refreshes in three hours, want about three", n)
		}
	})
}

// Symptom: a server that hands out one access token until it expires (WSO2, a metadata
// service) was asked with each request, from the refresh point to the token's end.
func TestTokenThatIsRepeatedWhileItIsDueIsNotAskedForWithEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		end := time.Now().Add(time.Hour)
		src := &authtrip.Source{Refresher: asking(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			asked.Add(1)
			return &oauth2.Token{AccessToken: "same", Expiry: end}, nil
		})}
		defer func() { _ = src.Close() }()
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		wait(56 * time.Minute)
		asked.Store(0)
		for range 1000 {
			wait(100 * time.Millisecond)
			if _, err := src.Token(); err != nil {
				t.Fatal("no token:", err)
			}
			synctest.Wait()
		}
		if n := asked.Load(); n > 100 {
			t.Errorf("1,000 requests in 100 s made %d token requests, want them paced", n)
		}
	})
}

// Symptom: Refresh, which is never answered with the token that it was to replace, returned
// it without an error where the server repeats it.
func TestRefreshByHandIsNotAnsweredWithARepeatedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &authtrip.Source{Refresher: asking(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			return &oauth2.Token{AccessToken: "same", Expiry: time.Now().Add(time.Hour)}, nil
		})}
		defer func() { _ = src.Close() }()
		before, err := src.Token()
		if err != nil {
			t.Fatal(err)
		}
		if after, err := src.Refresh(t.Context()); err == nil && after.AccessToken == before.AccessToken {
			t.Error("Refresh() = the token that it was to replace, without an error")
		}
	})
}

// Symptom: while a call of a Refresher was under way, and its context was good, the Source
// called it again.
func TestRefresherIsNotCalledAgainWhileItsContextIsGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, overlaps atomic.Int32
		var last atomic.Pointer[context.Context]
		src := &authtrip.Source{Refresher: asking(func(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) {
			calls.Add(1)
			if before := last.Swap(&ctx); before != nil && (*before).Err() == nil {
				overlaps.Add(1)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})}
		defer func() { _ = src.Close() }()
		for range 300 {
			_, _ = src.Token()
			wait(99 * time.Millisecond) // never at the moment in which a context ends
		}
		if n := overlaps.Load(); n > 0 || calls.Load() < 2 {
			t.Errorf("%d of %d calls while the one before had a context that was good, want none of some", n, calls.Load())
		}
	})
}

// Symptom: RefreshTimeout says that an answer that comes up to two seconds later is still
// used; one with the first token was not.
func TestFirstTokenThatComesALittleLateIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		src := &authtrip.Source{Refresher: asking(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			asked.Add(1)
			wait(11 * time.Second)
			return &oauth2.Token{AccessToken: "a", Expiry: time.Now().Add(time.Hour)}, nil
		})}
		defer func() { _ = src.Close() }()
		_, _ = src.Token()
		wait(2 * time.Second)
		if _, err := src.Token(); err != nil || asked.Load() != 1 {
			t.Errorf("after the answer: error %v, %d token requests, want none and one", err, asked.Load())
		}
	})
}

// Symptom: a Refresher of one's own that reported status 502 in a RefreshError counted as
// one that had certainly not been heard: the refresh token was sent again and again, also
// with a negative GracePeriod.
func TestOwnRefreshersAnswerThatSaysNothingIsADoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &replying{fail: &authtrip.RefreshError{StatusCode: http.StatusBadGateway}}
		src := &authtrip.Source{Refresher: server, GracePeriod: -1}
		defer func() { _ = src.Close() }()
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now().Add(-time.Hour)}); err != nil {
			t.Fatal(err)
		}
		var err error
		for range 100 {
			_, err = src.Token()
			wait(time.Second)
		}
		wantIs(t, err, authtrip.ErrInDoubt)
		if server.calls != 1 {
			t.Errorf("the refresh token was sent %d times, want once", server.calls)
		}
	})
}

// Symptom: the server's invalid_grant, in a RefreshError of one's own Refresher, ended no
// session: the refresh token was sent for ever (rule 30).
func TestOwnRefreshersInvalidGrantEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &replying{fail: &authtrip.RefreshError{StatusCode: http.StatusBadRequest, Code: "invalid_grant"}}
		src := &authtrip.Source{Refresher: server}
		defer func() { _ = src.Close() }()
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now().Add(-time.Hour)}); err != nil {
			t.Fatal(err)
		}
		var err error
		for range 100 {
			_, err = src.Token()
			wait(time.Second)
		}
		wantIs(t, err, authtrip.ErrSessionEnded)
		if server.calls != 1 {
			t.Errorf("the refresh token was sent %d times, want once", server.calls)
		}
	})
}

// Symptom: with a negative GracePeriod and a lost answer the error was ErrReauthRequired, as
// only a login helps, and Status said that none was needed.
func TestStatusAfterALostAnswerThatIsNeverAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &authtrip.Source{Refresher: &replying{fail: errors.New("lost")}, GracePeriod: -1}
		defer func() { _ = src.Close() }()
		if err := src.SetToken(t.Context(), &oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now().Add(-time.Hour)}); err != nil {
			t.Fatal(err)
		}
		_, _ = src.Token()
		wait(time.Minute)
		_, err := src.Token()
		if st := src.Status(); errors.Is(err, authtrip.ErrReauthRequired) != st.NeedsLogin() {
			t.Errorf("Status().NeedsLogin() = %v in state %s, and Token() error = %v", st.NeedsLogin(), st.State, err)
		}
	})
}

// Symptom: the text of an error of FromTokenSource held what a server had written, which
// can be an echo of the refresh token.
func TestErrorOfATokenSourceHoldsNothingThatAServerWrote(t *testing.T) {
	site := serveRaw(t, "HTTP/1.1 secret-of-the-server\r\n\r\n")
	conf := &oauth2.Config{ClientID: "c", Endpoint: oauth2.Endpoint{TokenURL: site, AuthStyle: oauth2.AuthStyleInParams}}
	vendor := conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: "r"})
	src := &authtrip.Source{Refresher: authtrip.FromTokenSource(vendor)}
	defer func() { _ = src.Close() }()
	_, err := src.Token()
	wantSafe(t, err, "secret-of-the-server")
}
