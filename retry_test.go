package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

var errRejected = errors.New("the API does not take this token")

// A gRPC, Connect or GraphQL server rejects a token inside of an answer of status 200.
func ExampleRetry() {
	srv := &authtriptest.Server{Rotate: true}
	site, done := server(srv)
	defer done()
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Initial: srv.Issue("alice")}
	defer func() { _ = src.Close() }()
	call := func(tok *oauth2.Token) error { // in place of a generated client
		if !srv.Valid(tok.AccessToken) {
			return errRejected
		}
		return nil
	}

	srv.RevokeAll()
	err := authtrip.Retry(context.Background(), src, func(tok *oauth2.Token) (bool, error) {
		err := call(tok)
		return errors.Is(err, errRejected), err
	})
	fmt.Println(err, srv.Counts().Token)
	// Output: <nil> 1
}

func TestRetry(t *testing.T) {
	other := errors.New("something else")
	for _, tt := range []struct {
		name     string
		prepare  func(*rig)
		answer   func(*rig, *oauth2.Token) (bool, error)
		calls    int
		requests int // of tokens
		want     []error
	}{
		{"accepted", nil, func(*rig, *oauth2.Token) (bool, error) { return false, nil }, 1, 0, nil},
		{"another error", nil, func(*rig, *oauth2.Token) (bool, error) { return false, other }, 1, 0, []error{other}},
		{"rejected once", func(r *rig) { r.srv.RevokeAll() }, func(r *rig, tok *oauth2.Token) (bool, error) {
			if r.srv.Valid(tok.AccessToken) {
				return false, nil
			}
			return true, errRejected
		}, 2, 1, nil},
		{"rejected twice", nil, func(*rig, *oauth2.Token) (bool, error) { return true, errRejected }, 2, 1, []error{errRejected}},
		{"no other token", func(r *rig) {
			r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		}, func(*rig, *oauth2.Token) (bool, error) { return true, errRejected }, 1, 1, []error{errRejected, authtrip.ErrReauthRequired}},
		{"no other token, and no error", func(r *rig) {
			r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		}, func(*rig, *oauth2.Token) (bool, error) { return true, nil }, 1, 1, []error{authtrip.ErrReauthRequired}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				if tt.prepare != nil {
					tt.prepare(r)
				}
				calls := 0
				err := authtrip.Retry(t.Context(), r.src, func(tok *oauth2.Token) (bool, error) {
					calls++
					return tt.answer(r, tok)
				})
				for _, want := range tt.want {
					wantIs(t, err, want)
				}
				if calls != tt.calls || (err == nil) != (len(tt.want) == 0) {
					t.Errorf("Retry() = %v after %d calls, want %d", err, calls, tt.calls)
				}
				r.wantTokenRequests(t, tt.requests)
			})
		})
	}
}

// TestRetryWithAThirdPartySource is told of the rejected token, and has another one.
func TestRetryWithAThirdPartySource(t *testing.T) {
	src := new(authtriptest.Source)
	var sent []string
	err := authtrip.Retry(t.Context(), src, func(tok *oauth2.Token) (bool, error) {
		sent = append(sent, tok.AccessToken)
		return len(sent) == 1, nil
	})
	if err != nil || len(sent) != 2 || sent[0] == sent[1] {
		t.Errorf("Retry() = %v after %d calls, want two, with two tokens", err, len(sent))
	}
}
