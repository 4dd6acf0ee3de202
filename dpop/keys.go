// Package dpop binds tokens to keys (RFC 9449, DPoP). A stolen token is of no use without
// its key. Set [Keys] as a field of a grant or of a login, and each request carries a
// proof with its token.
//
//	keys := new(dpop.Keys)
//	client := &login.Client{Provider: provider, ID: "my-app", DPoP: keys}
//
//	grant := authtrip.ClientCredentials(conf)
//	grant.DPoP = keys
//	api := &http.Client{Transport: &authtrip.Transport{Source: &authtrip.Source{Refresher: grant}}}
//
// Each session has a key of its own, which is kept in its record. Records are in plain
// text unless their Store is an [authtrip.Sealed] one.
package dpop

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
)

// The algorithms of a proof.
const (
	ES256 = "ES256"
	EdDSA = "EdDSA" // with an Ed25519 key
)

// Keys makes keys and proofs: it is an [authtrip.Binder]. Use one Keys for all clients of
// the same servers: they share its nonces.
//
// The zero value is ready to use: each session gets an ES256 key of its own. Keys is safe
// for concurrent use, must not be copied, and its fields must not be modified after first
// use. Printing it shows no key and no nonce.
type Keys struct {
	// Alg is the algorithm of new keys: ES256, which every server has to know, or EdDSA. If
	// "", it is ES256. A session keeps the key that it has.
	Alg string
	// Signer, if set, is the key of all sessions: one that cannot be exported, such as that
	// of a TPM or a KMS. It is an ECDSA key of P-256 or an Ed25519 key, safe for concurrent
	// use. A record then has only its public key, so another process needs the same Signer.
	// Its errors are errors of the request.
	Signer crypto.Signer
	// Cache shares nonces between processes. It is read when a server is new to this
	// process, and waited for a quarter of a second at most. It is written in the
	// background, at most every ten seconds for each server. A Cache that fails is ignored.
	// If nil, the first nonce of each server costs a process one more request.
	Cache authtrip.Cache

	servers servers
}

var _ authtrip.Binder = (*Keys)(nil)

// String returns a text for logs that shows nothing of the keys.
func (k *Keys) String() string { return "dpop.Keys" }

// GoString implements [fmt.GoStringer] as String does.
func (k *Keys) GoString() string { return k.String() }

// LogValue implements [slog.LogValuer] as String does.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// NewKey implements [authtrip.Binder]. The key is a JWK (RFC 7517) as JSON: a private one,
// or the public one of Signer.
func (k *Keys) NewKey(context.Context) (string, error) {
	jwk := jose.JSONWebKey{}
	switch {
	case k.Signer != nil:
		jwk.Key = k.Signer.Public()
		if _, err := algOf(jwk.Key); err != nil {
			return "", fmt.Errorf("dpop: Keys.Signer: %w", err)
		}
	case k.Alg == "" || k.Alg == ES256:
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return "", fmt.Errorf("dpop: %w", err)
		}
		jwk.Key = key
	case k.Alg == EdDSA:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return "", fmt.Errorf("dpop: %w", err)
		}
		jwk.Key = key
	default:
		return "", errors.New("dpop: Keys.Alg is none that is known, want ES256 or EdDSA")
	}
	b, err := jwk.MarshalJSON()
	if err != nil {
		return "", errors.New("dpop: the key cannot be written")
	}
	return string(b), nil
}

// Prover implements [authtrip.Binder].
func (k *Keys) Prover(key, accessToken string) (authtrip.Prover, error) {
	p, err := k.prover(key)
	if err != nil {
		return nil, err
	}
	p.resource = accessToken != ""
	if p.resource {
		hash := sha256.Sum256([]byte(accessToken))
		p.ath = `,"ath":"` + base64.RawURLEncoding.EncodeToString(hash[:]) + `"`
	}
	return p, nil
}

func (k *Keys) prover(key string) (*prover, error) {
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON([]byte(key)); err != nil {
		return nil, errors.New("dpop: the key is no JWK")
	}
	p := &prover{keys: k}
	switch private := jwk.Key.(type) {
	case *ecdsa.PrivateKey:
		p.signer = private
	case ed25519.PrivateKey:
		p.signer = private
	default:
		public, ok := jwk.Key.(interface{ Equal(x crypto.PublicKey) bool })
		if k.Signer == nil || !ok || !public.Equal(k.Signer.Public()) {
			return nil, errors.New("dpop: the key of the session is that of another Keys.Signer, or of none")
		}
		p.signer = k.Signer
	}
	public := jose.JSONWebKey{Key: p.signer.Public()}
	alg, err := algOf(public.Key)
	if err != nil {
		return nil, fmt.Errorf("dpop: the key of the session: %w", err)
	}
	p.ecdsa = alg == ES256
	doc, err := public.MarshalJSON()
	if err != nil {
		return nil, errors.New("dpop: the public key cannot be written")
	}
	header, err := json.Marshal(struct {
		Typ string          `json:"typ"`
		Alg string          `json:"alg"`
		JWK json.RawMessage `json:"jwk"`
	}{"dpop+jwt", alg, doc})
	if err != nil {
		return nil, errors.New("dpop: the header cannot be written")
	}
	p.header = base64.RawURLEncoding.EncodeToString(header) + "."
	hash, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, errors.New("dpop: the key has no thumbprint")
	}
	p.thumbprint = base64.RawURLEncoding.EncodeToString(hash)
	return p, nil
}

// algOf is the algorithm of a public key.
func algOf(public crypto.PublicKey) (string, error) {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P256() {
			return ES256, nil
		}
	case ed25519.PublicKey:
		return EdDSA, nil
	}
	return "", errors.New("it is neither an ECDSA key of P-256 nor an Ed25519 key")
}
