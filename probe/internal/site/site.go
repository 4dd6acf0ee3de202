// Package site is an authorization server for the tests of the probe: that of authtriptest,
// with a login and with what servers in the field do differently.
package site

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/authtriptest"
)

// User is who logs in, and ClientSecret what the client has: neither may be printed.
const (
	User         = "alice-4711"
	ClientSecret = "the secret of the client: 100%"
	ClientID     = "client"
)

// A Site is authtriptest's server with what it does not have: the authorization endpoint with
// PKCE, iss and pushed requests, and settings that servers in the field have.
type Site struct {
	*authtriptest.Server
	// ReuseKeeps rejects a used refresh token, and ends nothing by that.
	ReuseKeeps bool
	// NoPKCE does not look at the verifier; NoIss sends no iss; NoPAR answers pushed requests with
	// 404, whatever Metadata says.
	NoPKCE, NoIss, NoPAR bool
	// Methods are the client authentication methods that are accepted; nil is all.
	Methods []string
	// Metadata changes what is published.
	Metadata func(m map[string]any)
	// Ahead is how far the clock of the Date header is ahead.
	Ahead time.Duration
	// API answers at the API instead of the Server, which API's next handler is.
	API func(next http.Handler) http.Handler
	// Member is added to token responses and user info.
	Member string
	Header http.Header // of each answer
	// NoRefreshToken gives none.
	NoRefreshToken bool
	// OneSession ends the session of the user with another login.
	OneSession bool

	mu     sync.Mutex
	codes  map[string]url.Values // authorization requests, by code or request_uri
	before string                // a refresh token of the last login
	secret []string              // everything that must not be printed
}

func (s *Site) keep(words ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = append(s.secret, words...)
}

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(s.Ahead).UTC().Format(http.TimeFormat))
	for name, values := range s.Header {
		w.Header()[name] = values
	}
	switch r.URL.Path {
	case authtriptest.MetadataPath:
		s.metadata(w, r)
	case "/authorize":
		s.authorize(w, r)
	case "/par":
		s.push(w, r)
	case authtriptest.TokenPath:
		s.token(w, r)
	case authtriptest.APIPath:
		if s.API != nil {
			s.API(s.Server).ServeHTTP(w, r)
			return
		}
		s.Server.ServeHTTP(w, r)
	default:
		s.Server.ServeHTTP(w, r)
	}
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Site) metadata(w http.ResponseWriter, _ *http.Request) {
	m := map[string]any{
		"issuer": s.Issuer, "authorization_endpoint": s.Issuer + "/authorize", "token_endpoint": s.Issuer + "/token",
		"revocation_endpoint": s.Issuer + "/revoke", "userinfo_endpoint": s.Issuer + "/userinfo", "jwks_uri": s.Issuer + "/keys",
		"pushed_authorization_request_endpoint": s.Issuer + "/par", "id_token_signing_alg_values_supported": []string{"ES256"},
		"authorization_response_iss_parameter_supported": true, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
	}
	if s.Metadata != nil {
		s.Metadata(m)
	}
	answerJSON(w, http.StatusOK, m)
}

func (s *Site) remember(form url.Values) (name string) {
	name = "code-" + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.codes == nil {
		s.codes = make(map[string]url.Values)
	}
	s.codes[name] = form
	s.secret = append(s.secret, name, form.Get("state"))
	return name
}

func (s *Site) recall(name string) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	form := s.codes[name]
	delete(s.codes, name)
	return form
}

func (s *Site) push(w http.ResponseWriter, r *http.Request) {
	if s.NoPAR {
		http.NotFound(w, r)
		return
	}
	_ = r.ParseForm()
	answerJSON(w, http.StatusCreated, map[string]any{"request_uri": s.remember(r.PostForm), "expires_in": 60})
}

func (s *Site) authorize(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	if at := asked.Get("request_uri"); at != "" {
		asked = s.recall(at)
	}
	back := url.Values{"code": {s.remember(asked)}, "state": {asked.Get("state")}}
	if !s.NoIss {
		back.Set("iss", s.Issuer)
	}
	http.Redirect(w, r, asked.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

// token answers what authtriptest's server cannot, and keeps what must not be printed.
func (s *Site) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	form := r.PostForm
	s.keep(form.Get("code_verifier"), form.Get("refresh_token"))
	refuse := func(status int, code string) { answerJSON(w, status, map[string]any{"error": code}) }
	used := "none"
	id, secret, basic := r.BasicAuth()
	switch {
	case basic:
		used = "client_secret_basic"
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	case form.Has("client_secret"):
		used, id, secret = "client_secret_post", form.Get("client_id"), form.Get("client_secret")
	default:
		id = form.Get("client_id")
	}
	if s.Methods != nil && !slices.Contains(s.Methods, used) || id != "client" || secret != s.ClientSecret && !s.Public {
		refuse(http.StatusUnauthorized, "invalid_client")
		return
	}
	switch refresh := form.Get("refresh_token"); {
	case form.Get("grant_type") == "authorization_code":
		asked := s.recall(form.Get("code"))
		challenge := oauth2.S256ChallengeFromVerifier(form.Get("code_verifier"))
		if asked == nil || !s.NoPKCE && asked.Get("code_challenge") != challenge {
			refuse(http.StatusBadRequest, "invalid_grant")
			return
		}
		s.grant(w, asked)
	case refresh != "" && s.ReuseKeeps && !s.Valid(refresh):
		refuse(http.StatusBadRequest, "invalid_grant")
	default:
		if used == "client_secret_post" { // one kind is enough for the server inside
			form.Del("client_secret")
			form.Del("client_id")
			r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
		}
		s.Server.ServeHTTP(&keeper{w, s}, r)
	}
}

// keeper keeps the tokens of an answer.
type keeper struct {
	http.ResponseWriter
	s *Site
}

func (k *keeper) Write(b []byte) (int, error) {
	var m map[string]any
	if json.Unmarshal(b, &m) == nil {
		for _, name := range []string{"access_token", "refresh_token", "id_token"} {
			if word, _ := m[name].(string); word != "" {
				k.s.keep(word)
			}
		}
	}
	return k.ResponseWriter.Write(b)
}

// grant answers a code: the ID token has the nonce of the request.
func (s *Site) grant(w http.ResponseWriter, asked url.Values) {
	tok := s.Issue(User, strings.Fields(asked.Get("scope"))...)
	raw, _ := tok.Extra("id_token").(string)
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	var claims map[string]any
	_ = json.Unmarshal(payload, &claims)
	claims["nonce"] = asked.Get("nonce")
	m := map[string]any{
		"access_token": tok.AccessToken, "token_type": "Bearer", "refresh_token": tok.RefreshToken,
		"id_token": s.Sign(claims), "scope": asked.Get("scope"),
	}
	if tok.ExpiresIn > 0 {
		m["expires_in"] = tok.ExpiresIn
	}
	if s.NoRefreshToken {
		delete(m, "refresh_token")
	}
	if s.Member != "" {
		m[s.Member] = User
	}
	s.keep(tok.AccessToken, tok.RefreshToken, asked.Get("nonce"))
	s.mu.Lock()
	before := s.before
	s.before = tok.RefreshToken
	s.mu.Unlock()
	if s.OneSession && before != "" {
		s.Revoke(before)
	}
	answerJSON(w, http.StatusOK, m)
}

// Start makes the site that of issuer, whose client is [ClientID] with [ClientSecret].
func (s *Site) Start(issuer string) {
	s.Issuer, s.ClientSecret = issuer, ClientSecret
	s.keep(User, ClientSecret, url.QueryEscape(ClientSecret))
}

// Secrets returns everything that must not be printed.
func (s *Site) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.secret), func(word string) bool { return word == "" })
}

// Agent returns a user agent that goes where it is sent, and returns where it is sent back to.
func Agent(base http.RoundTripper) func(ctx context.Context, at string) (*url.URL, error) {
	client := &http.Client{
		Transport:     base,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, at string) (*url.URL, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
		return resp.Location()
	}
}
