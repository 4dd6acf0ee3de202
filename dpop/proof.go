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
	"sync"
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
	at := p.placeOf(req)
	known := p.keys.servers.get(at)
	if known == nil && p.keys.Cache != nil {
		known = p.keys.recall(req.Context(), at)
	}
	s, _ := scratches.Get().(*scratch)
	defer scratches.Put(s)
	_, _ = rand.Read(s.chance[:]) // cannot fail
	s.claims = p.claims(s.claims[:0], req, known, s.chance[:])
	proof, err := p.sign(s)
	if err != nil {
		return err
	}
	req.Header["Dpop"] = []string{proof}
	return nil
}

// A scratch is where a proof is made: what is passed to a [crypto.Signer] would be allocated
// for each one.
type scratch struct {
	chance    [16]byte // RFC 9449, section 4.2: at least 96 bits
	claims    []byte   // as JSON
	proof     []byte
	digest    [sha256.Size]byte
	signature [signatureSize]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }} //nolint:gochecknoglobals // bytes, of nobody

// claims writes those of a proof as JSON.
func (p *prover) claims(b []byte, req *http.Request, known *server, jti []byte) []byte {
	b = append(b, `{"jti":"`...)
	b = base64.RawURLEncoding.AppendEncode(b, jti)
	b = append(b, `","htm":`...)
	b = quoted(b, method(req))
	b = append(b, `,"htu":`...)
	b = htu(b, req.URL)
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

// htu appends the URL as a JSON string, without query and fragment (RFC 9449, section 4.2). The Host field of the
// request does not count: it is what the URL says that is asked. The rest is as RFC 3986,
// section 6.2, writes it: host in lower case, no port that is the scheme's own, a path.
func htu(b []byte, u *url.URL) []byte {
	scheme, host := serverOf(u)
	path := pathOf(u)
	if !plain(scheme) || !plain(host) || !plain(path) {
		return quoted(b, scheme+"://"+host+path)
	}
	b = append(b, '"')
	b = append(b, scheme...)
	b = append(b, "://"...)
	b = append(b, host...)
	b = append(b, path...)
	return append(b, '"')
}

// serverOf returns the scheme and the host of a URL as they are in a proof.
func serverOf(u *url.URL) (scheme, host string) {
	scheme, host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := u.Port(); port == "443" && scheme == "https" || port == "80" && scheme == "http" {
		host = strings.TrimSuffix(host, port)
	}
	return scheme, strings.TrimSuffix(host, ":")
}

// pathOf returns the path that is asked for: [url.URL.RequestURI] prefers Opaque.
func pathOf(u *url.URL) string {
	path := u.EscapedPath()
	if u.Opaque != "" {
		path, _, _ = strings.Cut(u.Opaque, "?")
		if rest, ok := strings.CutPrefix(path, "//"); ok {
			_, path, _ = strings.Cut(rest, "/")
			path = "/" + path
		}
	}
	if path == "" {
		return "/"
	}
	return path
}

// plain reports whether s is in JSON as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// quoted appends s as a JSON string.
func quoted(b []byte, s string) []byte {
	if !plain(s) {
		text, _ := json.Marshal(s) // of a string: cannot fail
		return append(b, text...)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

const signatureSize = 64 // of both algorithms

// sign returns the proof with the claims of s, in the compact form (RFC 7515, section 3.1).
func (p *prover) sign(s *scratch) (string, error) {
	enc := base64.RawURLEncoding
	s.proof = append(s.proof[:0], p.header...)
	s.proof = enc.AppendEncode(s.proof, s.claims)
	signature, err := p.signature(s)
	if err != nil {
		return "", fmt.Errorf("dpop: the key does not sign: %w", err)
	}
	s.proof = append(s.proof, '.')
	s.proof = enc.AppendEncode(s.proof, signature)
	return string(s.proof), nil
}

// signature is that of what is in s.proof.
func (p *prover) signature(s *scratch) ([]byte, error) {
	if !p.ecdsa {
		signature, err := p.signer.Sign(rand.Reader, s.proof, crypto.Hash(0))
		if err == nil && len(signature) != signatureSize {
			return nil, errNoSignature
		}
		return signature, err
	}
	s.digest = sha256.Sum256(s.proof)
	der, err := p.signer.Sign(rand.Reader, s.digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	s.signature = [signatureSize]byte{}
	return fixed(s.signature[:], der)
}

// fixed makes of an ASN.1 signature, a sequence of two integers in DER, the two numbers of
// 32 bytes that JWS wants (RFC 7518, section 3.4). out has zeros.
func fixed(out, der []byte) ([]byte, error) {
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

var errNoSignature = errors.New("the signature is none of P-256, or of Ed25519")

// Answered implements [authtrip.Prover]. Rules 42, 73.
func (p *prover) Answered(req *http.Request, resp *http.Response, code string) (again bool) {
	at := p.placeOf(req)
	nonce := nonceFrom(resp.Header)
	news := nonce != "" && nonce != p.keys.servers.get(at).nonceOf()
	if !news && !atFault(resp.StatusCode, code) {
		return false
	}
	iat, sent, ok := sentWith(req)
	if news {
		p.keys.learn(at, sent, nonce)
	}
	if !ok || !atFault(resp.StatusCode, code) {
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
