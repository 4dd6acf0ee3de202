package main

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
	"example.com/authtrip/redisstore"
)

// storage is where sessions, tokens and user info are: in Redis, where they
// outlive this process and are shared with others, or in memory. All of it is
// sealed, so that whoever reads the database does not have the tokens.
type storage struct {
	cache  authtrip.Cache
	tokens authtrip.Store
	close  func() error
}

func openStorage(conf config) (*storage, error) {
	// The names of users' records are hashed with a secret of their own: a user's
	// name can be guessed.
	names, err := hkdf.Key(sha256.New, conf.key, nil, "weblogin names", 32)
	if err != nil {
		return nil, err
	}
	keys := [][]byte{conf.key}
	seal := func(c authtrip.Cache, s authtrip.Store, closeIt func() error) *storage {
		return &storage{
			cache:  &authtrip.SealedCache{Cache: c, Keys: keys, NameKey: names},
			tokens: &authtrip.Sealed{Store: s, Keys: keys, NameKey: names},
			close:  closeIt,
		}
	}
	if conf.redisURL == "" {
		// A MemoryStore keeps the tokens of users who never come back: it is for a
		// process that does not run for weeks.
		cache := new(authtrip.MemoryCache)
		return seal(cache, new(authtrip.MemoryStore), cache.Close), nil
	}
	opts, err := redis.ParseURL(conf.redisURL)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL cannot be used: want redis://user:password@host:port/db") // err may have the password
	}
	client := redis.NewClient(opts)
	const prefix = "weblogin:"
	return seal(
		&redisstore.Cache{Client: client, Prefix: prefix},
		// The session ends before the token is dropped.
		&redisstore.Store{Client: client, Prefix: prefix, TTL: 2 * sessionLifetime},
		client.Close,
	), nil
}
