package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Run is a server, a Store, and processes that share some sessions.
type Run struct {
	Server   Server
	Task     Task // of the processes, without Server, Process and Sessions
	Open     Open
	Over     error
	Load     func(ctx context.Context, key string) ([]byte, string, error) // of the Store
	Sessions int

	ledger *ledger
	url    string
	door   *door
	http   *http.Server

	mu        sync.Mutex // guards what follows
	processes int
	kills     int
	most      int      // kills
	well      []string // sessions that were refreshed lately
	hurt      []string // sessions whose processes were killed
	failures  []string
}

// How many sessions a process has: replicas that are killed soon, and those that live
// long enough to take over what the others have left behind.
const (
	few  = 4
	many = 100
)

// Begin starts the server, and logs all users in.
func (r *Run) Begin(tb testing.TB) {
	tb.Helper()
	r.ledger = newLedger(r.Server)
	r.ledger.grace = r.Task.GracePeriod
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		tb.Fatal(err)
	}
	r.url = "http://" + l.Addr().String()
	r.door = &door{TCPListener: l.(*net.TCPListener)}
	r.http = &http.Server{Handler: r.ledger, ReadHeaderTimeout: time.Minute}
	go func() { _ = r.http.Serve(r.door) }()
	tb.Cleanup(func() { _ = r.http.Close() })
	source := r.Open(r.task(nil, 0))
	for i := range r.Sessions {
		name := sessionName(i)
		r.well = append(r.well, name)
		if err := source(name).SetToken(tb.Context(), r.ledger.login(name)); err != nil {
			tb.Fatal(err)
		}
	}
}

func (r *Run) task(sessions []string, process int) Task {
	task := r.Task
	task.Server, task.Process, task.Sessions = r.url, process, sessions
	return task
}

// start starts a process, and returns when it has begun; nil if it could not.
func (r *Run) start(sessions []string, atOnce int, pause time.Duration) *child {
	r.mu.Lock()
	r.processes++
	task := r.task(sessions, r.processes)
	r.mu.Unlock()
	task.AtOnce, task.Pause = atOnce, pause
	text, _ := json.Marshal(task) // strings and numbers: cannot fail
	p, err := start(taskEnv + "=" + string(text))
	if err != nil {
		r.fail("process %d: %v", task.Process, err)
		return nil
	}
	c := &child{Process: p, number: task.Process, sessions: sessions, ended: make(chan struct{})}
	if line, _ := p.line(); line != "ready" {
		r.fail("process %d printed %q", task.Process, line)
	}
	go func() {
		defer close(c.ended)
		for {
			line, ok := p.line()
			if !ok {
				return
			}
			r.heard(c, line)
		}
	}()
	return c
}

// A child is a process of a Run.
type child struct {
	*Process
	number   int
	sessions []string
	ended    chan struct{}   // closed when all that it has printed is read
	hurt     map[string]bool // sessions that it has to refresh; the Run's mu guards it
	said     string          // about the last failure
}

// watch notes which sessions c refreshes from now on.
func (r *Run) watch(c *child) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.hurt = make(map[string]bool, len(c.sessions))
	for _, session := range c.sessions {
		c.hurt[session] = true
	}
}

func (r *Run) heard(c *child, line string) {
	what, rest, _ := strings.Cut(line, " ")
	session, text, _ := strings.Cut(rest, " ")
	switch what {
	case "done":
		r.mu.Lock()
		defer r.mu.Unlock()
		if c.hurt[session] {
			delete(c.hurt, session)
			r.well = append(r.well, session)
		}
	case "over":
		r.ledger.mu.Lock()
		n := r.ledger.ended[session]
		r.ledger.mu.Unlock()
		if n == 0 {
			r.fail("%s is over for process %d, and the server has never rejected it", session, c.number)
		}
	case "failed":
		r.mu.Lock()
		c.said = session + " " + text
		r.mu.Unlock()
	}
}

func (r *Run) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// kill ends a process, and notes what it has left in the Store.
func (r *Run) kill(c *child) {
	before := time.Now()
	c.Kill()
	r.ledger.died(c.number, death{before, time.Now()})
	<-c.ended
	for _, session := range c.sessions {
		r.note(session)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kills++
	for session := range c.hurt {
		r.hurt = append(r.hurt, session)
	}
}

// note tells the ledger which refresh token is in the Store.
func (r *Run) note(session string) {
	doc, _, err := r.Load(context.Background(), session)
	var rec struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err == nil && json.Unmarshal(doc, &rec) == nil {
		r.ledger.isSaved(rec.RefreshToken)
	}
}

// take takes up to n sessions out of a pool.
func (r *Run) take(pool *[]string, n int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := *pool
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	n = min(n, len(all))
	*pool = all[n:]
	return all[:n:n]
}

func (r *Run) enough() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kills >= r.most
}

// Kill kills as many processes at random moments: pairs of replicas after at most a
// fifth of a second, and processes that take over after some seconds.
func (r *Run) Kill(kills, pairs, heirs int) {
	r.most = kills
	var wg sync.WaitGroup
	for range pairs {
		wg.Go(func() {
			for !r.enough() {
				r.pair()
			}
		})
	}
	for range heirs {
		wg.Go(func() {
			for !r.enough() {
				r.heir()
			}
		})
	}
	wg.Wait()
}

// pair lets two processes share some sessions, and kills each at a moment of its own.
func (r *Run) pair() {
	sessions := r.take(&r.well, few)
	if len(sessions) == 0 {
		<-time.After(50 * time.Millisecond)
		return
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if c := r.start(sessions, 2, 0); c != nil {
				<-time.After(rand.N(200 * time.Millisecond))
				r.kill(c)
			}
		})
	}
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, session := range sessions {
		if rand.N(2) == 0 { // the next ones are as short-lived
			r.well = append(r.well, session)
		} else {
			r.hurt = append(r.hurt, session)
		}
	}
}

// heir takes over what killed processes have left behind.
func (r *Run) heir() {
	sessions := r.take(&r.hurt, many)
	if len(sessions) == 0 {
		<-time.After(50 * time.Millisecond)
		return
	}
	c := r.start(sessions, len(sessions), 5*time.Second)
	if c == nil {
		return
	}
	r.watch(c)
	end := time.After(5500*time.Millisecond + rand.N(2*time.Second))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !r.enough() {
		select {
		case <-tick.C:
			continue
		case <-end:
		}
		break
	}
	r.kill(c)
}

func sessionName(i int) string { return fmt.Sprintf("session-%d", i) }
