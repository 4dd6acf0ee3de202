package authtrip_test

import (
	"context"
	"fmt"
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

// TestStepUpLasts: the token of OnChallenge served one request, and the next was rejected again.
func TestStepUpLasts(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true, APIScope: "admin"}
	var asked atomic.Int32
	inBubble(t, srv, func(r *rig) {
		r.transport.OnChallenge = func(req *http.Request, _ authtrip.Challenge) (*oauth2.Token, error) {
			asked.Add(1)
			select {
			case <-time.After(time.Second):
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
			return r.srv.Issue("alice", "admin"), nil
		}
	}, func(t *testing.T, r *rig) {
		crowd(10, func(int) { r.mustGet(t) })
		if n := asked.Load(); n != 1 {
			t.Errorf("ten concurrent challenges asked %d times, want once", n)
		}
		before := r.srv.Counts().API
		r.mustGet(t)
		if n := r.srv.Counts().API - before; n != 1 || asked.Load() != 1 {
			t.Errorf("the request after it took %d API requests and asked %d times, want 1 and 0", n, asked.Load()-1)
		}
		r.srv.RevokeAll() // the one of OnChallenge too: the next answer is a 401
		if status, err := r.get(t.Context()); err != nil {
			t.Errorf("GET = %d, %v", status, err)
		}
		r.mustGet(t)
		if asked.Load() != 2 {
			t.Errorf("asked %d times, want again after the token was rejected", asked.Load())
		}
	})
}

// TestStepUpIsOfOneSessionAndOneOrigin holds that nobody is served another one's token.
func TestStepUpIsOfOneSessionAndOneOrigin(t *testing.T) {
	type user struct{}
	var sent string
	base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
		sent = req.Header.Get("Authorization")
		if strings.HasSuffix(sent, "+") {
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Header: http.Header{"Www-Authenticate": {`Bearer error="insufficient_scope"`}}}, nil
	})
	asked := 0
	tr := &authtrip.Transport{
		Base:   base,
		Source: contextSource(func(ctx context.Context) string { return ctx.Value(user{}).(string) }),
		OnChallenge: func(req *http.Request, _ authtrip.Challenge) (*oauth2.Token, error) {
			asked++
			return &oauth2.Token{AccessToken: req.Context().Value(user{}).(string) + req.URL.Host + "+"}, nil
		},
	}
	for range 2 {
		for _, name := range []string{"alice", "bob"} {
			for _, host := range []string{"a.example", "b.example"} {
				ctx := context.WithValue(t.Context(), user{}, name)
				if _, err := tr.RoundTrip(newGet(ctx, t, "https://"+host+"/")); err != nil {
					t.Fatal(err)
				}
				if want := "Bearer " + name + host + "+"; sent != want {
					t.Errorf("%s at %s was sent as %q", name, host, sent)
				}
			}
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times for two users at two origins, want 4", asked)
	}
}

// TestStepUpThatIsRejectedIsForgotten: the token of Source is used again, and OnChallenge asked for another.
func TestStepUpThatIsRejectedIsForgotten(t *testing.T) {
	valid, asked := "up1", 0
	answer := func(status int, challenge string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: http.NoBody, Header: http.Header{"Www-Authenticate": {challenge}}}, nil
	}
	tr := &authtrip.Transport{
		Source: contextSource(func(context.Context) string { return "base" }),
		Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
			switch req.Header.Get("Authorization") {
			case "Bearer " + valid:
				return answer(http.StatusOK, "")
			case "Bearer base":
				return answer(http.StatusForbidden, `Bearer error="insufficient_scope"`)
			}
			return answer(http.StatusUnauthorized, authtriptest.InvalidToken)
		}),
		OnChallenge: func(*http.Request, authtrip.Challenge) (*oauth2.Token, error) {
			asked++
			return &oauth2.Token{AccessToken: fmt.Sprintf("up%d", asked)}, nil
		},
	}
	for i, want := range []int{200, 200, 403, 200} {
		if i == 2 {
			valid = "up2"
		}
		resp, err := tr.RoundTrip(newGet(t.Context(), t, "https://api.example/"))
		if err != nil || resp.StatusCode != want {
			t.Errorf("request %d: %v, %v, want %d", i, resp, err, want)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want twice", asked)
	}
}

// contextSource is a ContextTokenSource whose token is in the context.
type contextSource func(context.Context) string

func (f contextSource) Token() (*oauth2.Token, error) { return f.TokenContext(context.Background()) }

func (f contextSource) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	return &oauth2.Token{AccessToken: f(ctx)}, nil
}

func (contextSource) Invalidate(*oauth2.Token) {}

// TestCallerWhoLeavesDoesNotFailTheOthersStepUp: those who wait for its call make one of their own.
func TestCallerWhoLeavesDoesNotFailTheOthersStepUp(t *testing.T) {
	srv := &authtriptest.Server{APIScope: "admin"}
	var asked atomic.Int32
	inBubble(t, srv, func(r *rig) {
		r.transport.OnChallenge = func(req *http.Request, _ authtrip.Challenge) (*oauth2.Token, error) {
			asked.Add(1)
			select {
			case <-time.After(10 * time.Second):
				return r.srv.Issue("alice", "admin"), nil
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		}
	}, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := r.get(ctx)
			wantIs(t, err, context.DeadlineExceeded)
		})
		synctest.Wait()
		wg.Go(func() { r.mustGet(t) })
		wg.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times, want twice", n)
		}
	})
}
