package dpop

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A prover makes the proofs of one key for one token. It never changes.
type prover struct {
	keys       *Keys
	signer     crypto.Signer
	ecdsa      bool
	header     string // encoded, with the dot after it
	ath        string // a member of the claims, with the comma before it; "" for none
	thumbprint string
	resource   bool // proofs are for APIs, and not for the token endpoint
}

// Thumbprint implements [authtrip.Prover].
func (p *prover) Thumbprint() string { return p.thumbprint }

// Prove implements [authtrip.Prover]. Rules 40, 41.
func (p *prover) Prove(req *http.Request) error {
	if req.URL == nil || req.URL.Host == "" {
		return errors.New("dpop: the request has no absolute URL")
	}
	at := p.serverOf(req)
	known := p.keys.servers.get(at)
	if known == nil && p.keys.Cache != nil {
		known = p.keys.recall(req.Context(), at)
	}
	buffer, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b := p.claims((*buffer)[:0], req, known)
	*buffer = b
	proof, err := p.sign(b)
	if err != nil {
		return err
	}
	req.Header["Dpop"] = []string{proof}
	return nil
}

// claims writes those of a proof as JSON.
func (p *prover) claims(b []byte, req *http.Request, known *server) []byte {
	b = append(b, `{"jti":"`...)
	b = append(b, rand.Text()...)
	b = append(b, `","htm":`...)
	b = quoted(b, method(req))
	b = append(b, `,"htu":`...)
	b = quoted(b, htu(req.URL))
	b = append(b, `,"iat":`...)
	b = strconv.AppendInt(b, time.Now().Add(known.offset()).Unix(), 10)
	b = append(b, p.ath...)
	if nonce := known.nonceOf(); nonce != "" {
		b = append(b, `,"nonce":`...)
		b = quoted(b, nonce)
	}
	return append(b, '}')
}

func method(req *http.Request) string {
	if req.Method == "" {
		return http.MethodGet
	}
	return req.Method
}

// htu is the URL without query and fragment (RFC 9449, section 4.2). The Host field of the
// request does not count: it is what the URL says that is asked. The rest is as RFC 3986,
// section 6.2, writes it: host in lower case, no port that is the scheme's own, a path.
func htu(u *url.URL) string {
	host := strings.ToLower(u.Host)
	scheme := strings.ToLower(u.Scheme)
	if port := u.Port(); port == "443" && scheme == "https" || port == "80" && scheme == "http" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scheme + "://" + host + path
}

// quoted appends s as a JSON string.
func quoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			text, _ := json.Marshal(s) // of a string: cannot fail
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

const signatureSize = 64 // of both algorithms

// sign returns the proof with these claims, in the compact form (RFC 7515, section 3.1).
func (p *prover) sign(claims []byte) (string, error) {
	enc := base64.RawURLEncoding
	size := len(p.header) + enc.EncodedLen(len(claims))
	proof := make([]byte, size, size+1+enc.EncodedLen(signatureSize))
	copy(proof, p.header)
	enc.Encode(proof[len(p.header):], claims)
	signature, err := p.signature(proof)
	if err != nil {
		return "", fmt.Errorf("dpop: the key does not sign: %w", err)
	}
	return string(enc.AppendEncode(append(proof, '.'), signature)), nil
}

func (p *prover) signature(text []byte) ([]byte, error) {
	if !p.ecdsa {
		return p.signer.Sign(rand.Reader, text, crypto.Hash(0))
	}
	digest := sha256.Sum256(text)
	der, err := p.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return fixed(der)
}

// fixed makes of an ASN.1 signature, a sequence of two integers in DER, the two numbers of
// 32 bytes that JWS wants (RFC 7518, section 3.4).
func fixed(der []byte) ([]byte, error) {
	out := make([]byte, signatureSize)
	if len(der) < 2 || der[0] != 0x30 || int(der[1]) != len(der)-2 {
		return nil, errNoSignature
	}
	rest := der[2:]
	for at := 0; at < signatureSize; at += signatureSize / 2 {
		if len(rest) < 2 || rest[0] != 0x02 || int(rest[1]) > len(rest)-2 {
			return nil, errNoSignature
		}
		n := rest[2 : 2+int(rest[1])]
		rest = rest[2+len(n):]
		for len(n) > 0 && n[0] == 0 {
			n = n[1:]
		}
		if len(n) == 0 || len(n) > signatureSize/2 {
			return nil, errNoSignature
		}
		copy(out[at+signatureSize/2-len(n):], n)
	}
	if len(rest) > 0 {
		return nil, errNoSignature
	}
	return out, nil
}

var errNoSignature = errors.New("the signature is none of P-256")

// Answered implements [authtrip.Prover]. Rules 42, 73.
func (p *prover) Answered(req *http.Request, resp *http.Response, code string) (again bool) {
	at := p.serverOf(req)
	nonce := nonceFrom(resp.Header)
	if nonce != "" {
		p.keys.learn(at, nonce)
	}
	if !atFault(resp.StatusCode, code) {
		return false
	}
	iat, sent, ok := sentWith(req)
	if !ok {
		return false
	}
	if p.keys.adjust(at, resp.Header, iat) {
		return true
	}
	return code == "use_dpop_nonce" && nonce != "" && nonce != sent
}

// atFault reports whether an answer may be about the proof. A server that finds it too old
// calls the token invalid, or says nothing.
func atFault(status int, code string) bool {
	switch code {
	case "use_dpop_nonce", "invalid_dpop_proof":
		return true
	case "", "invalid_token":
		return status == http.StatusUnauthorized
	}
	return false
}

// sentWith reads the proof that a request was sent with.
func sentWith(req *http.Request) (iat time.Time, nonce string, ok bool) {
	parts := strings.Split(req.Header.Get("Dpop"), ".")
	if len(parts) != 3 {
		return time.Time{}, "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		IssuedAt int64  `json:"iat"`
		Nonce    string `json:"nonce"`
	}
	if err != nil || json.Unmarshal(b, &claims) != nil {
		return time.Time{}, "", false
	}
	return time.Unix(claims.IssuedAt, 0), claims.Nonce, true
}
