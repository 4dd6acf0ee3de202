package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A server is a Redis of one test, which keeps nothing on disk.
type server struct {
	url  string
	cmd  *exec.Cmd
	stop func()
}

// startRedis starts one. It is nil where there is no program for it.
func startRedis(t *testing.T) *server {
	t.Helper()
	program, ok := installed(t, "redis-server", "valkey-server")
	if !ok {
		return nil
	}
	// Between the look for a port and its use somebody else can have taken it.
	for range 10 {
		if s := tryRedis(t, program); s != nil {
			return s
		}
	}
	t.Fatalf("%s does not start", program)
	return nil
}

func tryRedis(t *testing.T, program string) *server {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	addr := listener.Addr().String()
	_ = listener.Close()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{url: "redis://" + addr + "/0"}
	s.cmd = exec.Command(program, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(ended) }()
	s.stop = func() { _ = s.cmd.Process.Kill(); <-ended }
	t.Cleanup(s.stop)
	client := s.client(t)
	for client.Ping(t.Context()).Err() != nil {
		select {
		case <-ended:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	return s
}

func (s *server) client(t *testing.T) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(s.url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// dump returns all that is in it, as whoever can read the database sees it.
func (s *server) dump(t *testing.T) string {
	t.Helper()
	client := s.client(t)
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, key := range keys {
		value, err := client.Get(t.Context(), key).Result()
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		all.WriteString(key + " " + value + "\n")
	}
	return all.String()
}

func TestSessionsSurviveARestart(t *testing.T) {
	t.Parallel()
	b := window(t)
	db := startRedis(t)
	if b == nil || db == nil {
		return
	}
	w := start(t, 2*time.Second, func(c *config) { c.redisURL = db.url })
	b.open(w.conf.baseURL + "/login")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders", "Your orders")
	token, key := w.token(), w.keys.last()

	w.restart()
	b.refresh()
	until(t, "the access token has ended", func() bool {
		said, err := w.app.services[0].client.Introspect(t.Context(), token.AccessToken)
		return err == nil && !said.Active
	})
	w.restart()
	b.click("form.refresh button") // the process that renews the token has never seen it before
	b.until("document.querySelector('#said').textContent === 'Refreshed.' && document.querySelectorAll('tbody tr').length === 5")
	b.until("document.querySelector('.name').textContent === 'Ada Lovelace'")
	if s := w.demo.provider.Stats(); s.RefreshTokensSpent == 0 || s.RefreshTokensReused > 0 {
		t.Errorf("%d refresh tokens were spent, %d of them twice", s.RefreshTokensSpent, s.RefreshTokensReused)
	}

	now, all := w.token(), db.dump(t)
	for _, secret := range []string{"Ada", "ada@example.com", key, now.AccessToken, now.RefreshToken, "access_token", w.conf.providers[0].issuer} {
		if secret == "" || strings.Contains(all, secret) {
			t.Error("somebody who reads the database learns of a session")
		}
	}
	if n := strings.Count(all, "weblogin:"); n < 3 {
		t.Errorf("%d records are in the database, want a session, a token and a user at least", n)
	}

	db.stop()
	b.click("form.refresh button")
	b.at("/orders", "That did not work") // and the session is not lost
	b.until("document.querySelector('a.button').textContent === 'Try again'")
	b.open(w.conf.baseURL + "/login") // the provider knows the user, and the session cannot be kept
	b.until("document.querySelector('h1')?.textContent === 'That did not work'")
}

func TestSessionsEndWithTheirKey(t *testing.T) {
	t.Parallel()
	db := startRedis(t)
	if db == nil {
		return
	}
	v := start(t, time.Minute, func(c *config) { c.redisURL = db.url }).visitor()
	v.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	v.conf.key = make([]byte, 32)
	v.restart()
	v.get("/orders").want(t, 200, "/ended?return_to=%2Forders", "Your session has ended")
	v.get("/login").want(t, 200, "/orders", demoName)
}

// A logout at one replica is noticed by the other ones at their next request: the session is
// in Redis, and a token that a replica still has in memory is reached through it alone. So
// nothing here has to watch the Store.
func TestLogoutAtAnotherReplica(t *testing.T) {
	t.Parallel()
	db := startRedis(t)
	if db == nil {
		return
	}
	w := start(t, time.Minute, func(c *config) { c.redisURL = db.url })
	twin, err := newApp(w.conf, slog.New(slog.NewTextHandler(&w.logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = twin.Close() }()
	ada := w.visitor()
	ada.logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders")
	cookies := ada.cookies()
	there := func(path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, w.conf.baseURL+path, nil)
		for name, value := range cookies {
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		rec := httptest.NewRecorder()
		twin.handler().ServeHTTP(rec, r)
		return rec
	}
	if rec := there("/orders"); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "Ada Lovelace") {
		t.Fatalf("the other replica: status %d", rec.Code)
	}
	ada.send(http.MethodPost, "/logout", nil)
	if rec := there("/session"); rec.Code != http.StatusUnauthorized {
		t.Errorf("the open page is told %d", rec.Code)
	}
	if rec := there("/orders"); rec.Code != http.StatusSeeOther || !strings.HasPrefix(rec.Header().Get("Location"), "/ended?") {
		t.Errorf("the orders are still shown: status %d", rec.Code)
	}
}
