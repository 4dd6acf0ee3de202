package redisstore

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	// KEYS: lease; ARGV: owner, ttl. Returns -1 for a lease that was taken, and
	// for another one's how many milliseconds are left of it.
	leaseScript = redis.NewScript(`
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return -1 end
if redis.call('GET', KEYS[1]) == ARGV[1] then
	redis.call('PEXPIRE', KEYS[1], ARGV[2])
	return -1
end
return math.max(redis.call('PTTL', KEYS[1]), 0)`)

	// KEYS: lease; ARGV: owner
	releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)
)

// pollMin and pollMax are between which times a lease that somebody else holds is
// asked for again. It is polled: a wait that the server ends needs a connection
// for each waiter, and one that is lost with a message polls all the same.
const (
	pollMin = 10 * time.Millisecond
	pollMax = 200 * time.Millisecond
)

// Lease implements [authtrip.Leaser]. A lease that is free takes one round trip,
// and its release another one. While somebody else holds it, the server is asked
// again, at first after some ten milliseconds and then up to five times a second.
// The lease of a process that has died ends when the rest of ttl is over.
func (s *Store) Lease(ctx context.Context, key string, ttl time.Duration) (release func(context.Context) error, err error) {
	at, owner := s.key(key, "lease"), rand.Text()
	ttl = max(ttl, time.Millisecond)
	for wait := pollMin; ; wait = min(2*wait, pollMax) {
		res, err := s.conn().run(ctx, "Lease", leaseScript, at, owner, milliseconds(ttl))
		if err != nil {
			s.abandon(ctx, at, owner)
			return nil, err
		}
		left, _ := res.(int64)
		if left < 0 {
			break
		}
		// Between half of the wait and all of it, so that those who wait for
		// one lease do not keep meeting; but not past its end by much.
		next := min(wait/2+mathrand.N(wait/2), time.Duration(left+1)*time.Millisecond)
		if !pause(ctx, next) {
			return nil, context.Cause(ctx)
		}
	}
	return func(ctx context.Context) error {
		_, err := s.conn().run(ctx, "release", releaseScript, at, owner)
		return err
	}, nil
}

// abandon gives back a lease that may have been taken without an answer, so that
// others need not wait for its end. It does not wait for the server.
func (s *Store) abandon(ctx context.Context, at, owner string) {
	if s.Client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	go func() {
		defer cancel()
		_ = releaseScript.Run(ctx, s.Client, []string{at}, owner).Err()
	}()
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
