package authtrip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/authtrip/internal/seal"
)

// ErrSealed is returned by a [Sealed] and a [SealedCache] for a value that none
// of its keys opens: it was sealed with another key, it was changed, or it was
// copied from another key of the store. The value is kept.
var ErrSealed = seal.Err

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
	value, err := k.Open(key, b)
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
	b, err := k.Seal(key, value)
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
	b, err := k.Seal(key, value)
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

func (s *Sealed) sealer(key string) (k seal.Sealer, name string, err error) {
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
	return k.Open(key, b)
}

// Set implements [Cache].
func (c *SealedCache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	k, name, err := c.sealer(key)
	if err != nil {
		return err
	}
	b, err := k.Seal(key, value)
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
	return k.Open(key, b)
}

func (c *SealedCache) sealer(key string) (k seal.Sealer, name string, err error) {
	if c.Cache == nil {
		return k, "", errors.New("authtrip: SealedCache.Cache is nil")
	}
	return newSealer("SealedCache", c.Keys, c.NameKey, key)
}

// newSealer returns a sealer of the type named owner, and under which name its
// store has key.
func newSealer(owner string, keys [][]byte, nameKey []byte, key string) (k seal.Sealer, name string, err error) {
	k = seal.Sealer{Label: "authtrip " + owner, Keys: keys}
	if err = k.Check(); err != nil {
		return k, "", fmt.Errorf("authtrip: %s.Keys%w", owner, err)
	}
	switch len(nameKey) {
	case 0:
		return k, hashed(k.Label, key), nil
	case seal.KeyLen:
		name, err = k.Hidden(nameKey, key)
		return k, name, err
	}
	return k, "", fmt.Errorf("authtrip: %s.NameKey has %d bytes, want %d or none", owner, len(nameKey), seal.KeyLen)
}
