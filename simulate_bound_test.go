package authtrip_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// This file has what is different in a world whose sessions are bound to keys (RFC 9449).
// The proofs are real: the client signs them, and the server and the API verify them. Beside
// the invariants of docs/protocol.md it holds these:
//
//   - no request goes without a proof of the key of its session, and no proof goes twice;
//   - a nonce costs one more request, whatever becomes of it;
//   - a key is in the record of its session for as long as the session is.

// bindingKey is that of a login, as a Binder writes it.
func (f *family) bindingKey(w *world) string {
	d := newDice(w.seed, forKeys, uint64(f.id))
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(d.roll())
	}
	return b64.EncodeToString(seed)
}

// token is what a login gives a client.
func (w *world) token(rt *refreshToken, at *accessToken) *oauth2.Token {
	tok := &oauth2.Token{AccessToken: at.name, RefreshToken: rt.name, TokenType: w.tokenType(), Expiry: at.expires}
	if !w.bound {
		return tok
	}
	return tok.WithExtra(map[string]any{authtrip.DPoPKey: rt.family.bindingKey(w)})
}

func (w *world) tokenType() string {
	if w.bound {
		return "DPoP"
	}
	return "Bearer"
}

// binder is that of one process. All keys come from logins.
func (w *world) binder(p *process) authtrip.Binder {
	return &provers{seed: func() []byte {
		p.locked(func() { w.breaks(p, "I9: the key of a session is gone") })
		return make([]byte, ed25519.SeedSize)
	}}
}

// nonce is the one that counts now. It changes with the time, and with every turn. The world's
// mu is held, as it is for all that follow.
func (w *world) nonce(role string) string {
	if w.nonceLife == 0 {
		return ""
	}
	return fmt.Sprint(role, ".", w.turns[role], ".", int(time.Since(w.began)/w.nonceLife))
}

// proven holds a request with a token of a family against I9. It returns the error code
// for one that has the wrong nonce.
func (w *world) proven(p *process, req *http.Request, role string, f *family, token string) (code string) {
	jkt, c, err := verifyProof(req, req.URL.Scheme+"://"+req.URL.Host+req.URL.Path, token)
	switch {
	case err != nil:
		w.breaks(p, "I9: %s: %v", role, err)
		return "invalid_dpop_proof"
	case w.proofs[c.JTI]:
		w.breaks(p, "I9: %s: a proof comes twice", role)
	case jkt != w.thumbprint(f):
		w.breaks(p, "I9: %s: a proof of another key than that of login %d", role, f.id)
	}
	w.proofs[c.JTI] = true
	if !w.faultsAreOff() {
		d := p.nonceDice()
		if d.chance(w.turning) {
			w.turns[role]++
		}
	}
	if c.Nonce != w.nonce(role) {
		w.note(p, "%s wants another nonce", role)
		w.asked++
		return "use_dpop_nonce"
	}
	return ""
}

// nonceDice are thrown with the world's mu held.
func (p *process) nonceDice() dice {
	p.nonces++
	return newDice(p.w.seed, forNonces, p.id, p.nonces)
}

func (w *world) thumbprint(f *family) string {
	p, err := new(provers).Prover(f.bindingKey(w), "")
	if err != nil {
		panic(err)
	}
	return p.Thumbprint()
}

// proven is the server's look at the proof of a request, before it looks at the token.
func (x *exchange) proven() bool {
	if !x.w.bound {
		return true
	}
	code := x.w.proven(x.p, x.req, "server", x.rt.family, "")
	x.nonce = x.w.nonce("server")
	if code == "" {
		return true
	}
	x.status, x.body = http.StatusBadRequest, fmt.Sprintf(`{"error":%q}`, code)
	return false
}

// knock sends a request to the API, as a user of a bound token does.
func (p *process) knock(ctx context.Context, key string) {
	api := &apiOf{p: p, d: p.dice(forAPI)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.example/orders", nil)
	if err != nil {
		panic(err)
	}
	resp, err := (&authtrip.Transport{Source: p.source(key), Base: api}).RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if api.requests > 2 {
		p.w.breaks(p, "I9: the API gets a request %d times", api.requests)
	}
}

// apiOf is the way of one request to the API. It takes every token.
type apiOf struct {
	p        *process
	d        dice
	requests int
}

func (a *apiOf) RoundTrip(r *http.Request) (*http.Response, error) {
	p, w := a.p, a.p.w
	if err := p.pass(r.Context(), a.d.between(2*time.Millisecond, 300*time.Millisecond)); err != nil {
		return nil, err
	}
	w.mu.Lock()
	a.requests++
	name, isBound := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
	h, status := http.Header{}, http.StatusOK
	switch at := w.access[name]; {
	case !isBound, at == nil:
		w.breaks(p, "I9: a bound token is sent as another one")
	default:
		if code := w.proven(p, r, "api", at.family, name); code != "" {
			status = http.StatusUnauthorized
			h.Set("WWW-Authenticate", `DPoP error="`+code+`"`)
		}
		if nonce := w.nonce("api"); nonce != "" {
			h.Set("DPoP-Nonce", nonce)
		}
	}
	w.mu.Unlock()
	if err := p.pass(r.Context(), a.d.between(2*time.Millisecond, 300*time.Millisecond)); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

// checkBinding holds a token that a user got against I9.
func (w *world) checkBinding(p *process, at *accessToken, tok *oauth2.Token) {
	key, _ := tok.Extra(authtrip.DPoPKey).(string)
	if tok.TokenType != w.tokenType() || w.bound && key != at.family.bindingKey(w) {
		w.breaks(p, "I9: %s has type %s, and not the key of its login", at.name, tok.TokenType)
	}
}
