package mcp_test

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/go-jose/go-jose/v4"
)

// proofs is how a world checks proofs of possession, as RFC 9449 says. The zero value wants
// none, and gives bearer tokens.
type proofs struct {
	algs     []string // what the authorization server offers
	required bool     // what the resource's metadata says
	nonces   bool     // both servers want one, which changes with each request that is let in

	jkt  map[string]string // of tokens
	last string            // the thumbprint of the last token request
	jti  map[string]bool
	n    int
}

func (p *proofs) scheme() string {
	if len(p.algs) > 0 {
		return "DPoP"
	}
	return "Bearer"
}

// check looks at a request with a token; code is that of the challenge.
func (p *proofs) check(rw http.ResponseWriter, r *http.Request, scheme, token string) (code string) {
	if len(p.algs) == 0 {
		return ""
	}
	hash := sha256.Sum256([]byte(token))
	jkt, code := p.open(rw, r, base64.RawURLEncoding.EncodeToString(hash[:]))
	if code == "" && (scheme != "DPoP" || p.jkt[token] != jkt) {
		return "invalid_token"
	}
	return code
}

// checkToken looks at a token request, and says which type of token it gets.
func (p *proofs) checkToken(rw http.ResponseWriter, r *http.Request) (kind, code string) {
	if len(p.algs) == 0 {
		return "Bearer", ""
	}
	p.last, code = p.open(rw, r, "")
	if want := p.jkt[r.PostForm.Get("refresh_token")]; code == "" && want != "" && want != p.last {
		code = "invalid_grant"
	}
	return "DPoP", code
}

func (p *proofs) bind(tokens ...string) {
	if p.jkt == nil {
		p.jkt = map[string]string{}
	}
	for _, tok := range tokens {
		p.jkt[tok] = p.last
	}
}

// open verifies the proof of a request. ath is what it has to have.
func (p *proofs) open(rw http.ResponseWriter, r *http.Request, ath string) (jkt, code string) {
	const bad = "invalid_dpop_proof"
	jws, err := jose.ParseSigned(r.Header.Get("Dpop"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || jws.Signatures[0].Protected.JSONWebKey == nil {
		return "", bad
	}
	key := jws.Signatures[0].Protected.JSONWebKey
	b, err := jws.Verify(key)
	var c struct{ JTI, HTM, HTU, ATH, Nonce string }
	if err != nil || json.Unmarshal(b, &c) != nil {
		return "", bad
	}
	if c.JTI == "" || p.jti[c.JTI] || c.HTM != r.Method || c.HTU != "http://"+r.Host+r.URL.EscapedPath() || c.ATH != ath {
		return "", bad
	}
	if p.nonces {
		if want := fmt.Sprint("nonce", p.n); c.Nonce != want {
			rw.Header().Set("Dpop-Nonce", want)
			return "", "use_dpop_nonce"
		}
		p.n++
	}
	if p.jti == nil {
		p.jti = map[string]bool{}
	}
	p.jti[c.JTI] = true
	thumb, _ := key.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(thumb), ""
}
