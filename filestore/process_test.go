package filestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/filestore"
	"example.com/authtrip/internal/chaos"
)

// This file has the tests in which several processes of the operating system
// share a directory. They are this test binary, started again with what to do in
// its environment.

const (
	envTask = "FILESTORE_TEST_TASK"
	envDir  = "FILESTORE_TEST_DIR"
	envTTL  = "FILESTORE_TEST_TTL"
)

const (
	processes = 8
	rounds    = 25 // of each process
)

func TestMain(m *testing.M) {
	chaos.Child(sources, authtrip.ErrReauthRequired)
	if task := os.Getenv(envTask); task != "" {
		os.Exit(run(task))
	}
	os.Exit(m.Run())
}

// run does what a process was started for.
func run(task string) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tasks()[task](ctx, &filestore.Store{Dir: os.Getenv(envDir)}); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func tasks() map[string]func(context.Context, *filestore.Store) error {
	return map[string]func(context.Context, *filestore.Store) error{
		"increment": func(ctx context.Context, s *filestore.Store) error {
			for range rounds {
				if _, err := increment(ctx, s); err != nil {
					return err
				}
			}
			return nil
		},
		"write": func(ctx context.Context, s *filestore.Store) error {
			for {
				n, err := increment(ctx, s)
				if err != nil {
					return err
				}
				fmt.Println(n)
			}
		},
		"exclude": exclude,
		"hold": func(ctx context.Context, s *filestore.Store) error {
			ttl, err := time.ParseDuration(os.Getenv(envTTL))
			if err != nil {
				return err
			}
			if _, err := s.Lease(ctx, "key", ttl); err != nil {
				return err
			}
			fmt.Println("held")
			<-ctx.Done()
			return nil
		},
	}
}

// increment adds one to the record, however often it takes.
func increment(ctx context.Context, s *filestore.Store) (int, error) {
	for {
		value, version, err := s.Load(ctx, "key")
		if err != nil && !errors.Is(err, authtrip.ErrNotFound) {
			return 0, err
		}
		n, _ := strconv.Atoi(string(value))
		_, err = s.Save(ctx, "key", []byte(strconv.Itoa(n+1)), version)
		if !errors.Is(err, authtrip.ErrConflict) {
			return n + 1, err
		}
	}
}

// exclude takes the lease again and again, and fails if it is not alone.
func exclude(ctx context.Context, s *filestore.Store) error {
	alone := filepath.Join(s.Dir, "alone")
	for range rounds {
		release, err := s.Lease(ctx, "key", time.Minute)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(alone, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("two processes hold the lease: %w", err)
		}
		_ = f.Close()
		if err := os.Remove(alone); err != nil {
			return err
		}
		if err := release(ctx); err != nil {
			return err
		}
	}
	return nil
}

func start(t *testing.T, s *filestore.Store, task string, env ...string) *chaos.Process {
	t.Helper()
	return chaos.Start(t, append(env, envTask+"="+task, envDir+"="+s.Dir)...)
}

// crowd starts processes for one task, and returns when all have succeeded.
func crowd(t *testing.T, s *filestore.Store, task string) {
	t.Helper()
	chaos.Crowd(t, processes, envTask+"="+task, envDir+"="+s.Dir)
}

func TestProcessesLoseNoUpdate(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	crowd(t, s, "increment")
	if value, _ := load(t, s, "key"); value != strconv.Itoa(processes*rounds) {
		t.Errorf("after %d updates the record is %s", processes*rounds, value)
	}
}

func TestLeaseExcludesProcesses(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	save(t, s, "another key", "value", "")
	crowd(t, s, "exclude")
}

// TestKilledWriterLosesNothing: a record that was saved is there, and whole,
// whenever the process that goes on to save others is killed.
func TestKilledWriterLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for range 20 {
		p := start(t, s, "write")
		saved := p.Line(t)
		for range rand.N(8) {
			saved = p.Line(t)
		}
		p.Kill()
		value, version := load(t, s, "key")
		if got, want := number(t, value), number(t, saved); got < want {
			t.Fatalf("record = %d, want at least %d, which was saved", got, want)
		}
		save(t, s, "key", value, version)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLeaseOfKilledProcessEndsAtOnce, and not after its hour.
func TestLeaseOfKilledProcessEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := start(t, s, "hold", envTTL+"=1h")
	p.Line(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Lease(ctx, "key", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Lease while another process holds it: %v, want that it waits", err)
	}
	p.Kill()
	_ = lease(t, s, "key", time.Minute)(t.Context())
}
