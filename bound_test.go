package authtrip_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestStepUpWithABoundToken(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true, APIScope: "admin"}
	var asked atomic.Int32
	inBound(t, srv, func(r *rig) {
		r.transport.OnChallenge = func(_ *http.Request, c authtrip.Challenge) (*oauth2.Token, error) {
			asked.Add(1)
			if c.Scheme != "DPoP" || c.Error != "insufficient_scope" {
				t.Errorf("challenge = %q, %q", c.Scheme, c.Error)
			}
			return r.gate.bind(r.srv.Issue("alice", "admin")), nil
		}
	}, func(t *testing.T, r *rig) {
		for range 3 {
			r.mustGet(t)
		}
		r.turnAfter(roleAPI, 1)
		r.mustGet(t)
		if n := asked.Load(); n != 1 {
			t.Errorf("OnChallenge was called %d times, want once", n)
		}
		r.wantTokenRequests(t, 0)
	})
}

// TestStepUpToATokenWithoutItsKeyIsNoSecondTry holds that the token of OnChallenge, of
// which nobody has the key, does not go out as Bearer.
func TestStepUpToATokenWithoutItsKeyIsNoSecondTry(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true, APIScope: "admin"}
	inBound(t, srv, func(r *rig) {
		r.transport.OnChallenge = func(*http.Request, authtrip.Challenge) (*oauth2.Token, error) {
			tok := r.srv.Issue("alice", "admin")
			tok.TokenType = "DPoP"
			return tok, nil
		}
	}, func(t *testing.T, r *rig) {
		if status, err := r.get(t.Context()); err != nil || status != http.StatusForbidden {
			t.Errorf("GET = %d, %v, want the 403", status, err)
		}
		if n := r.srv.Counts().API; n != 1 {
			t.Errorf("API requests = %d, want 1", n)
		}
	})
}

// TestNonceThatChangesTwiceIsNoDemandForAnotherToken: OnChallenge was asked for a token
// with more power when the nonce had changed between a request and its second try.
func TestNonceThatChangesTwiceIsNoDemandForAnotherToken(t *testing.T) {
	for _, code := range []string{"use_dpop_nonce", "invalid_dpop_proof"} {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, n := new(provers), 0
				key, err := b.NewKey(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var refreshes, asked atomic.Int32
				src := &authtrip.Source{
					Refresher: boundRefresher{b, &refreshes},
					Initial:   (&oauth2.Token{AccessToken: "token", TokenType: "DPoP"}).WithExtra(map[string]any{authtrip.DPoPKey: key}),
				}
				defer func() { _ = src.Close() }()
				var failed *authtrip.Event
				tr := &authtrip.Transport{
					Source: src,
					Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
						n++
						h := http.Header{"Dpop-Nonce": {strings.Repeat("n", n)}, "Www-Authenticate": {`DPoP error="` + code + `"`}}
						return &http.Response{StatusCode: http.StatusUnauthorized, Header: h, Body: http.NoBody, Request: req}, nil
					}),
					OnChallenge: func(*http.Request, authtrip.Challenge) (*oauth2.Token, error) {
						asked.Add(1)
						return nil, errors.New("there is none")
					},
					OnEvent: func(e authtrip.Event) {
						if e.Kind == authtrip.EventRequestNotRetried {
							failed = &e
						}
					},
				}
				resp, err := (&http.Client{Transport: tr}).Get("https://api.example/")
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusUnauthorized || n > 2 {
					t.Errorf("status %d after %d requests, want the 401 after two at most", resp.StatusCode, n)
				}
				if asked.Load() != 0 || refreshes.Load() != 0 {
					t.Errorf("OnChallenge was called %d times, the Refresher %d times, want neither", asked.Load(), refreshes.Load())
				}
				if failed == nil || !strings.Contains(failed.Err.Error(), "proof") {
					t.Error("no event says that the proof was not taken")
				}
			})
		})
	}
}

// TestRule43KeyThatDoesNotSignSendsNothing holds that a key that does not sign fails the
// request: nothing goes out, and the token is not blamed.
func TestRule43KeyThatDoesNotSignSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("the device is gone")
		var refreshes atomic.Int32
		src := &authtrip.Source{
			Refresher: boundRefresher{brokenBinder{boom}, &refreshes},
			Initial:   (&oauth2.Token{AccessToken: "token", TokenType: "DPoP"}).WithExtra(map[string]any{authtrip.DPoPKey: "key"}),
		}
		defer func() { _ = src.Close() }()
		sent := 0
		client := &http.Client{Transport: &authtrip.Transport{Source: src, Base: roundTripFunc(func(*http.Request) (*http.Response, error) {
			sent++
			return nil, errors.New("sent")
		})}}
		for range 2 {
			_, err := client.Get("https://api.example/")
			wantIs(t, err, boom)
			<-time.After(time.Minute)
		}
		if sent != 0 || refreshes.Load() != 0 {
			t.Errorf("%d requests and %d refreshes, want none", sent, refreshes.Load())
		}
	})
}

// TestRule72NoKeyIsMadeForNobody: a session that nobody has logged in to had a new key made for
// every request.
func TestRule72NoKeyIsMadeForNobody(t *testing.T) {
	made := 0
	g := &authtrip.Grant{TokenURL: "https://as.example/token", ClientID: "client", DPoP: &provers{seed: func() []byte {
		made++
		return make([]byte, 32)
	}}}
	_, err := g.Refresh(t.Context(), nil)
	wantIs(t, err, authtrip.ErrNoSession)
	_, err = g.Refresh(t.Context(), &oauth2.Token{AccessToken: "token"})
	wantIs(t, err, authtrip.ErrSessionEnded)
	if made != 0 {
		t.Errorf("keys = %d, want none", made)
	}
}
