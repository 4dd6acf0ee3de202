package scenarios_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/authtriptest"
)

// A scene is a strict authorization server: refresh tokens are one-time, and one
// that comes twice ends the login.
type scene struct {
	srv   *authtriptest.Server
	site  *authtriptest.Site
	redis *redisServer
}

func newScene(t *testing.T, srv *authtriptest.Server) *scene {
	t.Helper()
	t.Parallel()
	r := newRedis(t)
	if r == nil {
		return nil
	}
	srv.Rotate = true
	return &scene{srv: srv, site: authtriptest.Start(t, srv), redis: r}
}

// job is for a user whose access token has ended.
func (s *scene) job(user string) job {
	tok := s.srv.Issue(user)
	initial := oauth2.Token{AccessToken: tok.AccessToken, RefreshToken: tok.RefreshToken, Expiry: time.Now().Add(-time.Minute)}
	return job{Socket: s.redis.socket, User: user, Config: *s.srv.Config(s.site.URL), Initial: initial, Goroutines: 1, Timeout: 10 * time.Second}
}

// run starts n processes with one job and lets them go at once.
func (s *scene) run(t *testing.T, n int, j job) []report {
	t.Helper()
	workers := make([]*worker, n)
	for i := range workers {
		workers[i] = start(t, j)
	}
	for _, w := range workers {
		w.letGo()
	}
	reports := make([]report, n)
	for i, w := range workers {
		reports[i], _ = w.result(t)
	}
	return reports
}

func (s *scene) wantStrict(t *testing.T, requests int) {
	t.Helper()
	c := s.srv.Counts()
	if requests >= 0 && c.Token != requests {
		t.Errorf("token requests = %d, want %d", c.Token, requests)
	}
	if c.Overlaps != 0 {
		t.Errorf("a refresh token was in flight twice, %d times", c.Overlaps)
	}
}

// TestScenario1EightProcessesOneRefresh is pain 1 too.
func TestScenario1EightProcessesOneRefresh(t *testing.T) {
	s := newScene(t, new(authtriptest.Server))
	if s == nil {
		return
	}
	j := s.job("alice")
	j.Goroutines = 50
	for _, r := range s.run(t, 8, j) {
		if r.OK != 50 || r.Tokens != 1 {
			t.Errorf("process: %v", r)
		}
	}
	s.wantStrict(t, 1)
	if c := s.srv.Counts(); c.FamiliesRevoked != 0 || c.Reuses != 0 {
		t.Errorf("families revoked %d, reuses %d", c.FamiliesRevoked, c.Reuses)
	}
}

// TestScenario2ServerSlowerThanTheLease: the request ends before the lease does,
// so that nobody sends the token a second time. Pain 4.
func TestScenario2ServerSlowerThanTheLease(t *testing.T) {
	s := newScene(t, new(authtriptest.Server))
	if s == nil {
		return
	}
	s.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Minute})
	j := s.job("alice")
	j.Timeout, j.Goroutines, j.GracePeriod = time.Second, 10, -1
	j.For = 5 * time.Second // the answer may come until then; after it only a login helps
	for _, r := range s.run(t, 4, j) {
		if r.OK != 0 || r.Last != "reauth" {
			t.Errorf("process: %v", r)
		}
	}
	s.wantStrict(t, 1)
}

func TestScenario3AnswerLostAfterCommit(t *testing.T) {
	for _, tt := range []struct {
		name     string
		grace    time.Duration
		window   time.Duration
		ok       bool
		requests int
	}{
		{"with grace", 30 * time.Second, 0, true, 2},
		{"without grace", 0, -1, false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, &authtriptest.Server{ReuseGrace: tt.grace})
			if s == nil {
				return
			}
			s.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Reset: true})
			j := s.job("alice")
			j.GracePeriod, j.Goroutines = tt.window, 20
			for _, r := range s.run(t, 4, j) {
				if tt.ok && r.OK != 20 || !tt.ok && r.Reauth != 20 {
					t.Errorf("process: %v", r)
				}
			}
			s.wantStrict(t, tt.requests)
		})
	}
}

// TestScenario4KilledAtEveryStep: two hundred processes are killed, at each step of
// the protocol in turn. Whoever is started after it is logged in, or says that the
// user has to log in again; and can always read the record.
func TestScenario4KilledAtEveryStep(t *testing.T) {
	s := newScene(t, &authtriptest.Server{ReuseGrace: time.Minute})
	if s == nil {
		return
	}
	const times, atOnce = 200, 40
	var mu sync.Mutex
	outcomes := make(map[string]int)
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range times {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			j := s.job(fmt.Sprint("user", i))
			j.Timeout = time.Second // the lease of the dead is waited for
			j.KillAt = i%steps + 1
			first := start(t, j)
			first.letGo()
			_, killed := first.result(t)
			j.KillAt = 0
			again := start(t, j)
			again.letGo()
			r, _ := again.result(t)
			if r.Last != "ok" && r.Last != "reauth" {
				t.Errorf("killed at step %d, then: %v", i%steps+1, r)
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes[r.Last]++
			if killed {
				outcomes["killed"]++
			}
		})
	}
	wg.Wait()
	t.Log(outcomes)
	if outcomes["killed"] != times {
		t.Errorf("killed = %d of %d: the steps are not what they were", outcomes["killed"], times)
	}
	if outcomes["ok"] < times*9/10 {
		t.Errorf("logged in after it = %d of %d, with a server that forgives a replay", outcomes["ok"], times)
	}
	s.wantStrict(t, -1)
}

// TestScenario9RedisIsAwayForTenSeconds: valid tokens are served, no one-time token
// is sent without the lease, and all is well again without a restart. Pain 16.
func TestScenario9RedisIsAwayForTenSeconds(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		t.Run(fmt.Sprintf("keeps its data %v", keeps), func(t *testing.T) {
			s := newScene(t, &authtriptest.Server{Lifetime: 4 * time.Second})
			if s == nil {
				return
			}
			j := s.job("alice")
			j.Goroutines, j.For = 10, 30*time.Second
			workers := []*worker{start(t, j), start(t, j), start(t, j)}
			for _, w := range workers {
				w.letGo()
			}
			<-time.After(6 * time.Second)
			s.redis.stop()
			<-time.After(5 * time.Second) // by now no token is valid any more
			during := s.srv.Counts().Token
			<-time.After(5 * time.Second)
			if got := s.srv.Counts().Token; got != during {
				t.Errorf("token requests without the store = %d, want none", got-during)
			}
			if !keeps {
				s.redis.empty(t)
			}
			s.redis.start(t)
			for _, w := range workers {
				r, _ := w.result(t)
				if r.Last != "ok" && (keeps || r.Last != "reauth") || r.OK == 0 {
					t.Errorf("process: %v", r)
				}
			}
			s.wantStrict(t, -1)
			if c := s.srv.Counts(); c.FamiliesRevoked != 0 || c.Reuses != 0 {
				t.Errorf("families revoked %d, reuses %d", c.FamiliesRevoked, c.Reuses)
			}
		})
	}
}
