package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip/internal/backoff"
	"example.com/authtrip/internal/digest"
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
	// the set, if anybody can have made up the key ID.
	missPause = 30 * time.Second
	// firstMiss is the same for what the token endpoint itself has sent; it
	// doubles up to missPause.
	firstMiss = time.Second
	// keyPatience is how long a login waits for a key that the server signs with
	// and does not publish yet.
	keyPatience = 10 * time.Second
	// maxKeysAge is how old a set may get while no newer one can be had.
	maxKeysAge = 24 * time.Hour
)

// A sender is where a signed token comes from. It says how soon an unknown key
// is worth a request.
type sender int

const (
	fromAnybody       sender = iota // a key ID may be made up
	fromTokenEndpoint               // the server knows the key
	senders
)

// A keySet is a provider's public keys (RFC 7517, section 5).
type keySet struct {
	keys []jose.JSONWebKey
}

var (
	errKeysUnavailable = errors.New("the provider's keys cannot be had")
	errSignature       = errors.New("no key of the provider verifies the signature")
	errUnknownKey      = errors.New("the provider does not publish the key of the signature")
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

// ready fetches the keys if there are none yet, or if nobody has asked for them in
// a long time: a key that was withdrawn meanwhile must not serve once more.
func (p *Provider) ready(ctx context.Context, m *Metadata) (*keySet, error) { //nolint:unparam // as get
	ttl, fetch := p.ttl(), p.fetchKeys(m)
	p.keys.restore(ctx, p.Cache, p.keysKey(m), readKeys)
	old := p.keys.cur.Load()
	if old == nil || ttl < 0 || time.Since(old.at) < 2*ttl {
		return p.keys.get(ctx, ttl, fetch)
	}
	err := p.keys.failing.Load().Cause()
	if !p.keys.failing.Load().Waiting() {
		var keys *keySet
		if keys, err = p.keys.renew(ctx, old, fetch); err == nil {
			return keys, nil
		}
	}
	if ctx.Err() == nil && time.Since(old.at) < max(maxKeysAge, 2*ttl) {
		return old.value, nil
	}
	return nil, err
}

// verifySignature returns the payload of jws. A signature that no key verifies is a
// reason to fetch the set anew, as providers change their keys; in vain, and it is
// none for a while. patience is how long to wait for an unknown key to appear.
// Rule 58.
func (p *Provider) verifySignature(ctx context.Context, m *Metadata, jws *jose.JSONWebSignature, from sender, patience time.Duration) ([]byte, error) {
	if _, err := p.ready(ctx, m); err != nil {
		return nil, fmt.Errorf("%w: %w", errKeysUnavailable, err)
	}
	var fetched *backoff.Setback
	for end := time.Now().Add(patience); ; {
		missed, seen := p.missed[from].Load(), p.keys.cur.Load()
		payload, known := seen.value.verify(jws)
		if payload != nil {
			if fetched != nil { // it was not in vain
				p.missed[from].CompareAndSwap(fetched, nil)
			}
			return payload, nil
		}
		if !missed.Waiting() {
			fetched = p.refetch(ctx, m, from, missed, seen)
			if p.keys.cur.Load() != seen {
				continue // and look whether it is in there
			}
			missed = p.missed[from].Load()
		}
		switch cause := missed.Cause(); {
		case cause != nil:
			return nil, fmt.Errorf("%w: %w", errKeysUnavailable, cause)
		case known:
			return nil, errSignature
		case missed == nil || missed.Again.After(end) || pause(ctx, time.Until(missed.Again)) != nil:
			return nil, errUnknownKey
		}
	}
}

// refetch gets the set anew, and notes when the next attempt is due if that is in
// vain. Of many callers at once one does it.
func (p *Provider) refetch(ctx context.Context, m *Metadata, from sender, missed *backoff.Setback, seen *edition[*keySet]) *backoff.Setback {
	last := missed
	if missed != nil && time.Since(missed.Again) >= missPause {
		last = nil // too long ago to be of the same row
	}
	_, err := p.keys.renew(ctx, seen, p.fetchKeys(m))
	if ctx.Err() != nil {
		return nil
	}
	next := backoff.After(last, err, func(attempts int) time.Duration {
		if from == fromAnybody {
			return missPause
		}
		return backoff.Doubled(attempts, firstMiss, missPause)
	})
	p.missed[from].CompareAndSwap(missed, next)
	return next
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("login: %w", context.Cause(ctx))
	}
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
	keys, err := readKeys(body)
	if err != nil {
		return nil, &EndpointError{Endpoint: endpointKeys, StatusCode: 200, Err: err}
	}
	carry(ctx, p.Cache, p.keysKey(m), body, p.ttl())
	return keys, nil
}

// readKeys reads a set that has a key. Nothing can be signed with none: it is a fault, and
// the copy from before serves.
func readKeys(body []byte) (*keySet, error) {
	keys, err := parseKeys(body)
	if err == nil && len(keys.keys) == 0 {
		err = errors.New("the set has no key that can be used")
	}
	return keys, err
}

func (p *Provider) keysKey(m *Metadata) string {
	return "keys:" + digest.Of(p.Issuer, m.JWKSURI)
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
