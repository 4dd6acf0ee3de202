package authtrip_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// inBothForms runs a test in a bubble with bearer tokens, and with tokens that are bound to a
// key, where the server wants proofs and nonces.
func inBothForms(t *testing.T, srv func() *authtriptest.Server, configure func(*rig), f func(t *testing.T, r *rig)) {
	t.Helper()
	t.Run("bearer", func(t *testing.T) { inBubble(t, srv(), configure, f) })
	t.Run("bound", func(t *testing.T) { inBound(t, srv(), configure, f) })
}

// inBound is inBubble with bound tokens.
func inBound(t *testing.T, srv *authtriptest.Server, configure func(*rig), f func(t *testing.T, r *rig)) {
	t.Helper()
	inBubble(t, srv, func(r *rig) {
		r.gate = newGate(r.srv, asURL)
		r.net.Handle(asURL, r.gate)
		r.src.Refresher.(*authtrip.Grant).DPoP = new(provers)
		r.src.Initial = r.gate.bind(r.src.Initial)
		if configure != nil {
			configure(r)
		}
	}, func(t *testing.T, r *rig) {
		f(t, r)
		r.gate.check(t)
	})
}

// A gate stands before a server, and makes of its bearer tokens bound ones. Its nonces are
// strict: one counts until the next is there.
type gate struct {
	server http.Handler
	at     string // its origin

	mu     sync.Mutex
	jkt    map[string]string // of access and refresh tokens: the key's thumbprint
	jti    map[string]bool
	nonces map[string]int // the number of the one that counts, of each role
	turn   map[string]int // after so many requests the next one counts
	asked  int            // for another nonce
	passed int            // to the server
	faults []string       // of proofs: there are none
}

func newGate(server http.Handler, at string) *gate {
	return &gate{
		server: server, at: at, jkt: make(map[string]string), jti: make(map[string]bool),
		nonces: make(map[string]int), turn: make(map[string]int),
	}
}

// bind makes of a token of the server a bound one, as a login would.
func (g *gate) bind(tok *oauth2.Token) *oauth2.Token {
	b := new(provers)
	key, _ := b.NewKey(nil) //nolint:staticcheck // it needs none
	p, _ := b.Prover(key, "")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.jkt[tok.AccessToken], g.jkt[tok.RefreshToken] = p.Thumbprint(), p.Thumbprint()
	bound := *tok
	bound.TokenType = "DPoP"
	extra := map[string]any{authtrip.DPoPKey: key}
	if id := tok.Extra("id_token"); id != nil {
		extra["id_token"] = id
	}
	return bound.WithExtra(extra)
}

// turnAfter has the nonce of a role change once, after so many requests.
func (r *rig) turnAfter(role string, requests int) {
	if r.gate == nil {
		return
	}
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	r.gate.turn[role] = requests
}

// check holds that nobody came without a right proof, and that a nonce was asked for once a
// request at most.
func (g *gate) check(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, fault := range g.faults {
		t.Error(fault)
	}
	if g.asked > g.passed {
		t.Errorf("another nonce was asked for %d times, %d requests had the right one", g.asked, g.passed)
	}
}

const (
	roleToken = "token"
	roleAPI   = "api"
)

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	role, token := roleAPI, ""
	if r.URL.Path == authtriptest.TokenPath {
		role = roleToken
	} else if token, _ = strings.CutPrefix(r.Header.Get("Authorization"), "DPoP "); token == "" {
		g.fault("a request without the scheme DPoP")
	}
	jkt, code := g.judge(r, role, token)
	w.Header().Set("DPoP-Nonce", g.nonce(role))
	switch {
	case code == "":
	case role == roleToken:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":%q}`, code)
		return
	default:
		w.Header().Set("WWW-Authenticate", `DPoP error="`+code+`", algs="EdDSA"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if role == roleToken {
		g.token(w, r, jkt)
		return
	}
	r.Header.Set("Authorization", "Bearer "+token)
	g.server.ServeHTTP(schemes{w}, r)
}

// schemes writes the challenges of the server as those of one that knows DPoP.
type schemes struct{ http.ResponseWriter }

func (s schemes) WriteHeader(status int) {
	if c := s.Header().Get("WWW-Authenticate"); c != "" {
		s.Header().Set("WWW-Authenticate", strings.Replace(c, "Bearer", "DPoP", 1))
	}
	s.ResponseWriter.WriteHeader(status)
}

func (g *gate) fault(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = append(g.faults, what)
}

func (g *gate) nonce(role string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return role + strconv.Itoa(g.nonces[role])
}

// judge verifies the proof of a request; code says what is wrong with it.
func (g *gate) judge(r *http.Request, role, token string) (jkt, code string) {
	jkt, c, err := verifyProof(r, g.at+r.URL.Path, token)
	if err != nil {
		g.fault(err.Error())
		return "", "invalid_dpop_proof"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.jti[c.JTI] {
		g.faults = append(g.faults, "a proof came twice")
	}
	g.jti[c.JTI] = true
	if of, known := g.jkt[token]; token != "" && known && of != jkt {
		g.faults = append(g.faults, "a token came with the proof of another key")
	}
	if n := g.turn[role]; n > 0 {
		if g.turn[role] = n - 1; n == 1 {
			g.nonces[role]++
		}
	}
	if c.Nonce != role+strconv.Itoa(g.nonces[role]) {
		g.asked++
		return "", "use_dpop_nonce"
	}
	g.passed++
	return jkt, ""
}

// token hands a token request on, and binds what the server gives.
func (g *gate) token(w http.ResponseWriter, r *http.Request, jkt string) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	r.Body = io.NopCloser(bytes.NewReader(body))
	g.mu.Lock()
	if of, known := g.jkt[form.Get("refresh_token")]; known && of != jkt {
		g.faults = append(g.faults, "a refresh token came with the proof of another key")
	}
	g.mu.Unlock()
	rec := httptest.NewRecorder()
	g.server.ServeHTTP(rec, r)
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	var members map[string]any
	if json.Unmarshal(rec.Body.Bytes(), &members) == nil && members["access_token"] != nil {
		members["token_type"] = "DPoP"
		g.mu.Lock()
		for _, name := range []string{"access_token", "refresh_token"} {
			if tok, _ := members[name].(string); tok != "" {
				g.jkt[tok] = jkt
			}
		}
		g.mu.Unlock()
		rec.Body.Reset()
		_ = json.NewEncoder(rec.Body).Encode(members)
		w.Header().Del("Content-Length")
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}
