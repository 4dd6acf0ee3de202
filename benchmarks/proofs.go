package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
)

// proofs measures a request whose token is bound to a key (RFC 9449), without any I/O. Of the
// other libraries none makes proofs: in the column of x/oauth2 is a RoundTripper below it that is
// written by hand, and in that of the floor one that signs and does nothing with it.
func proofs(s scale) ([]row, error) {
	names := []string{floorPeer{}.Name(), "authtrip", oauth2Peer{}.Name()}
	algs := []string{dpop.ES256, dpop.EdDSA}
	var ops []func(n int)
	for _, alg := range algs {
		some, end, err := proofOps(alg)
		if err != nil {
			return nil, err
		}
		defer end()
		ops = append(ops, some...)
	}
	samples := interleave(ops, of(s, 500, 20), of(s, 51, 3))
	var rows []row
	for k, alg := range algs {
		r, allocs := newRow(fmt.Sprintf("Bound token, a proof with %s, 5 headers (× floor and a bare signature); x/oauth2 with a proof by hand", alg)), newRow("… allocations")
		at := k * len(names)
		for i, name := range names {
			r.set(name, measured{median(samples[at+i]), ratio(samples[at+i], samples[at])}.String())
			allocs.set(name, number(allocations(ops[at+i])))
		}
		rows = append(rows, r, allocs)
	}
	saves := newRow("… time with ES256 ÷ time with EdDSA")
	for i, name := range names {
		saves.set(name, times(ratio(samples[i], samples[len(names)+i])))
	}
	return append(rows, saves), nil
}

// proofOps are what sends n requests: the floor, authtrip, and x/oauth2.
func proofOps(alg string) (ops []func(n int), end func(), err error) {
	key, err := newSigner(alg)
	if err != nil {
		return nil, nil, err
	}
	tok := &oauth2.Token{AccessToken: strings.Repeat("t", tokenSize), TokenType: "DPoP", Expiry: time.Now().Add(time.Hour)}
	floor, err := floorPeer{}.Wrap(User{Base: signing{key, alg}, Fetch: func(context.Context) (*oauth2.Token, error) { return tok, nil }})
	if err != nil {
		return nil, nil, err
	}
	keys := &dpop.Keys{Alg: alg}
	own, err := keys.NewKey(context.Background())
	if err != nil {
		return nil, nil, err
	}
	src := &authtrip.Source{
		Refresher: &authtrip.Grant{TokenURL: "https://as.example/token", ClientID: "client", DPoP: keys},
		Initial:   tok.WithExtra(map[string]any{authtrip.DPoPKey: own}),
	}
	hand, err := newByHand(key, alg)
	if err != nil {
		return nil, nil, err
	}
	for _, rt := range []http.RoundTripper{
		floor,
		&authtrip.Transport{Source: src, Base: silent{}},
		&oauth2.Transport{Source: oauth2.StaticTokenSource(tok), Base: hand},
	} {
		ops = append(ops, func(n int) {
			req, p := newProbe(5)
			for range n {
				if _, err := rt.RoundTrip(req); err != nil { //nolint:bodyclose // there is none
					panic(err)
				}
			}
			if len(p.header) < tokenSize {
				panic("the base got no token")
			}
		})
	}
	return ops, func() { _ = src.Close() }, nil
}

func newSigner(alg string) (crypto.Signer, error) {
	if alg == dpop.EdDSA {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// sign signs the text of a proof, as the algorithm has it.
func sign(key crypto.Signer, alg string, text []byte) ([]byte, error) {
	if alg == dpop.EdDSA {
		return key.Sign(rand.Reader, text, crypto.Hash(0))
	}
	digest := sha256.Sum256(text)
	return key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// signing is silent after one bare signature, of as many bytes as those of a proof.
type signing struct {
	key crypto.Signer
	alg string
}

func (s signing) RoundTrip(req *http.Request) (*http.Response, error) {
	var text [480]byte
	if _, err := sign(s.key, s.alg, text[:]); err != nil {
		return nil, err
	}
	return silent{}.RoundTrip(req)
}

// byHand is a proof as a program writes it with the standard library alone.
type byHand struct {
	key    crypto.Signer
	alg    string
	header string
}

func newByHand(key crypto.Signer, alg string) (*byHand, error) {
	jwk := map[string]string{"kty": "OKP", "crv": "Ed25519"}
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		jwk["x"] = base64.RawURLEncoding.EncodeToString(public)
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			return nil, err
		}
		jwk = map[string]string{
			"kty": "EC", "crv": "P-256",
			"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
		}
	}
	b, err := json.Marshal(map[string]any{"typ": "dpop+jwt", "alg": alg, "jwk": jwk})
	return &byHand{key, alg, base64.RawURLEncoding.EncodeToString(b)}, err
}

func (h *byHand) RoundTrip(req *http.Request) (*http.Response, error) {
	hash := sha256.Sum256([]byte(strings.TrimPrefix(req.Header.Get("Authorization"), "DPoP ")))
	claims, err := json.Marshal(map[string]any{
		"jti": rand.Text(), "htm": req.Method, "htu": req.URL.Scheme + "://" + req.URL.Host + req.URL.Path,
		"iat": time.Now().Unix(), "ath": base64.RawURLEncoding.EncodeToString(hash[:]),
	})
	if err != nil {
		return nil, err
	}
	text := h.header + "." + base64.RawURLEncoding.EncodeToString(claims)
	signature, err := h.sign([]byte(text))
	if err != nil {
		return nil, err
	}
	out := new(http.Request)
	*out = *req
	out.Header = maps.Clone(req.Header)
	out.Header.Set("DPoP", text+"."+base64.RawURLEncoding.EncodeToString(signature))
	return silent{}.RoundTrip(out)
}

func (h *byHand) sign(text []byte) ([]byte, error) {
	key, ok := h.key.(*ecdsa.PrivateKey)
	if !ok {
		return sign(h.key, h.alg, text)
	}
	digest := sha256.Sum256(text)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}
