package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// asymmetric are the algorithms that a provider may sign with. Neither "none" nor the symmetric
// ones are here: who can verify those can also sign them.
func asymmetric() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512,
		jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512,
		jose.EdDSA,
	}
}

const (
	// maxKeys is how many keys of a set are read.
	maxKeys = 100
	// maxJWT is the largest JWT that is parsed, in bytes.
	maxJWT = 64 << 10
	// missPause is the least time between two fetches for keys that are not in
	// the set: anybody can make up a key ID.
	missPause = 30 * time.Second
)

// A keySet is a provider's public keys (RFC 7517, section 5).
type keySet struct {
	keys []jose.JSONWebKey
}

var (
	errKeysUnavailable = errors.New("the provider's keys cannot be had")
	errSignature       = errors.New("no key of the provider verifies the signature")
)

// parseKeys reads a set. A key that cannot be understood is left out: a set may
// hold kinds of keys that did not exist when this was written.
func parseKeys(body []byte) (*keySet, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &doc); err != nil || doc.Keys == nil {
		return nil, errors.New("the answer is not a set of keys")
	}
	s := new(keySet)
	for _, raw := range doc.Keys[:min(len(doc.Keys), maxKeys)] {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) != nil || !k.Valid() || (k.Use != "" && k.Use != "sig") {
			continue
		}
		if public := k.Public(); public.Valid() {
			s.keys = append(s.keys, public)
		}
	}
	return s, nil
}

// verify returns the payload of jws if a key that it may be signed with verifies
// it. known reports whether there is such a key at all.
func (s *keySet) verify(jws *jose.JSONWebSignature) (payload []byte, known bool) {
	header := jws.Signatures[0].Header
	for i := range s.keys {
		k := &s.keys[i]
		if header.KeyID != "" && k.KeyID != "" && k.KeyID != header.KeyID {
			continue
		}
		if k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		known = known || header.KeyID == "" || k.KeyID == header.KeyID
		if payload, err := jws.Verify(k.Key); err == nil {
			return payload, true
		}
	}
	return nil, known && header.KeyID != ""
}

// ready fetches the keys if there are none yet.
func (p *Provider) ready(ctx context.Context, m *Metadata) (*keySet, error) {
	return p.keys.get(ctx, p.ttl(), p.fetchKeys(m))
}

// verifySignature returns the payload of jws. A key ID that is not in the set is
// a reason to fetch the set anew, as providers change their keys; in vain, and
// it is none for the next 30 seconds.
func (p *Provider) verifySignature(ctx context.Context, m *Metadata, jws *jose.JSONWebSignature) ([]byte, error) {
	keys, err := p.ready(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeysUnavailable, err)
	}
	payload, known := keys.verify(jws)
	if payload != nil {
		return payload, nil
	}
	seen := p.keys.cur.Load()
	if missed := p.missed.Load(); known || missed != nil && time.Since(*missed) < missPause {
		return nil, errSignature
	}
	if keys, err = p.keys.renew(ctx, seen, p.fetchKeys(m)); err != nil {
		p.miss()
		return nil, fmt.Errorf("%w: %w", errKeysUnavailable, err)
	}
	if payload, _ = keys.verify(jws); payload != nil {
		return payload, nil
	}
	p.miss()
	return nil, errSignature
}

func (p *Provider) miss() {
	now := time.Now()
	p.missed.Store(&now)
}

func (p *Provider) fetchKeys(m *Metadata) func(context.Context) (*keySet, error) {
	return func(ctx context.Context) (*keySet, error) {
		start := time.Now()
		keys, err := p.downloadKeys(ctx, m)
		p.report(EventKeysRefreshed, EventKeysFailed, start, err)
		return keys, err
	}
}

func (p *Provider) downloadKeys(ctx context.Context, m *Metadata) (*keySet, error) {
	at, err := p.endpoint(m, endpointKeys, false)
	if err != nil {
		return nil, err
	}
	body, err := fetch(ctx, p.HTTPClient, endpointKeys, at.String())
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(body)
	if err != nil {
		return nil, &EndpointError{Endpoint: endpointKeys, StatusCode: 200, Err: err}
	}
	return keys, nil
}

// algorithms returns those of offered that are asymmetric; RS256 if a server
// does not say (OpenID Connect Core 1.0, section 15.1).
func algorithms(offered []string) []jose.SignatureAlgorithm {
	if len(offered) == 0 {
		return []jose.SignatureAlgorithm{jose.RS256}
	}
	var algs []jose.SignatureAlgorithm
	for _, alg := range asymmetric() {
		if slices.Contains(offered, string(alg)) {
			algs = append(algs, alg)
		}
	}
	return algs
}
