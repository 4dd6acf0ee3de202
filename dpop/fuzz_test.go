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
		if _, err := (&authtrip.Transport{Source: src, Base: base}).RoundTrip(req); err != nil {
			t.Error(err)
		}
		if sent > 2 {
			t.Errorf("requests = %d, want two at most", sent)
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
