package authtrip

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// ErrSealed is returned by a [Sealed] and a [SealedCache] for a value that none
// of its keys opens: it was sealed with another key, it was changed, or it was
// copied from another key of the store. The value is kept.
var ErrSealed = errors.New("authtrip: value does not open")

// A Sealed is a [Store] that saves values, encrypted, in another one. Its Store and
// Keys must be set. It is safe for concurrent use if Store is, and must not be
// modified after first use. It waits for nothing but Store, and returns the errors
// of Store as they are. It has the methods of [Leaser], [Expirer], [Watcher] and
// [KeysWatcher]; what Store cannot do is an error that is [errors.ErrUnsupported].
//
// Values are encrypted with AES-256-GCM under a key of their own, derived from
// the first of Keys and from the key of the record. Whoever can only read Store
// learns how long the values are, when they change, and which of them expire.
// Whoever can write to it cannot make a value, or copy one to another key, without
// being noticed. An older value of the same key that is restored is not noticed.
//
// The keys of records are hashed, so that Store does not see those either.
//
// # Changing keys
//
//  1. Add the new key as the last one, on every replica.
//  2. Make it the first one, on every replica.
//  3. Remove the old one when no record uses it any more. Each refresh saves its
//     record with the first key.
//
// A record that still uses a removed key is an [ErrSealed], until [Source.SetToken]
// replaces it or [Source.Forget] removes it.
type Sealed struct {
	// Store is where the values are kept; required.
	Store Store

	// Keys are secrets of 32 random bytes each; required. The first one
	// seals, all of them open.
	Keys [][]byte

	// NameKey is a secret of 32 random bytes that hashes the keys of records
	// (HMAC-SHA-256). It is apart from Keys, as it must stay what it is for as
	// long as the records are to be found. If empty, keys are hashed without a
	// secret: whoever can read Store can then find out, by trying, whether a
	// key that can be guessed, such as a user's name, has a record.
	NameKey []byte
}

// Load implements [Store].
func (s *Sealed) Load(ctx context.Context, key string) ([]byte, string, error) {
	k, name, err := s.sealer(key)
	if err != nil {
		return nil, "", err
	}
	b, version, err := s.Store.Load(ctx, name)
	if err != nil {
		return nil, "", err
	}
	value, err := k.open(key, b)
	if err != nil {
		return nil, version, err // the version, so that it can be replaced
	}
	return value, version, nil
}

// Save implements [Store].
func (s *Sealed) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	k, name, err := s.sealer(key)
	if err != nil {
		return "", err
	}
	b, err := k.seal(key, value)
	if err != nil {
		return "", err
	}
	return s.Store.Save(ctx, name, b, version)
}

// Delete implements [Store].
func (s *Sealed) Delete(ctx context.Context, key, version string) error {
	_, name, err := s.sealer(key)
	if err != nil {
		return err
	}
	return s.Store.Delete(ctx, name, version)
}

// SaveFor implements [Expirer].
func (s *Sealed) SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	k, name, err := s.sealer(key)
	if err != nil {
		return "", err
	}
	expirer, ok := s.Store.(Expirer)
	if !ok {
		return "", fmt.Errorf("authtrip: Sealed.Store cannot drop records by itself: %w", errors.ErrUnsupported)
	}
	b, err := k.seal(key, value)
	if err != nil {
		return "", err
	}
	return expirer.SaveFor(ctx, name, b, version, ttl)
}

// Lease implements [Leaser].
func (s *Sealed) Lease(ctx context.Context, key string, ttl time.Duration) (release func(context.Context) error, err error) {
	_, name, err := s.sealer(key)
	if err != nil {
		return nil, err
	}
	leaser, ok := s.Store.(Leaser)
	if !ok {
		return nil, fmt.Errorf("authtrip: Sealed.Store has no leases: %w", errors.ErrUnsupported)
	}
	return leaser.Lease(ctx, name, ttl)
}

// Watch implements [Watcher].
func (s *Sealed) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	_, name, err := s.sealer(key)
	if err != nil {
		return nil, err
	}
	watcher, ok := s.Store.(Watcher)
	if !ok {
		return nil, fmt.Errorf("authtrip: Sealed.Store cannot be watched: %w", errors.ErrUnsupported)
	}
	return watcher.Watch(ctx, name)
}

// WatchKeys implements [KeysWatcher].
func (s *Sealed) WatchKeys(ctx context.Context) (<-chan string, func(key string) string, error) {
	if _, _, err := s.sealer(""); err != nil {
		return nil, nil, err
	}
	watcher, ok := s.Store.(KeysWatcher)
	if !ok {
		return nil, nil, fmt.Errorf("authtrip: Sealed.Store cannot be watched: %w", errors.ErrUnsupported)
	}
	changed, inner, err := watcher.WatchKeys(ctx)
	if err != nil {
		return nil, nil, err
	}
	return changed, func(key string) string {
		// What could fail does not depend on the key, and did not above.
		_, name, _ := s.sealer(key)
		return inner(name)
	}, nil
}

func (s *Sealed) sealer(key string) (k sealer, name string, err error) {
	if s.Store == nil {
		return k, "", errors.New("authtrip: Sealed.Store is nil")
	}
	return newSealer("Sealed", s.Keys, s.NameKey, key)
}

// A SealedCache is a [Cache] that keeps what it is given, encrypted, in another
// one. What is said of [Sealed] holds for it too. A value that none of its keys
// opens is [ErrSealed], and gone after Take.
type SealedCache struct {
	// Cache is where the values are kept; required.
	Cache Cache

	// Keys are secrets of 32 random bytes each; required. The first one
	// seals, all of them open.
	Keys [][]byte

	// NameKey is what it is in [Sealed].
	NameKey []byte
}

// Get implements [Cache].
func (c *SealedCache) Get(ctx context.Context, key string) ([]byte, error) {
	k, name, err := c.sealer(key)
	if err != nil {
		return nil, err
	}
	b, err := c.Cache.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.open(key, b)
}

// Set implements [Cache].
func (c *SealedCache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	k, name, err := c.sealer(key)
	if err != nil {
		return err
	}
	b, err := k.seal(key, value)
	if err != nil {
		return err
	}
	return c.Cache.Set(ctx, name, b, ttl)
}

// Take implements [Cache].
func (c *SealedCache) Take(ctx context.Context, key string) ([]byte, error) {
	k, name, err := c.sealer(key)
	if err != nil {
		return nil, err
	}
	b, err := c.Cache.Take(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.open(key, b)
}

func (c *SealedCache) sealer(key string) (k sealer, name string, err error) {
	if c.Cache == nil {
		return k, "", errors.New("authtrip: SealedCache.Cache is nil")
	}
	return newSealer("SealedCache", c.Keys, c.NameKey, key)
}

// sealKeyLen is the length of all keys, in bytes.
const sealKeyLen = 32

// sealFormat begins a sealed value. After it come keyIDLen bytes that tell which
// key sealed it, and what AES-GCM made of the value: nonce, ciphertext, tag.
const (
	sealFormat = "ats\x01"
	keyIDLen   = 8
)

// sealer seals and opens values.
type sealer struct {
	label string // what this sealer's values are, so that a cached one is no record
	keys  [][]byte
}

// newSealer returns a sealer of the type named owner, and under which name its
// store has key.
func newSealer(owner string, keys [][]byte, nameKey []byte, key string) (k sealer, name string, err error) {
	if len(keys) == 0 {
		return k, "", fmt.Errorf("authtrip: %s.Keys is empty", owner)
	}
	for i, b := range keys {
		if len(b) != sealKeyLen {
			return k, "", fmt.Errorf("authtrip: %s.Keys[%d] has %d bytes, want %d", owner, i, len(b), sealKeyLen)
		}
	}
	k = sealer{label: "authtrip " + owner, keys: keys}
	switch len(nameKey) {
	case 0:
		return k, hashed(k.label, key), nil
	case sealKeyLen:
		name, err = k.hidden(nameKey, key)
		return k, name, err
	}
	return k, "", fmt.Errorf("authtrip: %s.NameKey has %d bytes, want %d or none", owner, len(nameKey), sealKeyLen)
}

// hidden hashes key with a secret.
func (k sealer) hidden(nameKey []byte, key string) (string, error) {
	secret, err := hkdf.Key(sha256.New, nameKey, nil, k.label+" names", sha256.Size)
	if err != nil {
		return "", fmt.Errorf("authtrip: hashing a key: %w", err)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(key))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// seal encrypts a value, with the first key.
func (k sealer) seal(key string, value []byte) ([]byte, error) {
	id, err := k.id(k.keys[0])
	if err != nil {
		return nil, err
	}
	aead, err := k.aead(k.keys[0], key)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(sealFormat)+keyIDLen+len(value)+aead.Overhead())
	b = append(b, sealFormat...)
	b = append(b, id...)
	return aead.Seal(b, nil, value, k.about(key)), nil
}

// open decrypts what seal returned, with the key that sealed it.
func (k sealer) open(key string, sealed []byte) ([]byte, error) {
	const head = len(sealFormat) + keyIDLen
	if len(sealed) < head || string(sealed[:len(sealFormat)]) != sealFormat {
		return nil, fmt.Errorf("%w: it is not sealed", ErrSealed)
	}
	for _, secret := range k.keys {
		id, err := k.id(secret)
		if err != nil {
			return nil, err
		}
		if string(id) != string(sealed[len(sealFormat):head]) {
			continue
		}
		aead, err := k.aead(secret, key)
		if err != nil {
			return nil, err
		}
		value, err := aead.Open(make([]byte, 0, len(sealed)), nil, sealed[head:], k.about(key))
		if err != nil {
			return nil, fmt.Errorf("%w: it was changed, or is another key's", ErrSealed)
		}
		return value, nil
	}
	return nil, fmt.Errorf("%w: it was sealed with a key that is not in Keys", ErrSealed)
}

// id names a secret, and tells nothing about it.
func (k sealer) id(secret []byte) ([]byte, error) {
	id, err := hkdf.Key(sha256.New, secret, nil, k.label+" key id", keyIDLen)
	if err != nil {
		return nil, fmt.Errorf("authtrip: naming a key: %w", err)
	}
	return id, nil
}

// aead returns what seals values under key. The number of values that one key of
// AES-GCM may seal with random nonces, 2^32, is thereby that of one record.
func (k sealer) aead(secret []byte, key string) (cipher.AEAD, error) {
	own, err := hkdf.Key(sha256.New, secret, nil, k.label+" value\x00"+key, sealKeyLen)
	if err != nil {
		return nil, fmt.Errorf("authtrip: deriving a key: %w", err)
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		return nil, fmt.Errorf("authtrip: deriving a key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("authtrip: deriving a key: %w", err)
	}
	return aead, nil
}

// about is what a value is sealed together with: it opens nowhere else.
func (k sealer) about(key string) []byte {
	return []byte(sealFormat + k.label + "\x00" + key)
}
