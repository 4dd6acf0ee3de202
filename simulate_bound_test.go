package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// This file has what is different in a world whose sessions are bound to keys (RFC 9449).
// A proof says in clear what it is for and of which key it is: nobody forges here, and signatures
// would take two thirds of the time. Real ones are in proof_test.go and in package dpop. Beside
// the invariants of docs/protocol.md it holds these:
//
//   - no request goes without a proof of the key of its session, and no proof goes twice;
//   - a nonce costs one more request, whatever becomes of it;
//   - a key is in the record of its session for as long as the session is.

// bindingKey is that of a login, as a Binder writes it.
func (f *family) bindingKey(w *world) string {
	d := newDice(w.seed, forKeys, uint64(f.id))
	return fmt.Sprintf("key-%d-%x", f.id, d.roll())
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
	return &namers{p: p}
}

// namers are a Binder whose proofs name their keys.
type namers struct {
	p      *process
	nonces nonces
}

func (b *namers) NewKey(context.Context) (string, error) {
	b.p.locked(func() { b.p.w.breaks(b.p, "I9: the key of a session is gone") })
	return "key-new", nil
}

func (b *namers) Prover(key, accessToken string) (authtrip.Prover, error) {
	if !strings.HasPrefix(key, "key-") {
		return nil, errors.New("the key is none")
	}
	return &namer{of: b, key: key, token: accessToken}, nil
}

type namer struct {
	of         *namers
	key, token string
}

// nameOf is the thumbprint of a key.
func nameOf(key string) string { return "of " + key }

func (n *namer) Thumbprint() string { return nameOf(n.key) }

// A claim is what a proof is for.
type claim struct{ jkt, jti, method, url, token, nonce, at string }

func (n *namer) Prove(req *http.Request) error {
	var number int
	n.of.p.locked(func() {
		n.of.p.proofs++
		number = n.of.p.proofs
	})
	jti, nonce := fmt.Sprint(n.of.p.id, ".", number), n.of.nonces.newest(place(req, n.token))
	c := []string{n.Thumbprint(), jti, req.Method, req.URL.String(), n.token, nonce, time.Now().Format(time.RFC3339)}
	req.Header["Dpop"] = []string{strings.Join(c, "|")}
	return nil
}

func (n *namer) Answered(req *http.Request, resp *http.Response, code string) bool {
	c, err := readClaim(req)
	return err == nil && n.of.nonces.answered(place(req, n.token), c.nonce, resp, code)
}

func readClaim(req *http.Request) (claim, error) {
	if len(req.Header["Dpop"]) != 1 {
		return claim{}, errors.New("there is not one proof")
	}
	f := strings.Split(req.Header["Dpop"][0], "|")
	if len(f) != 7 {
		return claim{}, errors.New("the proof is not one")
	}
	return claim{f[0], f[1], f[2], f[3], f[4], f[5], f[6]}, nil
}

// holds reports what is wrong with a proof of a request with a token.
func (c claim) holds(req *http.Request, token string) error {
	at, err := time.Parse(time.RFC3339, c.at)
	switch {
	case err != nil:
		return err
	case c.method != req.Method, c.url != req.URL.String(), c.token != token, c.jti == "":
		return errors.New("the proof is for another request")
	case time.Since(at).Abs() > time.Minute:
		return errors.New("the proof is of another time")
	}
	return nil
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
	c, err := readClaim(req)
	if err == nil {
		err = c.holds(req, token)
	}
	switch {
	case err != nil:
		w.breaks(p, "I9: %s: %v", role, err)
		return "invalid_dpop_proof"
	case w.proofs[c.jti]:
		w.breaks(p, "I9: %s: a proof comes twice", role)
	case c.jkt != nameOf(f.bindingKey(w)):
		w.breaks(p, "I9: %s: a proof of another key than that of login %d", role, f.id)
	}
	w.proofs[c.jti] = true
	if !w.faultsAreOff() {
		d := p.nonceDice()
		if d.chance(w.turning) {
			w.turns[role]++
		}
	}
	if c.nonce != w.nonce(role) {
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

// proven is the server's look at the proof of a request, before it looks at the token.
func (x *exchange) proven() bool {
	if !x.w.bound {
		return true
	}
	code := x.w.proven(x.p, x.req, "server", x.rt.family, "")
	x.nonce = x.w.nonce("server")
	switch code {
	case "":
		return true
	case "use_dpop_nonce":
		x.rt.again = x.p
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
