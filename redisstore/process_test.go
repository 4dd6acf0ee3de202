package redisstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
	"example.com/authtrip/internal/chaos"
	"example.com/authtrip/redisstore"
)

// This file has the tests in which several processes of the operating system
// share a server. They are this test binary, started again with what to do in
// its environment.

const (
	envTask   = "REDISSTORE_TEST_TASK"
	envAddr   = "REDISSTORE_TEST_ADDR"
	envPrefix = "REDISSTORE_TEST_PREFIX"
)

const (
	processes = 8
	rounds    = 25 // of each process
)

func runTask(task string) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := (&server{addr: os.Getenv(envAddr)}).client(redis.Options{})
	defer func() { _ = client.Close() }()
	s := &redisstore.Store{Client: client, Prefix: os.Getenv(envPrefix)}
	if err := tasks()[task](ctx, s); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func tasks() map[string]func(context.Context, *redisstore.Store) error {
	return map[string]func(context.Context, *redisstore.Store) error{
		"increment": incrementAll,
		"exclude":   exclude,
		"hold":      hold,
	}
}

func incrementAll(ctx context.Context, s *redisstore.Store) error {
	for range rounds {
		if err := increment(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// increment adds one to the record, however often it takes.
func increment(ctx context.Context, s *redisstore.Store) error {
	for {
		value, version, err := s.Load(ctx, "key")
		if err != nil && !errors.Is(err, authtrip.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(value))
		_, err = s.Save(ctx, "key", []byte(strconv.Itoa(n+1)), version)
		if !errors.Is(err, authtrip.ErrConflict) {
			return err
		}
	}
}

// exclude takes the lease again and again, and fails if it is not alone.
func exclude(ctx context.Context, s *redisstore.Store) error {
	alone := s.Prefix + "alone"
	for range rounds {
		release, err := s.Lease(ctx, "key", time.Minute)
		if err != nil {
			return err
		}
		if n := s.Client.Incr(ctx, alone).Val(); n != 1 {
			return fmt.Errorf("%d processes hold the lease", n)
		}
		if err := errors.Join(s.Client.Decr(ctx, alone).Err(), release(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func hold(ctx context.Context, s *redisstore.Store) error {
	if _, err := s.Lease(ctx, "key", time.Second); err != nil {
		return err
	}
	fmt.Println("held")
	<-ctx.Done()
	return nil
}

func environment(prefix, task string) []string {
	return []string{envTask + "=" + task, envAddr + "=" + shared.addr, envPrefix + "=" + prefix}
}

// crowd starts processes for one task, and returns when all have succeeded.
func crowd(t *testing.T, prefix, task string) {
	t.Helper()
	chaos.Crowd(t, processes, environment(prefix, task)...)
}

func TestProcessesLoseNoUpdate(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	crowd(t, s.Prefix, "increment")
	if value, _ := load(t, s); value != strconv.Itoa(processes*rounds) {
		t.Errorf("after %d updates the record is %s", processes*rounds, value)
	}
}

func TestLeaseExcludesProcesses(t *testing.T) {
	t.Parallel()
	crowd(t, rand.Text(), "exclude")
}

// TestLeaseOfKilledProcessEnds with its ttl, of one second, and not before.
func TestLeaseOfKilledProcessEnds(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := chaos.Start(t, environment(s.Prefix, "hold")...)
	p.Line(t)
	p.Kill()
	wantHeld(t, s)
	crowd(t, s.Prefix, "exclude")
}
