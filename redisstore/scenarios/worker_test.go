package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/redisstore"
)

// A job is what a worker process does.
type job struct {
	Socket      string // of redis-server
	User        string
	Config      oauth2.Config
	Initial     oauth2.Token
	Goroutines  int
	For         time.Duration // keep asking; 0: once
	Timeout     time.Duration // RefreshTimeout
	GracePeriod time.Duration
	KillAt      int // the step at which the process kills itself; 0: none
}

// A report is what came of it.
type report struct {
	OK, Reauth, Other int
	Last              string // the outcome of the last call: ok, reauth or other
	Error             string // of the last call
	Tokens            int    // different ones that were handed out
}

const workerEnv = "AUTHTRIP_SCENARIO_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		work()
		return
	}
	os.Exit(m.Run())
}

// work is the worker process: its job comes first on standard input, and it starts
// when that ends.
func work() {
	var j job
	dec := json.NewDecoder(os.Stdin)
	if err := dec.Decode(&j); err != nil {
		panic(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	redis.SetLogger(quiet{})
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: j.Socket, MaxRetries: 1, DialTimeout: time.Second, ReadTimeout: time.Second})
	k := &killer{at: j.KillAt, store: &redisstore.Store{Client: client}, refresher: authtrip.RefreshToken(&j.Config)}
	src := &authtrip.Source{
		Refresher: k, Store: k, Key: j.User, Initial: &j.Initial,
		RefreshTimeout: j.Timeout, GracePeriod: j.GracePeriod,
	}
	var r report
	var mu sync.Mutex
	tokens := make(map[string]bool)
	end := time.Now().Add(j.For)
	var wg sync.WaitGroup
	for range j.Goroutines {
		wg.Go(func() {
			for first := true; first || time.Now().Before(end); first = false {
				tok, err := src.TokenContext(context.Background())
				mu.Lock()
				switch {
				case err == nil:
					r.OK++
					r.Last, r.Error = "ok", ""
					tokens[tok.AccessToken] = true
				case errors.Is(err, authtrip.ErrReauthRequired):
					r.Reauth++
					r.Last, r.Error = "reauth", err.Error()
				default:
					r.Other++
					r.Last, r.Error = "other", err.Error()
				}
				mu.Unlock()
				if j.For > 0 {
					<-time.After(50 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	r.Tokens = len(tokens)
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

// quiet is for a server that is away on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// killer ends the process with SIGKILL at one step of the protocol: before and
// after each thing that can be seen from outside.
type killer struct {
	at        int
	step      atomic.Int64 // a request may outlive its round
	store     *redisstore.Store
	refresher authtrip.Refresher
}

// steps is how many there are in a refresh: before and after the look, the
// lease, the read, the mark, the request, the save and the release.
const steps = 14

func (k *killer) here() {
	if int(k.step.Add(1)) == k.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (k *killer) Load(ctx context.Context, key string) ([]byte, string, error) {
	k.here()
	defer k.here()
	return k.store.Load(ctx, key)
}

func (k *killer) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	k.here()
	defer k.here()
	return k.store.Save(ctx, key, value, version)
}

func (k *killer) Delete(ctx context.Context, key, version string) error {
	k.here()
	defer k.here()
	return k.store.Delete(ctx, key, version)
}

func (k *killer) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	k.here()
	release, err := k.store.Lease(ctx, key, ttl)
	k.here()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		k.here()
		defer k.here()
		return release(ctx)
	}, nil
}

func (k *killer) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	k.here()
	defer k.here()
	return k.refresher.Refresh(ctx, old)
}

// A worker is a process that has its job and waits to be let go.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
}

func start(t *testing.T, j job) *worker {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(in).Encode(j); err != nil {
		t.Fatal(err)
	}
	return &worker{cmd, in, out}
}

func (w *worker) letGo() { _ = w.in.Close() }

// result waits for the process; killed is set where it did not live to report.
func (w *worker) result(t *testing.T) (r report, killed bool) {
	t.Helper()
	out, _ := io.ReadAll(w.out)
	err := w.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, _ := exit.Sys().(syscall.WaitStatus)
		return r, status.Signal() == syscall.SIGKILL
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Errorf("worker reported %q: %v", out, err)
	}
	return r, false
}

// redisServer is a redis-server of this test's own, on a socket.
type redisServer struct {
	dir, socket string
	cmd         *exec.Cmd
}

// newRedis starts one. Where there is no redis-server the test is left out, unless
// this is CI, where it fails.
func newRedis(t *testing.T) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Log("left out: redis-server is not installed")
		return nil
	}
	dir, err := os.MkdirTemp("", "scenario") // short: the path of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	s := &redisServer{dir: dir, socket: dir + "/s"}
	t.Cleanup(func() {
		s.stop()
		_ = os.RemoveAll(dir)
	})
	s.start(t)
	return s
}

func (s *redisServer) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), "redis-server",
		"--port", "0", "--unixsocket", s.socket, "--dir", s.dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket})
	defer func() { _ = client.Close() }()
	for deadline := time.Now().Add(20 * time.Second); client.Ping(t.Context()).Err() != nil; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("redis-server does not answer")
		}
	}
}

// stop is a crash: what it has not written is gone.
func (s *redisServer) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// empty removes its data.
func (s *redisServer) empty(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(s.dir + "/appendonlydir"); err != nil {
		t.Fatal(err)
	}
}

func (r report) String() string {
	return fmt.Sprintf("%d ok, %d to log in again, %d other; last: %s %s", r.OK, r.Reauth, r.Other, r.Last, r.Error)
}
