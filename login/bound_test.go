package login_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// stamp is a Binder whose proofs are the name of their key. What a proof is made of is shown
// by the tests of package dpop, and by those against servers of other people.
type stamp struct{}

func (stamp) NewKey(context.Context) (string, error) { return "key", nil }

func (stamp) Prover(key, accessToken string) (authtrip.Prover, error) {
	if accessToken != "" {
		return stamped(key + " and a token"), nil
	}
	return stamped(key), nil
}

type stamped string

func (p stamped) Thumbprint() string { return "thumbprint of " + string(p) }

func (p stamped) Prove(req *http.Request) error {
	req.Header["Dpop"] = []string{string(p)}
	return nil
}

func (stamped) Answered(*http.Request, *http.Response, string) bool { return false }

// TestRule43BearerTokenIsRefusedAtTheLogin: where DPoP was asked for, no way to get a token
// gives one that whoever steals it could use.
func TestRule43BearerTokenIsRefusedAtTheLogin(t *testing.T) {
	t.Parallel()
	for kind, ok := range map[string]bool{"Bearer": false, "": false, "bearer": false, "mac": false, "DPoP": true, "dpop": true} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				o.token = func(m map[string]any) {
					m["token_type"] = kind
					if kind == "" {
						delete(m, "token_type")
					}
				}
				deviceAnswer(o, func(map[string]any) {})
				c := o.client()
				c.DPoP = stamp{}
				_, byCode := o.run(t, c, nil)
				_, bySelf := c.ClientCredentials(nil).Refresh(t.Context(), nil)
				d, err := c.DeviceAuth(t.Context(), &login.AuthRequest{Scopes: []string{"books"}})
				if err != nil {
					t.Fatal(err)
				}
				_, byDevice := c.DeviceToken(t.Context(), d, &login.AuthRequest{Scopes: []string{"books"}})
				for how, err := range map[string]error{"code": byCode, "client credentials": bySelf, "device": byDevice} {
					if (err == nil) != ok || err != nil && errors.Is(err, authtrip.ErrReauthRequired) {
						t.Errorf("%s: error = %v, want one: %v", how, err, !ok)
					}
				}
			})
		})
	}
}

// TestRule43EveryRequestOfABoundClientHasAProof holds the requests that get or use a token to
// the key of the login, and that the authorization request names it.
func TestRule43EveryRequestOfABoundClientHasAProof(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		o.token = func(m map[string]any) { m["token_type"] = "DPoP" }
		c := o.client()
		c.DPoP = stamp{}
		useEverything(t, o, c)
		pushed, _ := o.last("/par")
		if pushed.Get("dpop_jkt") != "thumbprint of key" {
			t.Error("the request names another key than that of its proofs")
		}
		for path, want := range map[string]string{"/par": "key", "/token": "key", "/revoke": "key", "/userinfo": "key and a token"} {
			if _, h := o.last(path); strings.Join(h["Dpop"], ", ") != want {
				t.Errorf("%s has the proof %q, want %q", path, h["Dpop"], want)
			}
		}
		if _, h := o.last("/introspect"); len(h["Dpop"]) != 0 {
			t.Error("introspection has a proof: the token is not the client's own")
		}
	})
}
