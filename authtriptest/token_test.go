package authtriptest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

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
		<-time.After(30*time.Second - 1)
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
		<-time.After(30 * time.Second)
		if r := post(t, c, authtriptest.TokenPath, refreshForm(first)); r.Error != "invalid_grant" {
			t.Errorf("after the grace: %d %q, want invalid_grant", r.status, r.Error)
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
