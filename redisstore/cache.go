package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
)

// A Cache is an [authtrip.Cache] on Redis. Its Client must be set. It is safe for
// concurrent use, and must not be modified after first use. It waits for the
// server, and loads from the node that takes writes, as a [Store] does.
//
// Each operation takes one round trip. A value expires by the clock of the
// server. If the answer to a Take is lost, so is the value.
type Cache struct {
	// Client is the connection to Redis; required. It may be shared.
	Client redis.UniversalClient

	// Prefix begins each key. If "", it is "authtrip:". A Cache and a Store may
	// have the same.
	Prefix string
}

var (
	getScript = redis.NewScript(`return redis.call('GET', KEYS[1])`)

	// KEYS: value; ARGV: value, ttl
	setScript = redis.NewScript(`
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])`)

	takeScript = redis.NewScript(`
local value = redis.call('GET', KEYS[1])
if value then redis.call('DEL', KEYS[1]) end
return value`)
)

// Get implements [authtrip.Cache].
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	return c.get(ctx, "Get", getScript, key)
}

// Take implements [authtrip.Cache].
func (c *Cache) Take(ctx context.Context, key string) ([]byte, error) {
	return c.get(ctx, "Take", takeScript, key)
}

func (c *Cache) get(ctx context.Context, op string, script *redis.Script, key string) ([]byte, error) {
	res, err := conn{c.Client, "Cache"}.run(ctx, op, script, keyOf(c.Prefix, key, "cache"))
	if err != nil {
		return nil, err
	}
	value, ok := res.(string)
	if !ok {
		return nil, authtrip.ErrNotFound
	}
	return []byte(value), nil
}

// Set implements [authtrip.Cache].
func (c *Cache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	_, err := conn{c.Client, "Cache"}.run(ctx, "Set", setScript, keyOf(c.Prefix, key, "cache"),
		string(value), milliseconds(ttl))
	return err
}
