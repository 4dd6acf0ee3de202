package redisstore_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/redisstore"
)

const slots = 16384

// startCluster starts a cluster of three nodes and returns a client of it.
func startCluster(t *testing.T) *redis.ClusterClient {
	t.Helper()
	var nodes []*server
	for i := range 3 {
		n := startNode(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
		c := n.connect(t, redis.Options{})
		if err := c.ClusterAddSlotsRange(t.Context(), i*slots/3, (i+1)*slots/3-1).Err(); err != nil {
			t.Fatal(err)
		}
		for _, other := range nodes {
			host, port, _ := strings.Cut(other.addr, ":")
			if err := c.ClusterMeet(t.Context(), host, port).Err(); err != nil {
				t.Fatal(err)
			}
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		c := n.connect(t, redis.Options{})
		err := until(func() error {
			info, err := c.ClusterInfo(t.Context()).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3")) {
				err = fmt.Errorf("cluster is not ready: %q", info)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].addr}, ReadOnly: true})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// startNode starts a server that others can reach, with some more arguments.
func startNode(t *testing.T, args ...string) *server {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{dir: t.TempDir(), addr: "127.0.0.1:" + strconv.Itoa(port), args: append(args, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "")}
	t.Cleanup(s.kill)
	s.mustRun(t)
	return s
}

// TestCluster runs what there is on a cluster whose client prefers to read from
// replicas.
func TestCluster(t *testing.T) {
	t.Parallel()
	client := startCluster(t)
	stores := 0
	newStore := func() *redisstore.Store {
		stores++
		return &redisstore.Store{Client: client, Prefix: fmt.Sprintf("test-%d:", stores)}
	}
	clustered := func(*testing.T) authtrip.Store { return newStore() }
	authtriptest.TestStore(t, clustered)
	authtriptest.TestLeaser(t, clustered)
	authtriptest.TestWatcher(t, clustered)
	s := newStore()
	_ = lease(t, s, "key", time.Hour)
	wantHeld(t, s)
	c := &redisstore.Cache{Client: client, Prefix: s.Prefix}
	for i := range 20 { // in all of the nodes
		key := strconv.Itoa(i)
		changed, end := watch(t, s, key)
		save(t, s, key, "value", "")
		wantTold(t, changed, "a change")
		end()
		if err := c.Set(t.Context(), key, []byte("value"), time.Minute); err != nil {
			t.Error(err)
		}
		if value, err := c.Take(t.Context(), key); err != nil || string(value) != "value" {
			t.Errorf("Take = %q, %v, want value", value, err)
		}
		if _, err := c.Get(t.Context(), key); !errors.Is(err, authtrip.ErrNotFound) {
			t.Errorf("Get after Take: %v, want ErrNotFound", err)
		}
	}
}
