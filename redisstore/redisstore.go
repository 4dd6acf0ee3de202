// Package redisstore keeps the records of [authtrip], its leases and its caches in Redis or
// Valkey, so that many processes on many hosts share their sessions.
//
//	client := redis.NewClient(&redis.Options{Addr: "redis.internal:6379"})
//	source := &authtrip.Source{
//		Store: &redisstore.Store{Client: client},
//		Key:   sessionID,
//		...
//	}
//
// It needs Redis 6 or Valkey, and works on a single node, with Sentinel and on a
// Cluster. Each operation is one script, so one round trip, of which none runs
// in part. The first use of a script on a server takes a second one.
//
// # What is where
//
// A key of Redis is Prefix, the hash of the key in braces, which on a Cluster
// keep what belongs to one key in one slot, and one of these:
//
//	:record  a string: the version, 26 letters and digits, and the value;
//	         expires with Store.TTL or the ttl of SaveFor, if there is one
//	:lease   a string: the owner, a random name; expires with the lease's ttl
//	:cache   a string: the value; expires with its ttl
//
// A key cannot be read from its hash, but anybody who can guess it can check the guess.
// Values are readable for anybody who can read the database. [authtrip.Sealed] and
// [authtrip.SealedCache] encrypt those of a Store and a Cache, with secrets that Redis never
// sees.
//
// # What can be lost
//
// Redis answers before a write is on a disk or on a replica. A failover, or a
// crash, may lose the last writes: with appendfsync everysec those of one
// second. A record is then missing, or an older one is loaded. Versions are
// random, so none comes back with other content. A server that evicts may drop
// records at any time: set maxmemory-policy to noeviction. A volatile policy
// spares records without a TTL, but drops leases.
//
// An operation whose answer is lost is repeated by the client as its options
// say. That does no harm: a script that meets its own work succeeds. If no
// attempt is answered, the operation returns an error and its outcome is
// unknown.
package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
)

// A Store is an [authtrip.Store] on Redis. It is also an [authtrip.Leaser],
// [authtrip.Expirer], [authtrip.Watcher] and [authtrip.KeysWatcher]. Its Client must be set.
// It is safe for concurrent use, must not be modified after first use, and must not be
// copied. It does not close Client.
//
// A call that is waiting for the server returns when its ctx ends, whatever the
// options of Client; a goroutine then waits on, as long as the ReadTimeout of
// Client says. If the server cannot be reached, a call fails after as many
// attempts as Client makes. Nothing needs to be done when the server is back.
//
// Records are loaded from the node that takes writes, even if Client sends
// reading commands to replicas or answers them from memory.
type Store struct {
	// Client is the connection to Redis; required. It may be shared.
	Client redis.UniversalClient

	// Prefix begins each key and channel. If "", it is "authtrip:".
	Prefix string

	// TTL is how long a record is kept after Save has saved it: longer than a
	// user may stay away without having to log in again. If 0 or less, records
	// are kept until they are deleted. SaveFor has a ttl of its own.
	TTL time.Duration

	hub hub // of Watch and WatchKeys
}

// versionLen is the length of a version: that of [rand.Text].
const versionLen = 26

// Scripts return 1 for what was done and 0 for a conflict. A version that is ""
// stands for no record. That the record has the new version already means that
// an earlier attempt of the same call was done, and its answer lost.
var (
	loadScript = redis.NewScript(`return redis.call('GET', KEYS[1])`)

	// KEYS: record; ARGV: version, new version, value, ttl or 0, channel, message
	saveScript = redis.NewScript(`
local there = redis.call('GETRANGE', KEYS[1], 0, 25)
if there == ARGV[2] then return 1 end
if there ~= ARGV[1] then return 0 end
if ARGV[4] == '0' then
	redis.call('SET', KEYS[1], ARGV[2] .. ARGV[3])
else
	redis.call('SET', KEYS[1], ARGV[2] .. ARGV[3], 'PX', ARGV[4])
end
redis.pcall('PUBLISH', ARGV[5], ARGV[6])
return 1`)

	// KEYS: record; ARGV: version, channel, message
	deleteScript = redis.NewScript(`
local there = redis.call('GETRANGE', KEYS[1], 0, 25)
if there == '' then return -1 end
if there ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return 1`)
)

// Load implements [authtrip.Store]. It takes one round trip.
func (s *Store) Load(ctx context.Context, key string) ([]byte, string, error) {
	res, err := s.conn().run(ctx, "Load", loadScript, s.key(key, "record"))
	if err != nil {
		return nil, "", err
	}
	content, _ := res.(string)
	if len(content) < versionLen {
		return nil, "", fmt.Errorf("redisstore: Load: %s holds something that is no record", s.key(key, "record"))
	}
	return []byte(content[versionLen:]), content[:versionLen], nil
}

// Save implements [authtrip.Store]. It takes one round trip.
func (s *Store) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	return s.save(ctx, "Save", key, value, version, s.TTL)
}

// SaveFor implements [authtrip.Expirer]. It takes one round trip. The server
// drops the record, by its own clock.
func (s *Store) SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	if ttl <= 0 {
		return "", fmt.Errorf("redisstore: Store.SaveFor: ttl is %v, want more than 0", ttl)
	}
	return s.save(ctx, "SaveFor", key, value, version, ttl)
}

// save saves a record for ttl, or for good if that is 0 or less.
func (s *Store) save(ctx context.Context, op, key string, value []byte, version string, ttl time.Duration) (string, error) {
	next := rand.Text()
	res, err := s.conn().run(ctx, op, saveScript, s.key(key, "record"),
		version, next, string(value), milliseconds(ttl), s.channel(), hashed(key))
	if err != nil {
		return "", err
	}
	if res != int64(1) {
		return "", authtrip.ErrConflict
	}
	return next, nil
}

// Delete implements [authtrip.Store]. It takes one round trip. If the answer to
// its first attempt was lost, it may return ErrNotFound for the record that it
// has deleted itself.
func (s *Store) Delete(ctx context.Context, key, version string) error {
	res, err := s.conn().run(ctx, "Delete", deleteScript, s.key(key, "record"), version, s.channel(), hashed(key))
	switch {
	case err != nil:
		return err
	case res == int64(-1):
		return authtrip.ErrNotFound
	case res == int64(0):
		return authtrip.ErrConflict
	}
	return nil
}

func (s *Store) conn() conn { return conn{s.Client, "Store"} }

func (s *Store) key(key, kind string) string { return keyOf(s.Prefix, key, kind) }

func keyOf(prefix, key, kind string) string {
	return orDefault(prefix) + "{" + hashed(key) + "}:" + kind
}

func orDefault(prefix string) string {
	if prefix == "" {
		return "authtrip:"
	}
	return prefix
}

// hashed returns a name for key that says nothing about it.
func hashed(key string) string {
	sum := sha256.Sum256([]byte("authtrip redis\x00" + key))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// milliseconds returns a ttl as Redis counts it, rounded up: 0 is for none.
func milliseconds(ttl time.Duration) int64 {
	if ttl <= 0 {
		return 0
	}
	return int64((ttl-1)/time.Millisecond) + 1
}

// conn is a client, in the field Client of a type.
type conn struct {
	redis.UniversalClient
	owner string
}

// run runs a script on one key. If it returns nothing, that is ErrNotFound.
//
// The client looks at ctx only between attempts. The caller is therefore let go
// when ctx ends, and a goroutine is left to wait for the server, for as long as
// the timeouts of the client say.
func (c conn) run(ctx context.Context, op string, script *redis.Script, key string, args ...any) (any, error) {
	if c.UniversalClient == nil {
		return nil, fmt.Errorf("redisstore: %s.Client is nil", c.owner)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	type result struct {
		value any
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := script.Run(ctx, c.UniversalClient, []string{key}, args...).Result()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, c.failed(ctx, op, r.err)
	case <-ctx.Done():
		return nil, c.failed(ctx, op, ctx.Err())
	}
}

func (c conn) failed(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return authtrip.ErrNotFound
	case ctx.Err() != nil:
		return fmt.Errorf("redisstore: %s: %w", op, context.Cause(ctx))
	}
	return fmt.Errorf("redisstore: %s: %w", op, err)
}
