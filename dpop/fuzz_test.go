package dpop_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
)

// FuzzAnswer has an API answer whatever it likes: any nonce, any challenges. A request is
// sent twice at most, never without a proof, and never as Bearer.
func FuzzAnswer(f *testing.F) {
	f.Add("nonce", `DPoP error="use_dpop_nonce"`, 401)
	f.Add("", `Bearer error="invalid_token", DPoP algs="ES256", error="use_dpop_nonce"`, 401)
	f.Add("a\r\nb", `DPoP error="invalid_dpop_proof", Bearer`, 400)
	f.Add("\"\\", `DPoP error="use_dpop_nonce", error="invalid_token"`, 401)
	f.Add("nonce", `Bearer error="insufficient_scope", scope="a", DPoP error="use_dpop_nonce"`, 403)
	f.Add("nonce", `DPoP algs="ES256", Bearer error="invalid_token"`, 401)
	keys := new(dpop.Keys)
	key, err := keys.NewKey(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	tok := (&oauth2.Token{AccessToken: "token", TokenType: "DPoP"}).WithExtra(map[string]any{authtrip.DPoPKey: key})
	f.Fuzz(func(t *testing.T, nonce, challenge string, status int) {
		if status < 200 || status > 599 {
			return
		}
		refreshes := 0
		refresher := bound{keys: keys, refreshes: &refreshes}
		src := &authtrip.Source{Refresher: refresher, Initial: tok}
		defer func() { _ = src.Close() }()
		sent := 0
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			sent++
			if len(req.Header["Dpop"]) != 1 || !strings.HasPrefix(req.Header.Get("Authorization"), "DPoP ") {
				t.Error("a bound token went out without a proof")
			}
			h := http.Header{"Dpop-Nonce": {nonce}, "Www-Authenticate": {challenge}}
			return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(""))}, nil
		})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example/", nil)
		asked := func(_ *http.Request, c authtrip.Challenge) (*oauth2.Token, error) {
			if c.Error == "use_dpop_nonce" || c.Error == "invalid_dpop_proof" {
				t.Errorf("OnChallenge is asked for a token where the proof is refused: %s", c.Error)
			}
			return nil, nil
		}
		if _, err := (&authtrip.Transport{Source: src, Base: base, OnChallenge: asked}).RoundTrip(req); err != nil {
			t.Error(err)
		}
		if sent > 2 {
			t.Errorf("requests = %d, want two at most", sent)
		}
	})
}

// FuzzTokenAnswer has a token endpoint answer whatever it likes: any type of token, any
// nonce, any error. A request is sent twice at most and never without a proof, and what comes
// of it is a bound token or an error.
func FuzzTokenAnswer(f *testing.F) {
	f.Add("nonce", `{"error":"use_dpop_nonce"}`, 400)
	f.Add("nonce", `{"access_token":"a","token_type":"Bearer"}`, 200)
	f.Add("nonce", `{"access_token":"a","token_type":"DPoP","refresh_token":"b"}`, 200)
	f.Add("", `{"access_token":"a","token_type":"dpop","error":"use_dpop_nonce"}`, 200)
	f.Add("nonce", `{"access_token":"a"}`, 201)
	f.Add("nonce", `{"access_token":"a","token_type":"N_A","authtrip_dpop_key":"theirs"}`, 200)
	f.Add("nonce", `{"access_token":"a","token_type":"DPoP","Token_Type":"Bearer","token_type":"Bearer"}`, 200)
	keys := new(dpop.Keys)
	key, err := keys.NewKey(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	old := (&oauth2.Token{AccessToken: "old", TokenType: "DPoP", RefreshToken: "refresh"}).WithExtra(map[string]any{authtrip.DPoPKey: key})
	f.Fuzz(func(t *testing.T, nonce, body string, status int) {
		if status < 200 || status > 599 {
			return
		}
		sent := 0
		g := &authtrip.Grant{TokenURL: "https://as.example/token", ClientID: "client", DPoP: keys, HTTPClient: &http.Client{
			Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				sent++
				if len(req.Header["Dpop"]) != 1 {
					t.Error("a token request went out without a proof")
				}
				h := http.Header{"Dpop-Nonce": {nonce}, "Content-Type": {"application/json"}}
				return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
			}),
		}}
		tok, err := g.Refresh(t.Context(), old)
		if sent < 1 || sent > 2 {
			t.Errorf("requests = %d, want one or two", sent)
		}
		if err != nil {
			return
		}
		if kind := strings.ToLower(tok.TokenType); kind != "dpop" && kind != "n_a" {
			t.Errorf("token of type %q where DPoP was asked for", tok.TokenType)
		}
		if tok.Extra(authtrip.DPoPKey) != key {
			t.Error("the key of the session is another one")
		}
	})
}

// bound is a refresher that has no other token.
type bound struct {
	keys      *dpop.Keys
	refreshes *int
}

func (b bound) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	*b.refreshes++
	return nil, &authtrip.RefreshError{Err: errors.New("there is no other token")}
}

func (b bound) Repeatable() bool { return true }

func (b bound) Binder() authtrip.Binder { return b.keys }
