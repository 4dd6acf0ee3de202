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

func TestAccessTokensEnd(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Lifetime: time.Minute}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		tok := srv.Issue("alice")
		if want := time.Now().Add(time.Minute); !tok.Expiry.Equal(want) || tok.ExpiresIn != 60 {
			t.Errorf("Expiry = %v (%d s), want %v", tok.Expiry, tok.ExpiresIn, want)
		}
		<-time.After(time.Minute - 1)
		if got := status(t, c, tok.AccessToken); got != 200 {
			t.Errorf("API = %d before the end, want 200", got)
		}
		<-time.After(1)
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
		<-time.After(1000 * time.Hour)
		if got := status(t, c, tok.AccessToken); got != 200 {
			t.Errorf("API = %d, want 200", got)
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
		<-time.After(time.Hour)
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
		own := srv.Sign(map[string]any{"sub": "bob"})
		if got := claims(t, own); got["sub"] != "bob" || len(got) != 1 {
			t.Errorf("claims = %v", got)
		}
		verify(t, c, own)
	})
}

// verify checks a JWT with the key that the metadata leads to.
func verify(t *testing.T, c *http.Client, raw string) {
	t.Helper()
	var meta struct {
		Issuer  string
		JWKSURI string `json:"jwks_uri"`
	}
	var set struct{ Keys []struct{ X, Y, Kid string } }
	for _, doc := range []struct {
		url func() string
		v   any
	}{
		{func() string { return origin + authtriptest.MetadataPath }, &meta},
		{func() string { return meta.JWKSURI }, &set},
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
	point := []byte{4} // uncompressed
	for _, s := range []string{set.Keys[0].X, set.Keys[0].Y} {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
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
