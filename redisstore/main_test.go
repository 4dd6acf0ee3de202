package redisstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/authtrip"
	"example.com/authtrip/internal/chaos"
	"example.com/authtrip/redisstore"
)

// program is the server that the tests start: redis-server or valkey-server. The
// tests start all servers themselves, and touch no other one.
var program string

// shared is the server of the tests that do not stop it.
var shared *server

func TestMain(m *testing.M) {
	chaos.Child(sources, authtrip.ErrReauthRequired)
	if task := os.Getenv(envTask); task != "" {
		os.Exit(runTask(task))
	}
	flag.Parse()
	program = look("redis-server", "valkey-server")
	if program == "" {
		os.Exit(leaveOut(m))
	}
	os.Exit(withShared(m))
}

func look(names ...string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// leaveOut runs nothing, so that go test reports "no tests to run" and not a
// success. In CI that is a failure.
func leaveOut(m *testing.M) int {
	fmt.Fprintln(os.Stderr, "redisstore: neither redis-server nor valkey-server is installed: ALL tests of this package are left out")
	if os.Getenv("CI") == "true" {
		return 1
	}
	if err := errors.Join(flag.Set("test.run", "^$"), flag.Set("test.bench", "")); err != nil {
		return 1
	}
	return m.Run()
}

func withShared(m *testing.M) int {
	var err error
	if shared, err = newServer(); err == nil {
		defer shared.remove()
		err = shared.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// server is a server that a test started.
type server struct {
	dir  string
	addr string // a socket in dir, or host:port
	args []string
	cmd  *exec.Cmd // nil while it does not run
}

// newServer makes a server that listens on a socket and keeps nothing. The name of
// a socket has to be short.
func newServer() (*server, error) {
	dir, err := os.MkdirTemp("", "redisstore")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, addr: filepath.Join(dir, "socket")}
	s.args = []string{"--port", "0", "--unixsocket", s.addr, "--save", "", "--appendonly", "no"}
	return s, nil
}

// remove ends the server and removes its files.
func (s *server) remove() {
	s.kill()
	_ = os.RemoveAll(s.dir)
}

// startServer starts a server that ends with the test, with some more arguments.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s, err := newServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	s.args = append(s.args, args...)
	s.mustRun(t)
	return s
}

func (s *server) mustRun(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// run starts the server, and returns when it answers.
func (s *server) run() error {
	log := filepath.Join(s.dir, "log")
	s.cmd = exec.Command(program, append(slices.Clone(s.args), "--dir", s.dir, "--logfile", log, "--daemonize", "no")...)
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	c := s.client(redis.Options{MaxRetries: -1})
	defer func() { _ = c.Close() }()
	err := until(func() error {
		err := c.Ping(context.Background()).Err()
		if err != nil && strings.HasPrefix(err.Error(), "NOAUTH") {
			return nil
		}
		return err
	})
	if err != nil {
		said, _ := os.ReadFile(log)
		s.kill()
		return fmt.Errorf("%s does not answer: %w\n%s", program, err, said)
	}
	return nil
}

// kill ends the server as kill -9 does.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// client returns a client of the server.
func (s *server) client(o redis.Options) *redis.Client {
	o.Addr = s.addr
	o.Network = "tcp"
	if filepath.IsAbs(s.addr) {
		o.Network = "unix"
	}
	return redis.NewClient(&o)
}

// connect returns a client that is closed with the test.
func (s *server) connect(t testing.TB, o redis.Options) *redis.Client {
	t.Helper()
	c := s.client(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// newStore returns a store on the shared server, which is empty.
func newStore(t testing.TB) *redisstore.Store {
	t.Helper()
	return &redisstore.Store{Client: shared.connect(t, redis.Options{}), Prefix: rand.Text()}
}

// until calls f until it succeeds, at most for ten seconds.
func until(f func() error) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	end := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
		<-ticker.C
	}
}

// freePort returns a port of loopback that is free, and so is the one that a
// node of a cluster takes beside it.
func freePort() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		// Out of the range that the system gives to others in the meantime.
		port = 10000 + port%20000
		free := true
		for _, p := range []int{port, port + 10000} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return port, nil
		}
	}
	return 0, errors.New("no free port")
}
