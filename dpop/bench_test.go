package dpop_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
)

// BenchmarkRequest is a request with a bound token of 900 bytes, without a network, beside
// one bare signature.
func BenchmarkRequest(b *testing.B) {
	ok := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}, nil
	})
	for _, alg := range []string{dpop.ES256, dpop.EdDSA} {
		b.Run("authtrip/"+alg, func(b *testing.B) {
			keys := &dpop.Keys{Alg: alg}
			key, err := keys.NewKey(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			tok := (&oauth2.Token{AccessToken: strings.Repeat("t", 900), TokenType: "DPoP"}).WithExtra(map[string]any{authtrip.DPoPKey: key})
			src := &authtrip.Source{Refresher: &authtrip.Grant{TokenURL: "https://as.example/token", ClientID: "c", DPoP: keys}, Initial: tok}
			defer func() { _ = src.Close() }()
			rt := &authtrip.Transport{Source: src, Base: ok}
			req, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, "https://api.example/orders?page=1", nil)
			for i := range 5 {
				req.Header.Set("X-Header-"+string(rune('A'+i)), "value")
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := rt.RoundTrip(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("signature/ES256", func(b *testing.B) {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		digest := sha256.Sum256([]byte("text"))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("signature/EdDSA", func(b *testing.B) {
		_, key, _ := ed25519.GenerateKey(rand.Reader)
		text := []byte(strings.Repeat("t", 400))
		b.ReportAllocs()
		for b.Loop() {
			ed25519.Sign(key, text)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
