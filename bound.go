package authtrip

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/wire"
)

// This file is what the package knows of tokens that are bound to a key (RFC 9449, DPoP). Keys,
// signatures and nonces are the business of a [Binder].

// DPoPKey is the member of a token's Extra that has the key to which the token is bound,
// as its [Binder] writes it. It is a secret, as the refresh token is. No server sends it.
const DPoPKey = "authtrip_dpop_key"

// A Binder binds tokens to keys (RFC 9449). A stolen token is of no use without its key.
// Package [example.com/authtrip/dpop] has one. Set it as [Grant.DPoP]: the tokens of that
// grant are bound, and a [Source] of it sends each request with a proof.
//
// A session has a key of its own, made with its first token. It is kept in the session's
// record, so that other processes, and later ones, can go on.
//
// Methods are safe for concurrent use.
type Binder interface {
	// NewKey returns a new key as it is kept in the record: a secret of printable text.
	NewKey(ctx context.Context) (key string, err error)
	// Prover returns what makes proofs with a key that NewKey has returned, maybe in
	// another process. The proofs are for accessToken, or for requests to the token
	// endpoint if that is "".
	Prover(key, accessToken string) (Prover, error)
}

// A Prover makes proofs of possession of one key, for one access token or for the token
// endpoint. Its methods are safe for concurrent use.
type Prover interface {
	// Thumbprint is that of the public key (RFC 9449, section 10: dpop_jkt).
	Thumbprint() string
	// Prove sets the DPoP header of req to a new proof for its method and URL. It may
	// replace the header's values and must not change them in place.
	Prove(req *http.Request) error
	// Answered reads from resp what the next proofs need: a nonce, the server's clock. req
	// had a proof. code is the error code of resp, "" if it has none. Answered reports
	// whether resp rejected the proof, and a new proof for the same request may be accepted.
	Answered(req *http.Request, resp *http.Response, code string) (again bool)
}

// Bound is implemented by a [Refresher] that gets bound tokens. [Grant] is one.
type Bound interface {
	// Binder returns the Binder of the tokens. If nil, they are bound to no key.
	Binder() Binder
}

func binderOf(r Refresher) Binder {
	if b, ok := r.(Bound); ok {
		return b.Binder()
	}
	return nil
}

const typeDPoP = "dpop"

func isBound(tok *oauth2.Token) bool { return strings.EqualFold(tok.TokenType, typeDPoP) }

// A binding is what the requests of a bound token need beside the header.
type binding struct {
	prover Prover
	err    error // why there is no header
}

// bind gives a snapshot what its requests are sent with: the header, and of a bound token
// the prover. A bound token never goes out without a proof. Rule 43.
func (snap *snapshot) bind(binder Binder) {
	tok := snap.token()
	if !isBound(tok) {
		snap.header[0], _ = headerOf(tok) // err makes the error again
		return
	}
	b := new(binding)
	snap.bound = b
	key := extra(tok, DPoPKey)
	switch {
	case binder == nil:
		b.err = fmt.Errorf("authtrip: token has type %q, and nothing here makes proofs: set Grant.DPoP, or ask for a bearer token", wire.Clean(tok.TokenType))
	case key == "":
		b.err = errors.New("authtrip: token has type DPoP, and its key is not there: log in again")
	default:
		if b.prover, b.err = binder.Prover(key, tok.AccessToken); b.err != nil {
			b.err = fmt.Errorf("authtrip: the key of the token cannot be used: %w", b.err)
			return
		}
		snap.header[0], b.err = headerValue(dpopScheme, tok.AccessToken)
	}
}

// prover is that of a bound token; nil of any other.
func (snap *snapshot) prover() Prover {
	if snap.bound == nil {
		return nil
	}
	return snap.bound.prover
}

// binder is that of the snapshot's session. It works for one that has none.
func (snap *snapshot) binder() Binder {
	if snap.of == nil {
		return nil
	}
	return binderOf(snap.of.set.refresher)
}

// authorize puts the token of snap into a request's header, and a new proof. Rule 41.
func (snap *snapshot) authorize(req *http.Request) error {
	req.Header["Authorization"] = snap.value()
	if snap.bound == nil {
		return nil
	}
	if err := snap.bound.prover.Prove(req); err != nil {
		return fmt.Errorf("authtrip: no proof for the request: %w", err)
	}
	return nil
}

// proofError is the error code of a response to a request with a proof.
func proofError(resp *http.Response) string {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusBadRequest {
		return ""
	}
	for _, c := range Challenges(resp.Header) {
		if strings.EqualFold(c.Scheme, "DPoP") && c.Error != "" {
			return c.Error
		}
	}
	return ""
}

// sendProven sends a request with a bound token, and once more with another proof if the
// server wants that. It is no retry with another token, and says nothing of the one that
// was sent. Rule 73.
func (t *Transport) sendProven(ctx context.Context, out *http.Request, try attempt, snap *snapshot) (*http.Response, error) {
	resp, err := t.send(out)
	if err != nil {
		return nil, err
	}
	code := proofError(resp)
	if !snap.bound.prover.Answered(out, resp, code) {
		t.proofRefused(resp, code)
		return resp, nil
	}
	again, err := try.again(ctx, snap)
	if err != nil {
		return t.unanswered(ctx, resp, err)
	}
	readAhead(resp).drop()
	start := time.Now()
	if resp, err = t.send(again); err != nil {
		return nil, err
	}
	second := proofError(resp)
	snap.bound.prover.Answered(again, resp, second)
	t.emit(Event{Kind: EventRequestRetried, Duration: time.Since(start), StatusCode: resp.StatusCode, Code: wire.Code(code)})
	t.proofRefused(resp, second)
	return resp, nil
}

// aboutProof reports whether an error code is about the proof, and says nothing of the token.
func aboutProof(code string) bool { return code == "use_dpop_nonce" || code == "invalid_dpop_proof" }

// proofRefused tells OnEvent of an answer that no other proof was sent for.
func (t *Transport) proofRefused(resp *http.Response, code string) {
	if aboutProof(code) {
		t.emit(Event{Kind: EventRequestNotRetried, StatusCode: resp.StatusCode, Code: code, Err: fmt.Errorf("authtrip: the API rejected the proof of possession: %s", code)})
	}
}

// blamesBound is blamesToken for a token with a proof. A challenge of Bearer alone counts
// only if it says what is wrong: who does not know DPoP is not cured by another token.
func blamesBound(all []Challenge) (bool, Challenge) {
	var other Challenge
	for _, c := range all {
		switch dpop := strings.EqualFold(c.Scheme, "DPoP"); {
		case dpop && (c.Claims != "" || c.Error != "" && c.Error != "invalid_token"):
			return false, c
		case dpop:
			return true, Challenge{}
		case strings.EqualFold(c.Scheme, "Bearer"):
			other = c
		}
	}
	return other.Scheme == "" || other.Claims == "" && other.Error == "invalid_token", other
}

// Binder implements [Bound].
func (g *Grant) Binder() Binder { return g.DPoP }

// refreshBound is Refresh for tokens that are bound to a key: that of old, or a new one.
// A server that wants a nonce in the proof, or whose clock is another one, gets the
// request once more: it has not looked at the rest of the first one. Rules 43, 44, 73.
func (g *Grant) refreshBound(ctx context.Context, endpoint *url.URL, old *oauth2.Token) (*oauth2.Token, error) {
	var key string
	var err error
	if old != nil {
		key = extra(old, DPoPKey)
	}
	if key == "" {
		if key, err = g.DPoP.NewKey(ctx); err != nil {
			return nil, &RefreshError{Err: fmt.Errorf("authtrip: Grant.DPoP made no key: %w", err)}
		}
	}
	prover, err := g.DPoP.Prover(key, "")
	if err != nil {
		return nil, &RefreshError{Err: fmt.Errorf("authtrip: Grant.DPoP cannot use the key of the session: %w", err)}
	}
	tok, again, err := g.send(ctx, endpoint, old, prover)
	if again {
		tok, _, err = g.send(ctx, endpoint, old, prover)
	}
	if err != nil {
		return nil, err
	}
	if !isBound(tok) && !strings.EqualFold(tok.TokenType, "N_A") {
		// What old is stays in use, and the server is asked again when it is needed.
		return nil, &RefreshError{
			Err:       fmt.Errorf("token endpoint %s gave a token of type %q, want DPoP: it is not used, as whoever steals it could use it too", endpoint.Host, wire.Clean(tok.TokenType)),
			ambiguous: true,
		}
	}
	return withExtra(tok, DPoPKey, key), nil
}

// withExtra returns tok with one more member in its Extra.
func withExtra(tok *oauth2.Token, name, value string) *oauth2.Token {
	all := map[string]any{name: value}
	for _, other := range wire.ExtraNames(tok) {
		if other != name {
			all[other] = tok.Extra(other)
		}
	}
	return tok.WithExtra(all)
}
