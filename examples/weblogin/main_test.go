package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"example.com/authtrip"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the provider's library reports what it refuses
	redis.SetLogger(silence{})                     // and the one of Redis, whom it cannot reach
	code := m.Run()
	chromium.stop()
	os.Exit(code)
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// patience is how long a test waits for what has to happen.
const patience = 90 * time.Second

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("it takes too long until %s", what)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// installed returns the path of a program that a test needs, and false where it
// has to be left out. In CI that is a failure.
func installed(t *testing.T, names ...string) (string, bool) {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", names[0])
	}
	t.Logf("LEFT OUT: %s is not installed", names[0])
	return "", false
}

// A world is a provider, an API, and the application.
type world struct {
	*testing.T
	demo *demo
	conf config
	app  *app
	logs logs
	keys keyring // of the sessions that were begun

	stop func() // ends the application
}

// bothProviders is an option of start.
func bothProviders(c *config) { c.providers = make([]providerConfig, 2) }

// start starts all three, with one provider. Access tokens live for lifetime.
func start(t *testing.T, lifetime time.Duration, options ...func(*config)) *world {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	addr := listener.Addr().String()
	conf := config{addr: addr, baseURL: "http://" + strings.Replace(addr, "127.0.0.1", "localhost", 1), key: key}
	for _, o := range options {
		o(&conf)
	}
	d, err := startDemo(conf.baseURL, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, demo: d, conf: d.configure(conf)}
	if len(conf.providers) != 2 {
		w.conf.providers = w.conf.providers[:1]
	}
	t.Cleanup(func() {
		w.stop()
		_ = d.Close() // a browser may have a connection
		w.checkLogs()
	})
	w.serve(listener)
	return w
}

// serve starts the application.
func (w *world) serve(listener net.Listener) {
	w.Helper()
	log := slog.New(slog.NewTextHandler(&w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := newApp(w.conf, log)
	if err != nil {
		w.Fatal(err)
	}
	w.app = a
	a.storage.tokens = &noting{a.storage.tokens.(*authtrip.Sealed), &w.keys}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, listener, a.handler(), log) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("serve() = %v", err)
		}
		if err := a.Close(); err != nil {
			w.Errorf("Close() = %v", err)
		}
	})
}

// restart ends the application and starts another one in its place.
func (w *world) restart() {
	w.Helper()
	w.stop()
	w.serve(listen(w.T, w.conf.addr))
}

// token returns that of the session that was begun last.
func (w *world) token() *oauth2.Token {
	w.Helper()
	tok, err := w.app.tokens.TokenContext(authtrip.WithKey(w.Context(), w.keys.last()))
	if err != nil {
		w.Fatal(err)
	}
	return tok
}

// revoke ends it at the provider, behind the back of the application.
func (w *world) revoke() {
	w.Helper()
	if err := w.app.services[0].client.Revoke(w.Context(), w.token()); err != nil {
		w.Fatal(err)
	}
}

// secretive finds what must not be in a log: who uses the application, and what
// may be a token.
var secretive = regexp.MustCompile(`(?i)\b(ada|lovelace|grace|hopper|engine)\b|[A-Za-z0-9_-]{24,}`)

func (w *world) checkLogs() {
	if found := secretive.FindString(w.logs.String()); found != "" {
		w.Errorf("the log has %q in it:\n%s", found, w.logs.String())
	}
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// logs is what the application has written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// keyring is the keys of sessions, in the order in which they were first used.
type keyring struct {
	mu   sync.Mutex
	keys []string
}

func (k *keyring) add(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains(k.keys, key) {
		k.keys = append(k.keys, key)
	}
}

func (k *keyring) last() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[len(k.keys)-1]
}

// noting is a Store that notes the keys that are loaded. What else the Store can do
// is promoted.
type noting struct {
	*authtrip.Sealed
	keys *keyring
}

// Load implements [authtrip.Store].
func (n *noting) Load(ctx context.Context, key string) ([]byte, string, error) {
	n.keys.add(key)
	return n.Sealed.Load(ctx, key)
}

// A visitor is somebody whose browser has no script.
type visitor struct {
	*world
	client *http.Client
}

func (w *world) visitor() *visitor {
	jar, _ := cookiejar.New(nil) // never fails
	return &visitor{w, &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// A page is an answer that was read.
type page struct {
	*http.Response
	at, body string
}

// send sends a request to a path of the application, or to a URL.
func (v *visitor) send(method, target string, form url.Values, header ...string) page {
	v.Helper()
	if strings.HasPrefix(target, "/") {
		target = v.conf.baseURL + target
	}
	req, err := http.NewRequestWithContext(v.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		v.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := v.client.Do(req)
	if err != nil {
		v.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.Fatal(err)
	}
	return page{resp, resp.Request.URL.String(), string(body)}
}

func (v *visitor) get(target string) page { v.Helper(); return v.send(http.MethodGet, target, nil) }

// logIn follows a link to the login, and fills in the provider's form.
func (v *visitor) logIn(link, login, password string) page {
	v.Helper()
	form := v.get(link)
	if !strings.HasPrefix(form.at, v.conf.providers[0].issuer) {
		v.Fatalf("GET %s leads to %s, want the provider", link, form.at)
	}
	return v.send(http.MethodPost, form.at, url.Values{"login": {login}, "password": {password}})
}

// cookies returns those that the application has set.
func (v *visitor) cookies() map[string]string {
	u, _ := url.Parse(v.conf.baseURL)
	got := make(map[string]string)
	for _, c := range v.client.Jar.Cookies(u) {
		got[c.Name] = c.Value
	}
	return got
}

// want says where a page should be, with which status, and what should be on it.
func (p page) want(t *testing.T, status int, at string, texts ...string) {
	t.Helper()
	if p.StatusCode != status || !strings.HasSuffix(p.at, at) {
		t.Errorf("the answer is status %d at %s, want %d at %s", p.StatusCode, p.at, status, at)
	}
	for _, text := range texts {
		if !strings.Contains(p.body, text) {
			t.Errorf("%q is not on the page:\n%s", text, p.body)
		}
	}
}

// kept reports whether the store has tok under key. After a logout it has a record
// that says so, without a token.
func (w *world) kept(key string, tok *oauth2.Token) bool {
	w.Helper()
	value, _, err := w.app.storage.tokens.Load(w.Context(), key)
	if err != nil && !errors.Is(err, authtrip.ErrNotFound) {
		w.Fatal(err)
	}
	return bytes.Contains(value, []byte(tok.AccessToken)) || bytes.Contains(value, []byte(tok.RefreshToken))
}

// wantLoggedOut says that no token of a session is left, and that it was ended here.
func (w *world) wantLoggedOut(key string, tok *oauth2.Token) {
	w.Helper()
	if w.kept(key, tok) {
		w.Error("the token is still there")
	}
	if _, err := w.app.tokens.Source(key).TokenContext(w.Context()); !errors.Is(err, authtrip.ErrLoggedOut) {
		w.Errorf("the session's error is %v, want ErrLoggedOut", err)
	}
}
