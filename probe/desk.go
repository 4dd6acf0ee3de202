package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// loginTimeout is how long a user has for one login.
const loginTimeout = 5 * time.Minute

// A desk is where the browser comes back to (RFC 8252, section 7.3), for all logins of a run.
type desk struct {
	url    string // the redirect URL
	path   string
	host   string
	server *http.Server
	back   chan *url.URL
}

func newDesk(ctx context.Context, addr, path string) (*desk, error) {
	named, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(named); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, errors.New("-addr is not a loopback address, such as 127.0.0.1:8123")
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("-addr: %w", err)
	}
	d := &desk{path: path, host: l.Addr().String(), back: make(chan *url.URL)}
	d.url = "http://" + d.host + path
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second}
	go func() { _ = d.server.Serve(l) }()
	return d, nil
}

func (d *desk) close() { _ = d.server.Close() }

// authorize returns what shows a URL to the user, and waits for the browser.
func (d *desk) authorize(show func(ctx context.Context, at string)) func(context.Context, string) (*url.URL, error) {
	return func(ctx context.Context, at string) (*url.URL, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, loginTimeout, errors.New("the browser did not come back"))
		defer cancel()
		show(ctx, at)
		want := ""
		if u, err := url.Parse(at); err == nil {
			want = u.Query().Get("state") // "" where the request was pushed
		}
		for {
			select {
			case back := <-d.back:
				if want == "" || back.Query().Get("state") == want {
					return back, nil
				}
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
}

// ServeHTTP takes a response for the login that waits for one.
func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	switch {
	case r.Host != d.host: // a name that somebody had resolve to this machine
		w.WriteHeader(http.StatusMisdirectedRequest)
		return
	case r.URL.Path != d.path || r.Method != http.MethodGet:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	text := "The probe has what it needs. You can close this window."
	back, err := url.Parse(d.url)
	if err != nil {
		return
	}
	back.RawQuery = r.URL.RawQuery
	select {
	case d.back <- back:
	case <-time.After(2 * time.Second):
		text = "No login is waiting for this."
	case <-r.Context().Done():
		return
	}
	_, _ = io.WriteString(w, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Probe</title><p>"+text+"</p></html>\n")
}

// openBrowser starts the browser that the user has chosen, or the system's, and does not wait for
// it.
func openBrowser(_ context.Context, at string) error {
	name := os.Getenv("BROWSER")
	var args []string
	switch {
	case name != "":
	case runtime.GOOS == "darwin":
		name = "open"
	case runtime.GOOS == "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler"}
	default:
		if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
			return errors.New("there is no screen")
		}
		name = "xdg-open"
	}
	// Without a context: the browser stays when the program has ended.
	cmd := exec.Command(name, append(args, at)...) //nolint:noctx // see above
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("browser: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

// lines reads one line at a time, for somebody who may stop waiting.
type lines struct {
	from  io.Reader
	start sync.Once
	read  chan string
}

func (l *lines) next(ctx context.Context) string {
	l.start.Do(func() {
		l.read = make(chan string)
		go func() {
			defer close(l.read)
			for s := bufio.NewScanner(l.from); s.Scan(); {
				l.read <- s.Text()
			}
		}()
	})
	select {
	case line := <-l.read:
		return line
	case <-ctx.Done():
		return ""
	}
}
