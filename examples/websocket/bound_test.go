package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
)

// TestBoundToken: with a token that is bound to a key (RFC 9449) the handshake has a proof,
// and another one where the API wants a nonce. One field of the grant is all that differs.
func TestBoundToken(t *testing.T) {
	t.Parallel()
	const token = "bound"
	sum := sha256.Sum256([]byte(token))
	var asked atomic.Int32
	mux := http.NewServeMux()
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if proofOf(r).HTU != site.URL+"/token" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "DPoP"})
	})
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("DPoP-Nonce", "nonce")
		p := proofOf(r)
		switch {
		case p.Nonce != "nonce":
			asked.Add(1)
			w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("Authorization") != "DPoP "+token, p.HTM != http.MethodGet, p.HTU != site.URL+"/ws",
			p.ATH != base64.RawURLEncoding.EncodeToString(sum[:]):
			w.WriteHeader(http.StatusForbidden)
		default:
			shout(w, r)
		}
	})
	grant := authtrip.ClientCredentials(&clientcredentials.Config{ClientID: "client", TokenURL: site.URL + "/token"})
	grant.DPoP = new(dpop.Keys)
	src := &authtrip.Source{Refresher: grant}
	defer func() { _ = src.Close() }()
	options := &websocket.DialOptions{HTTPClient: &http.Client{Transport: &authtrip.Transport{Source: src}}}
	for range 3 {
		answer, err := ask(t.Context(), "ws"+strings.TrimPrefix(site.URL, "http")+"/ws", options, "hello")
		if err != nil || answer != "HELLO" {
			t.Errorf("ask() = %q, %v", answer, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("a nonce was asked for %d times, want once", n)
	}
}

type proof struct{ HTM, HTU, ATH, Nonce string }

// proofOf returns the proof of a request, nothing if it is none.
func proofOf(r *http.Request) (p proof) {
	jws, err := jose.ParseSigned(r.Header.Get("Dpop"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return proof{}
	}
	b, err := jws.Verify(jws.Signatures[0].Protected.JSONWebKey)
	if err != nil || json.Unmarshal(b, &p) != nil {
		return proof{}
	}
	return p
}
