package authtrip_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// This file makes proofs of possession (RFC 9449) and verifies them, with the standard
// library alone: package dpop is another module.

// provers are a Binder with Ed25519 keys.
type provers struct {
	seed   func() []byte // of the next key; nil: by chance
	nonces nonces
}

// nonces are the newest of each place.
type nonces struct {
	mu sync.Mutex
	at map[string]string
}

// place is whose nonces are shared.
func place(req *http.Request, token string) string {
	if token != "" {
		return "api " + req.URL.Host
	}
	return "server " + req.URL.Host
}

func (n *nonces) newest(place string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at[place]
}

// answered takes the nonce of an answer to a proof that had the nonce sent.
func (n *nonces) answered(place, sent string, resp *http.Response, code string) (again bool) {
	nonce := resp.Header.Get("Dpop-Nonce")
	if nonce == "" {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at == nil {
		n.at = make(map[string]string)
	}
	// An answer to a nonce that has been replaced since says nothing new.
	if n.at[place] == sent {
		n.at[place] = nonce
	}
	return code == "use_dpop_nonce"
}

var b64 = base64.RawURLEncoding

func (b *provers) NewKey(context.Context) (string, error) {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed)
	if b.seed != nil {
		seed = b.seed()
	}
	return b64.EncodeToString(seed), nil
}

func (b *provers) Prover(key, accessToken string) (authtrip.Prover, error) {
	seed, err := b64.DecodeString(key)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("the key is none")
	}
	return &onePair{of: b, key: ed25519.NewKeyFromSeed(seed), token: accessToken}, nil
}

// onePair is a key and what it makes proofs for.
type onePair struct {
	of    *provers
	key   ed25519.PrivateKey
	token string
}

func publicJWK(public ed25519.PublicKey) string {
	return `{"crv":"Ed25519","kty":"OKP","x":"` + b64.EncodeToString(public) + `"}`
}

func thumbprint(public ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(publicJWK(public))) // RFC 8037, appendix A.3
	return b64.EncodeToString(sum[:])
}

func (p *onePair) public() ed25519.PublicKey { return p.key.Public().(ed25519.PublicKey) }

func (p *onePair) Thumbprint() string { return thumbprint(p.public()) }

type proof struct {
	JTI   string `json:"jti"`
	HTM   string `json:"htm"`
	HTU   string `json:"htu"`
	IAT   int64  `json:"iat"`
	ATH   string `json:"ath,omitempty"`
	Nonce string `json:"nonce,omitempty"`
}

func (p *onePair) Prove(req *http.Request) error {
	c := proof{JTI: rand.Text(), HTM: req.Method, HTU: req.URL.Scheme + "://" + req.URL.Host + req.URL.Path, IAT: time.Now().Unix()}
	if p.token != "" {
		sum := sha256.Sum256([]byte(p.token))
		c.ATH = b64.EncodeToString(sum[:])
	}
	c.Nonce = p.of.nonces.newest(place(req, p.token))
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	text := b64.EncodeToString([]byte(`{"typ":"dpop+jwt","alg":"EdDSA","jwk":`+publicJWK(p.public())+`}`)) + "." + b64.EncodeToString(body)
	req.Header["Dpop"] = []string{text + "." + b64.EncodeToString(ed25519.Sign(p.key, []byte(text)))}
	return nil
}

func (p *onePair) Answered(req *http.Request, resp *http.Response, code string) bool {
	var sent proof
	if parts := strings.Split(req.Header.Get("Dpop"), "."); len(parts) == 3 {
		_ = unmarshalPart(parts[1], &sent)
	}
	return p.of.nonces.answered(place(req, p.token), sent.Nonce, resp, code)
}

// verifyProof holds the proof of a request to a URL, with an access token unless that is "",
// against RFC 9449, section 4.3. Whether jti and nonce are right is for the caller to say.
func verifyProof(req *http.Request, at, token string) (jkt string, c proof, err error) {
	if len(req.Header["Dpop"]) != 1 {
		return "", c, errors.New("there is not one proof")
	}
	parts := strings.Split(req.Header.Get("Dpop"), ".")
	if len(parts) != 3 {
		return "", c, errors.New("the proof has not three parts")
	}
	var head struct {
		Typ string `json:"typ"`
		Alg string `json:"alg"`
		JWK struct{ Kty, Crv, X, D string }
	}
	if unmarshalPart(parts[0], &head) != nil || unmarshalPart(parts[1], &c) != nil {
		return "", c, errors.New("the proof is not JSON")
	}
	public, _ := b64.DecodeString(head.JWK.X)
	signature, _ := b64.DecodeString(parts[2])
	if head.Typ != "dpop+jwt" || head.Alg != "EdDSA" || head.JWK.D != "" || len(public) != ed25519.PublicKeySize {
		return "", c, errors.New("the header is that of no proof")
	}
	if !ed25519.Verify(public, []byte(parts[0]+"."+parts[1]), signature) {
		return "", c, errors.New("the signature is wrong")
	}
	ath := ""
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		ath = b64.EncodeToString(sum[:])
	}
	if c.HTM != req.Method || c.HTU != at || c.ATH != ath || c.JTI == "" {
		return "", c, errors.New("the proof is for another request")
	}
	if time.Since(time.Unix(c.IAT, 0)).Abs() > time.Minute {
		return "", c, errors.New("the proof is of another time")
	}
	return thumbprint(public), c, nil
}

func unmarshalPart(part string, v any) error {
	b, err := b64.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// boundRefresher has no other token.
type boundRefresher struct {
	binder authtrip.Binder
	asked  *atomic.Int32
}

func (b boundRefresher) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	b.asked.Add(1)
	return nil, &authtrip.RefreshError{Err: errors.New("there is no other token")}
}

func (b boundRefresher) Repeatable() bool { return true }

func (b boundRefresher) Binder() authtrip.Binder { return b.binder }

// brokenBinder has keys that do not sign.
type brokenBinder struct{ err error }

func (b brokenBinder) NewKey(context.Context) (string, error) { return "key", nil }

func (b brokenBinder) Prover(string, string) (authtrip.Prover, error) { return b, nil }

func (b brokenBinder) Thumbprint() string { return "thumbprint" }

func (b brokenBinder) Prove(*http.Request) error { return b.err }

func (b brokenBinder) Answered(*http.Request, *http.Response, string) bool { return false }

// TestRule43BoundSessionIsNotRefreshedWithoutItsKeys: a replica whose Grant had no DPoP sent
// the refresh token without a proof. The server ended the session, or made bearer tokens of it.
func TestRule43BoundSessionIsNotRefreshedWithoutItsKeys(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		bound := r.srv.Issue("alice").WithExtra(map[string]any{authtrip.DPoPKey: "a key"})
		src := &authtrip.Source{Refresher: r.src.Refresher, Initial: bound}
		r.others = append(r.others, src)
		expire(r)
		_, err := src.Token()
		if err == nil || errors.Is(err, authtrip.ErrReauthRequired) || !strings.Contains(err.Error(), "Grant.DPoP is nil") {
			t.Errorf("Token() error = %v, want one that names Grant.DPoP", err)
		}
		r.wantTokenRequests(t, 0)
	})
}
