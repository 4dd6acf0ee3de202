//go:build unix

package redisstore_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip/redisstore"
)

// TestStalledServerHonoursContext: it takes connections and answers nothing.
func TestStalledServerHonoursContext(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	s := &redisstore.Store{Client: srv.connect(t, redis.Options{})}
	version := save(t, s, "key", "value", "")
	if err := srv.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for name, call := range map[string]func(context.Context) error{
		"Load": func(ctx context.Context) error { _, _, err := s.Load(ctx, "key"); return err },
		"Save": func(ctx context.Context) error { _, err := s.Save(ctx, "key", nil, version+"x"); return err },
		"SaveFor": func(ctx context.Context) error {
			_, err := s.SaveFor(ctx, "key", nil, version+"x", time.Hour)
			return err
		},
		"Lease": func(ctx context.Context) error { _, err := s.Lease(ctx, "key", time.Hour); return err },
		"Watch": func(ctx context.Context) error { _, err := s.Watch(ctx, "key"); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want context.DeadlineExceeded", name, err)
		}
		cancel()
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("calls of 50ms took %v", took)
	}
	if err := srv.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if value, at := load(t, s); value != "value" || at != version {
		t.Errorf("Load = %q, %q, want value, %q", value, at, version)
	}
	// The lease that was asked for in vain is not held for its hour.
	_ = lease(t, s, "key", time.Minute)(t.Context())
}
