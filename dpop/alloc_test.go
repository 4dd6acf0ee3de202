//go:build !race

package dpop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
)

// TestProofAllocatesLittleBesideItsSignature holds a request with a proof to the floor of one
// without (three allocations: the copy of the request, and of its header), its signature, and
// two more.
func TestProofAllocatesLittleBesideItsSignature(t *testing.T) {
	ecdsaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 32)
	bare := testing.AllocsPerRun(200, func() { _, _ = ecdsaKey.Sign(rand.Reader, digest, nil) })
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}
	base := roundTrip(func(*http.Request) (*http.Response, error) { return resp, nil })
	for alg, signature := range map[string]float64{dpop.ES256: bare, dpop.EdDSA: 1} {
		keys := &dpop.Keys{Alg: alg}
		key, err := keys.NewKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tok := (&oauth2.Token{AccessToken: strings.Repeat("t", 900), TokenType: "DPoP"}).WithExtra(map[string]any{authtrip.DPoPKey: key})
		src := &authtrip.Source{Refresher: &authtrip.Grant{TokenURL: "https://as.example/token", ClientID: "c", DPoP: keys}, Initial: tok}
		rt := &authtrip.Transport{Source: src, Base: base}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example/orders?page=1", nil)
		req.Header.Set("Accept", "application/json")
		got := testing.AllocsPerRun(200, func() {
			if _, err := rt.RoundTrip(req); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %v allocations, %v of them the signature's", alg, got, signature)
		if got > signature+3+2 {
			t.Errorf("%s: allocations = %v, want at most %v", alg, got, signature+3+2)
		}
		_ = src.Close()
	}
}
