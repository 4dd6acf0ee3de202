package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
	"example.com/authtrip/redisstore"
)

// startSentinel starts a sentinel that watches a master, and returns its address.
func startSentinel(t *testing.T, master *server) string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	host, port, _ := strings.Cut(master.addr, ":")
	text := fmt.Sprintf("sentinel monitor main %s %s 1\n", host, port) +
		"sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 3000\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startNode(t, conf, "--sentinel")
	return s.addr
}

// TestFailover: the master dies, a sentinel promotes its replica, and the Store
// goes on with it.
func TestFailover(t *testing.T) {
	t.Parallel()
	master := startNode(t)
	replica := startNode(t, "--replicaof", strings.ReplaceAll(master.addr, ":", " "), "--repl-diskless-sync-delay", "0")
	sentinel := startSentinel(t, master)
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{sentinel}, MaxRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	s := &redisstore.Store{Client: client}
	version := save(t, s, "key", "value", "")
	changed, _ := watch(t, s, "key")

	// The replica has it all, and the sentinel knows the replica.
	c := replica.connect(t, redis.Options{})
	known := (&server{addr: sentinel}).connect(t, redis.Options{})
	err := until(func() error {
		n, err := c.DBSize(t.Context()).Result()
		if info := known.Info(t.Context(), "sentinel").Val(); err == nil && (n == 0 || !strings.Contains(info, "slaves=1")) {
			err = fmt.Errorf("replica has %d keys, sentinel says %q", n, info)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	master.kill()
	err = until(func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		next, err := s.Save(ctx, "key", []byte("new"), version)
		if errors.Is(err, authtrip.ErrConflict) {
			// One that was not answered may have been done.
			var value []byte
			if value, next, err = s.Load(ctx, "key"); err == nil && string(value) != "new" {
				err = fmt.Errorf("record = %q, want new", value)
			}
		}
		if err == nil {
			version = next
		}
		return err
	})
	if err != nil {
		t.Fatalf("Save after the failover: %v", err)
	}
	wantTold(t, changed, "the outage, or the change")
	if value, at := load(t, s); value != "new" || at != version {
		t.Errorf("Load = %q, %q, want new, %q", value, at, version)
	}
}
