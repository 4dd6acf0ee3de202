// Package seal encrypts values with AES-256-GCM, under keys that can be changed: those
// of stores, of caches, and what a browser keeps of a login.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// KeyLen is the length of all keys, in bytes.
const KeyLen = 32

// sealFormat begins a sealed value. After it come keyIDLen bytes that tell which
// key sealed it, and what AES-GCM made of the value: nonce, ciphertext, tag.
const (
	sealFormat = "ats\x01"
	keyIDLen   = 8
)

// Err is returned for a value that none of the keys opens.
var Err = errors.New("authtrip: value does not open")

// A Sealer seals and opens values.
type Sealer struct {
	Label string   // what this sealer's values are, so that a cached one is no record
	Keys  [][]byte // the first one seals, all open
}

// Check returns an error for keys that are none. Its text goes on behind the name of the
// field that they are from.
func (k Sealer) Check() error {
	if len(k.Keys) == 0 {
		return errors.New(" is empty")
	}
	for i, b := range k.Keys {
		if len(b) != KeyLen {
			return fmt.Errorf("[%d] has %d bytes, want %d", i, len(b), KeyLen)
		}
	}
	return nil
}

// Hidden hashes key with a secret.
func (k Sealer) Hidden(nameKey []byte, key string) (string, error) {
	secret, err := hkdf.Key(sha256.New, nameKey, nil, k.Label+" names", sha256.Size)
	if err != nil {
		return "", fmt.Errorf("authtrip: hashing a key: %w", err)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(key))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// Seal encrypts a value, with the first key.
func (k Sealer) Seal(key string, value []byte) ([]byte, error) {
	id, err := k.id(k.Keys[0])
	if err != nil {
		return nil, err
	}
	aead, err := k.aead(k.Keys[0], key)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(sealFormat)+keyIDLen+len(value)+aead.Overhead())
	b = append(b, sealFormat...)
	b = append(b, id...)
	return aead.Seal(b, nil, value, k.about(key)), nil
}

// Open decrypts what Seal returned, with the key that sealed it. Its errors are [Err].
func (k Sealer) Open(key string, sealed []byte) ([]byte, error) {
	const head = len(sealFormat) + keyIDLen
	if len(sealed) < head || string(sealed[:len(sealFormat)]) != sealFormat {
		return nil, fmt.Errorf("%w: it is not sealed", Err)
	}
	for _, secret := range k.Keys {
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
			return nil, fmt.Errorf("%w: it was changed, or is another key's", Err)
		}
		return value, nil
	}
	return nil, fmt.Errorf("%w: it was sealed with a key that is not in Keys", Err)
}

// id names a secret, and tells nothing about it.
func (k Sealer) id(secret []byte) ([]byte, error) {
	id, err := hkdf.Key(sha256.New, secret, nil, k.Label+" key id", keyIDLen)
	if err != nil {
		return nil, fmt.Errorf("authtrip: naming a key: %w", err)
	}
	return id, nil
}

// aead returns what seals values under key. The number of values that one key of
// AES-GCM may seal with random nonces, 2^32, is thereby that of one record.
func (k Sealer) aead(secret []byte, key string) (cipher.AEAD, error) {
	own, err := hkdf.Key(sha256.New, secret, nil, k.Label+" value\x00"+key, KeyLen)
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
func (k Sealer) about(key string) []byte {
	return []byte(sealFormat + k.Label + "\x00" + key)
}
