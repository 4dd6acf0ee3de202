package authtriptest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/authtriptest"
)

func TestRefreshKeepsTheTokenWithoutRotation(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		tok := srv.Issue("alice", "read", "write")
		for range 2 {
			r := post(t, c, authtriptest.TokenPath, refreshForm(tok.RefreshToken))
			if r.status != 200 || r.RefreshToken != "" || r.ExpiresIn != "3600" || r.Scope != "read write" {
				t.Fatalf("refresh = %d, refresh token %t, expires_in %s, scope %q",
					r.status, r.RefreshToken != "", r.ExpiresIn, r.Scope)
			}
			if got := r.header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control = %q, want no-store", got)
			}
			if got := status(t, c, r.AccessToken); got != 200 {
				t.Errorf("API = %d, want 200", got)
			}
		}
		if n := srv.Counts(); n.Grants["refresh_token"] != 2 || n.Reuses != 0 || n.Overlaps != 0 {
			t.Errorf("counts = %+v", n)
		}
	})
}

func TestReuseRevokesTheFamily(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		tok, other := srv.Issue("alice"), srv.Issue("alice")
		next := post(t, c, authtriptest.TokenPath, refreshForm(tok.RefreshToken))
		if next.RefreshToken == "" || next.RefreshToken == tok.RefreshToken {
			t.Fatal("the refresh token was not rotated")
		}
		if got := status(t, c, tok.AccessToken); got != 200 {
			t.Errorf("older access token: API = %d, want 200", got)
		}
		r := post(t, c, authtriptest.TokenPath, refreshForm(tok.RefreshToken))
		if r.status != 400 || r.Error != "invalid_grant" {
			t.Errorf("reuse = %d %q, want 400 invalid_grant", r.status, r.Error)
		}
		for _, access := range []string{tok.AccessToken, next.AccessToken} {
			if got := status(t, c, access); got != 401 {
				t.Errorf("API = %d after the reuse, want 401", got)
			}
		}
		if r := post(t, c, authtriptest.TokenPath, refreshForm(next.RefreshToken)); r.Error != "invalid_grant" {
			t.Errorf("newest refresh token: %d %q, want invalid_grant", r.status, r.Error)
		}
		if got := status(t, c, other.AccessToken); got != 200 {
			t.Errorf("other family: API = %d, want 200", got)
		}
		if n := srv.Counts(); n.Reuses != 1 || n.FamiliesRevoked != 1 || n.Errors["invalid_grant"] != 2 {
			t.Errorf("counts = %+v", n)
		}
	})
}

func TestGraceAcceptsTheParentOnly(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true, ReuseGrace: 30 * time.Second}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		first := srv.Issue("alice").RefreshToken
		second := post(t, c, authtriptest.TokenPath, refreshForm(first))
		time.Sleep(30*time.Second - 1)
		again := post(t, c, authtriptest.TokenPath, refreshForm(first))
		if again.RefreshToken != second.RefreshToken || again.AccessToken == second.AccessToken {
			t.Error("a replay in the grace must give the same successor and a new access token")
		}
		post(t, c, authtriptest.TokenPath, refreshForm(second.RefreshToken))
		if srv.Valid(first) || !srv.Valid(second.RefreshToken) {
			t.Error("the grandparent is valid, or the parent is not")
		}
		if r := post(t, c, authtriptest.TokenPath, refreshForm(first)); r.Error != "invalid_grant" {
			t.Errorf("grandparent: %d %q, want invalid_grant", r.status, r.Error)
		}
		if n := srv.Counts(); n.FamiliesRevoked != 1 || n.Reuses != 2 {
			t.Errorf("counts = %+v", n)
		}
	})
}

func TestGraceEnds(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true, ReuseGrace: 30 * time.Second}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		first := srv.Issue("alice").RefreshToken
		post(t, c, authtriptest.TokenPath, refreshForm(first))
		time.Sleep(30 * time.Second)
		if r := post(t, c, authtriptest.TokenPath, refreshForm(first)); r.Error != "invalid_grant" {
			t.Errorf("after the grace: %d %q, want invalid_grant", r.status, r.Error)
		}
	})
}

func TestAccessTokensEnd(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Lifetime: time.Minute}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		tok := srv.Issue("alice")
		if want := time.Now().Add(time.Minute); !tok.Expiry.Equal(want) || tok.ExpiresIn != 60 {
			t.Errorf("Expiry = %v (%d s), want %v", tok.Expiry, tok.ExpiresIn, want)
		}
		time.Sleep(time.Minute - 1)
		if got := status(t, c, tok.AccessToken); got != 200 {
			t.Errorf("API = %d before the end, want 200", got)
		}
		time.Sleep(1)
		resp := get(t, c, origin+authtriptest.APIPath, tok.AccessToken)
		resp.Body.Close()
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || got != authtriptest.InvalidToken {
			t.Errorf("API = %d %q, want 401 %q", resp.StatusCode, got, authtriptest.InvalidToken)
		}
		if n := srv.Counts(); n.API != 2 || n.APIRefused != 1 {
			t.Errorf("counts = %+v", n)
		}
	})
}

func TestNegativeLifetimeTellsNoExpiry(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Lifetime: -1}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		tok := srv.Issue("alice")
		r := post(t, c, authtriptest.TokenPath, refreshForm(tok.RefreshToken))
		if !tok.Expiry.IsZero() || r.ExpiresIn != "" {
			t.Errorf("Expiry = %v, expires_in = %q, want none", tok.Expiry, r.ExpiresIn)
		}
		time.Sleep(1000 * time.Hour)
		if got := status(t, c, tok.AccessToken); got != 200 {
			t.Errorf("API = %d, want 200", got)
		}
	})
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true, RevokeOnRefresh: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		tok := srv.Issue("alice")
		next := post(t, c, authtriptest.TokenPath, refreshForm(tok.RefreshToken))
		if srv.Valid(tok.AccessToken) || !srv.Valid(next.AccessToken) {
			t.Error("RevokeOnRefresh: the old token is valid, or the new one is not")
		}
		srv.Revoke(next.AccessToken)
		if srv.Valid(next.AccessToken) || !srv.Valid(next.RefreshToken) {
			t.Error("revoking the access token must spare the refresh token")
		}
		srv.RevokeAll()
		last := post(t, c, authtriptest.TokenPath, refreshForm(next.RefreshToken))
		r := post(t, c, authtriptest.RevokePath, url.Values{"token": {last.RefreshToken}})
		if r.status != 200 || srv.Valid(last.RefreshToken) || srv.Valid(last.AccessToken) {
			t.Errorf("revocation = %d, or it left a token", r.status)
		}
		if r := post(t, c, authtriptest.RevokePath, url.Values{"token": {"unknown"}}); r.status != 200 {
			t.Errorf("revoking an unknown token = %d, want 200 (RFC 7009, section 2.2)", r.status)
		}
		if n := srv.Counts(); n.Revocations != 2 || n.FamiliesRevoked != 1 {
			t.Errorf("counts = %+v", n)
		}
	})
}

func TestGrants(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		alice := srv.Issue("alice", "read")
		dead := srv.Issue("bob")
		srv.Revoke(dead.AccessToken)
		const typ = "urn:ietf:params:oauth:token-type:access_token"
		for _, tt := range []struct {
			name    string
			form    url.Values
			error   string
			subject string
		}{
			{"client credentials", url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}}, "", "client"},
			{"JWT bearer", url.Values{"grant_type": {authtriptest.GrantJWTBearer}, "assertion": {"x"}}, "", "client"},
			{"JWT bearer without assertion", url.Values{"grant_type": {authtriptest.GrantJWTBearer}}, "invalid_request", ""},
			{"exchange of an own token", url.Values{"grant_type": {authtriptest.GrantTokenExchange}, "subject_token": {alice.AccessToken}, "subject_token_type": {typ}}, "", "alice"},
			{"exchange of another's token", url.Values{"grant_type": {authtriptest.GrantTokenExchange}, "subject_token": {"foreign"}, "subject_token_type": {typ}}, "", "client"},
			{"exchange of a dead token", url.Values{"grant_type": {authtriptest.GrantTokenExchange}, "subject_token": {dead.AccessToken}, "subject_token_type": {typ}}, "invalid_request", ""},
			{"exchange without a type", url.Values{"grant_type": {authtriptest.GrantTokenExchange}, "subject_token": {"foreign"}}, "invalid_request", ""},
			{"exchange without a token", url.Values{"grant_type": {authtriptest.GrantTokenExchange}, "subject_token_type": {typ}}, "invalid_request", ""},
			{"refresh without a token", url.Values{"grant_type": {"refresh_token"}}, "invalid_request", ""},
			{"refresh of an unknown token", refreshForm("unknown"), "invalid_grant", ""},
			{"refresh with more scope", refreshForm(alice.RefreshToken, "scope", "read write"), "invalid_scope", ""},
			{"refresh", refreshForm(alice.RefreshToken, "scope", "read"), "", "alice"},
			{"unknown grant", url.Values{"grant_type": {"password"}}, "unsupported_grant_type", ""},
			{"no grant", url.Values{}, "invalid_request", ""},
		} {
			r := post(t, c, authtriptest.TokenPath, tt.form)
			if r.Error != tt.error {
				t.Errorf("%s: error = %q, want %q", tt.name, r.Error, tt.error)
				continue
			}
			if tt.error != "" {
				if r.status != 400 || r.header.Get("Content-Type") != "application/json" {
					t.Errorf("%s: %d, %s", tt.name, r.status, r.header.Get("Content-Type"))
				}
				continue
			}
			resp := get(t, c, origin+authtriptest.UserInfoPath, r.AccessToken)
			var info map[string]any
			if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if info["sub"] != tt.subject {
				t.Errorf("%s: sub = %q, want %q", tt.name, info["sub"], tt.subject)
			}
			if exchange := strings.Contains(tt.name, "exchange"); exchange != (r.IssuedType == typ) {
				t.Errorf("%s: issued_token_type = %q", tt.name, r.IssuedType)
			}
		}
	})
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	basic := func(id, secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
	}
	none := func(r *http.Request) { r.Header.Del("Authorization") }
	odd := authtriptest.Server{ClientID: "a:b c", ClientSecret: "50% +/ü"}
	for _, tt := range []struct {
		name  string
		srv   *authtriptest.Server
		more  []string
		edit  func(*http.Request)
		error string
	}{
		{"header", &authtriptest.Server{}, nil, basic("client", "client-secret"), ""},
		{"form", &authtriptest.Server{}, []string{"client_id", "client", "client_secret", "client-secret"}, none, ""},
		{"header, id repeated", &authtriptest.Server{}, []string{"client_id", "client"}, basic("client", "client-secret"), ""},
		{"both", &authtriptest.Server{}, []string{"client_id", "client", "client_secret", "client-secret"}, basic("client", "client-secret"), "invalid_request"},
		{"wrong secret", &authtriptest.Server{}, nil, basic("client", "guess"), "invalid_client"},
		{"wrong client", &authtriptest.Server{}, nil, basic("other", "client-secret"), "invalid_client"},
		{"no secret", &authtriptest.Server{}, []string{"client_id", "client"}, none, "invalid_client"},
		{"form-encoded header", &authtriptest.Server{ClientID: odd.ClientID, ClientSecret: odd.ClientSecret}, nil, basic(odd.ClientID, odd.ClientSecret), ""},
		{"raw header", &authtriptest.Server{ClientSecret: odd.ClientSecret}, nil, func(r *http.Request) { r.SetBasicAuth("client", odd.ClientSecret) }, "invalid_client"},
		{"public", &authtriptest.Server{Public: true}, []string{"client_id", "client"}, none, ""},
		{"public with a secret", &authtriptest.Server{Public: true}, []string{"client_id", "client", "client_secret", "x"}, none, "invalid_client"},
		{"own check passes", &authtriptest.Server{CheckClient: func(r *http.Request) bool { return r.PostForm.Get("client_assertion") == "x" }}, []string{"client_assertion", "x"}, none, ""},
		{"own check refuses", &authtriptest.Server{CheckClient: func(*http.Request) bool { return false }}, nil, basic("client", "client-secret"), "invalid_client"},
		{"parameter twice", &authtriptest.Server{}, []string{"scope", "a", "scope", "b"}, basic("client", "client-secret"), "invalid_request"},
		{"resource twice", &authtriptest.Server{}, []string{"resource", "https://a.example", "resource", "https://b.example"}, basic("client", "client-secret"), ""},
		{"not a form", &authtriptest.Server{}, nil, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, tt.srv, func(t *testing.T, c *http.Client) {
				r := post(t, c, authtriptest.TokenPath, refreshForm(tt.srv.Issue("alice").RefreshToken, tt.more...), tt.edit)
				if r.Error != tt.error {
					t.Errorf("error = %q, want %q", r.Error, tt.error)
				}
				want := map[string]int{"": 200, "invalid_client": 401, "invalid_request": 400}[tt.error]
				if r.status != want {
					t.Errorf("status = %d, want %d", r.status, want)
				}
				if got := srvErrors(tt.srv, tt.error); tt.error != "" && got != 1 {
					t.Errorf("counted errors = %d, want 1", got)
				}
			})
		})
	}
}

func srvErrors(s *authtriptest.Server, code string) int { return s.Counts().Errors[code] }

func TestTokenEndpointWantsPost(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		for _, path := range []string{authtriptest.TokenPath, authtriptest.RevokePath} {
			resp := get(t, c, origin+path+"?grant_type=client_credentials", "")
			resp.Body.Close()
			if resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
				t.Errorf("GET %s = %d, want 405", path, resp.StatusCode)
			}
		}
		resp := get(t, c, origin+"/elsewhere", "")
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("unknown path = %d, want 404", resp.StatusCode)
		}
	})
}

// The package x/oauth2 must be able to talk to the server as it is.
func TestConfigWorksWithOAuth2(t *testing.T) {
	t.Parallel()
	for name, srv := range map[string]*authtriptest.Server{
		"confidential": {Rotate: true, ClientSecret: "a/b+c d"},
		"public":       {Rotate: true, Public: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, srv, func(t *testing.T, c *http.Client) {
				ctx := context.WithValue(t.Context(), oauth2.HTTPClient, c)
				old := srv.Issue("alice")
				old.Expiry = time.Now()
				tok, err := srv.Config(origin).TokenSource(ctx, old).Token()
				if err != nil || tok.RefreshToken == old.RefreshToken || !srv.Valid(tok.AccessToken) {
					t.Fatalf("refresh: %v, or a token that is not valid", err)
				}
				tok, err = srv.ClientCredentials(origin).Token(ctx)
				if err != nil || !srv.Valid(tok.AccessToken) {
					t.Fatalf("client credentials: %v, or a token that is not valid", err)
				}
			})
		})
	}
}

func TestAPIEchoesTheRequest(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	sum := sha256.Sum256(body)
	authtriptest.EachProtocol(t, func(t *testing.T, start func(http.Handler) *authtriptest.Site) {
		t.Parallel()
		srv := &authtriptest.Server{}
		site := start(srv)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, site.URL+authtriptest.APIPath+"/x?y=z", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+srv.Issue("alice").AccessToken)
		req.Header.Set("X-Test", "1")
		resp, err := site.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		e := authtriptest.ReadEcho(t, resp)
		if e.Method != "PUT" || e.URI != "/api/x?y=z" || e.Proto != resp.Proto || e.Header.Get("X-Test") != "1" {
			t.Errorf("echo = %s %s %s", e.Method, e.URI, e.Proto)
		}
		if e.Length != int64(len(body)) || e.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("echo of %d bytes, want %d with the same sum", e.Length, len(body))
		}
	})
}

func TestAPIScope(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{APIScope: "write"}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		resp := get(t, c, origin+authtriptest.APIPath, srv.Issue("alice", "read").AccessToken)
		resp.Body.Close()
		want := `Bearer error="insufficient_scope", scope="write"`
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 403 || got != want {
			t.Errorf("API = %d %q, want 403 %q", resp.StatusCode, got, want)
		}
		if got := status(t, c, srv.Issue("alice", "read", "write").AccessToken); got != 200 {
			t.Errorf("API = %d, want 200", got)
		}
		resp = get(t, c, origin+authtriptest.APIPath, "")
		resp.Body.Close()
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || got != "Bearer" {
			t.Errorf("API without a token = %d %q, want 401 without an error code", resp.StatusCode, got)
		}
	})
}

func TestUserInfoHasClaims(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Claims: func(subject string) map[string]any {
		return map[string]any{"name": strings.ToUpper(subject), "sub": "not this one"}
	}}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		resp := get(t, c, origin+authtriptest.UserInfoPath, srv.Issue("alice").AccessToken)
		defer resp.Body.Close()
		var info struct{ Sub, Name string }
		if err := json.NewDecoder(resp.Body).Decode(&info); err != nil || info.Sub != "alice" || info.Name != "ALICE" {
			t.Errorf("user info = %+v, %v", info, err)
		}
		refused := get(t, c, origin+authtriptest.UserInfoPath, "guess")
		refused.Body.Close()
		if n := srv.Counts(); refused.StatusCode != 401 || n.UserInfo != 2 || n.UserInfoRefused != 1 {
			t.Errorf("status = %d, counts = %+v", refused.StatusCode, n)
		}
	})
}

func TestIDTokenIsSignedWithThePublishedKey(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		tok := srv.Issue("alice")
		login := time.Now().Unix()
		time.Sleep(time.Hour)
		next := post(t, c, authtriptest.TokenPath, refreshForm(tok.RefreshToken))
		for _, raw := range []string{tok.Extra("id_token").(string), next.IDToken} {
			got := claims(t, raw)
			if got["iss"] != origin || got["sub"] != "alice" || got["aud"] != "client" || got["auth_time"] != float64(login) {
				t.Errorf("claims = %v", got)
			}
			if got["exp"].(float64) <= got["iat"].(float64) {
				t.Errorf("exp = %v, iat = %v", got["exp"], got["iat"])
			}
			verify(t, c, raw)
		}
	})
}

// verify checks a JWT with the key that the metadata leads to.
func verify(t *testing.T, c *http.Client, raw string) {
	t.Helper()
	var meta struct{ Issuer, JWKS_URI string }
	var set struct{ Keys []struct{ X, Y, Kid string } }
	for _, doc := range []struct {
		url func() string
		v   any
	}{
		{func() string { return origin + authtriptest.MetadataPath }, &meta},
		{func() string { return meta.JWKS_URI }, &set},
	} {
		resp := get(t, c, doc.url(), "")
		if err := json.NewDecoder(resp.Body).Decode(doc.v); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if meta.Issuer != origin || len(set.Keys) != 1 {
		t.Fatalf("issuer = %q, %d keys", meta.Issuer, len(set.Keys))
	}
	number := func(s string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return new(big.Int).SetBytes(b)
	}
	key := &ecdsa.PublicKey{Curve: elliptic.P256(), X: number(set.Keys[0].X), Y: number(set.Keys[0].Y)}
	i := strings.LastIndexByte(raw, '.')
	sum := sha256.Sum256([]byte(raw[:i]))
	sig, err := base64.RawURLEncoding.DecodeString(raw[i+1:])
	if err != nil || len(sig) != 64 {
		t.Fatalf("signature of %d bytes, %v", len(sig), err)
	}
	if !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the signature does not fit the key")
	}
}

func TestIssuer(t *testing.T) {
	t.Parallel()
	issuer := func(s *authtriptest.Server) any { return claims(t, s.Issue("alice").Extra("id_token").(string))["iss"] }
	srv := &authtriptest.Server{}
	if got := issuer(srv); got != "https://issuer.example" {
		t.Errorf("iss = %q before Start", got)
	}
	site := authtriptest.Start(t, srv)
	if got := issuer(srv); got != site.URL {
		t.Errorf("iss = %q, want %q", got, site.URL)
	}
	if got := issuer(&authtriptest.Server{Issuer: "https://own.example"}); got != "https://own.example" {
		t.Errorf("iss = %q, want the field's", got)
	}
}

func TestOnRequestSeesTheForm(t *testing.T) {
	t.Parallel()
	var seen url.Values
	srv := &authtriptest.Server{OnRequest: func(r *http.Request) { seen = r.PostForm }}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		post(t, c, authtriptest.TokenPath, url.Values{"grant_type": {"client_credentials"}, "resource": {"https://a.example"}})
		if got := seen.Get("resource"); got != "https://a.example" {
			t.Errorf("resource = %q", got)
		}
	})
}

func TestCountsAreExact(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		const n = 1000
		good := srv.Issue("alice").AccessToken
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				tok := srv.Issue("bob")
				post(t, c, authtriptest.TokenPath, refreshForm(tok.RefreshToken))
				post(t, c, authtriptest.TokenPath, refreshForm("unknown"))
				token := good
				if i%4 == 0 {
					token = "guess"
				}
				status(t, c, token)
			})
		}
		wg.Wait()
		got := srv.Counts()
		if got.Token != 2*n || got.Grants["refresh_token"] != n || got.Errors["invalid_grant"] != n {
			t.Errorf("token counts = %+v", got)
		}
		if got.API != n || got.APIRefused != n/4 || got.Reuses != 0 || got.FamiliesRevoked != 0 {
			t.Errorf("API counts = %+v", got)
		}
	})
}

func TestOneOfManyWinsARotation(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		const n = 100
		token := srv.Issue("alice").RefreshToken
		srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Second})
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { post(t, c, authtriptest.TokenPath, refreshForm(token)) })
		}
		wg.Wait()
		got := srv.Counts()
		if got.Grants["refresh_token"] != 1 || got.Overlaps != n-1 || got.FamiliesRevoked != 1 || got.Reuses != 1 {
			t.Errorf("counts = %+v", got)
		}
	})
}
