package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Loopback logs in the user of a command-line program: it opens the browser, and waits on a
// port of a loopback address for it to come back (RFC 8252, section 7.3).
//
// Only Client is required; its RedirectURL does not matter. Calls of Login share nothing,
// so a Loopback is safe for concurrent use. It must not be modified after first use.
type Loopback struct {
	// Client is the program; required. It is usually a public one.
	Client *Client
	// Request is what the login asks for, beyond what the Client does.
	Request *AuthRequest
	// Addr is where to wait, a loopback address. If "", it is any free port of 127.0.0.1, or
	// of [::1] if that is the only one. Set it if the server wants the port registered. Set
	// localhost, such as localhost:0, if the server accepts no address: it is the host of
	// the redirect URL then, and both addresses are listened on.
	Addr string
	// Path is that of the redirect URL. If "", it is /callback.
	Path string
	// Open shows a URL to the user. If nil, it opens a browser: the program that
	// $BROWSER names, or the system's.
	Open func(ctx context.Context, url string) error
	// Output gets the line with the URL for a user whose browser does not open.
	// If nil, it is os.Stderr.
	Output io.Writer
}

// Login logs the user in. It blocks until the browser is back and the response exchanged,
// until [Client.LoginTimeout], or until ctx ends. A response that does not belong to this
// login gets an error page, and waiting goes on. Its errors are those of
// [Client.AuthCodeURL] and [Client.Exchange].
func (l *Loopback) Login(ctx context.Context) (*Session, error) {
	if l.Client == nil {
		return nil, errors.New("login: Loopback.Client is nil")
	}
	listeners, host, err := l.listen(ctx)
	if err != nil {
		return nil, err
	}
	req := new(AuthRequest)
	if l.Request != nil {
		*req = *l.Request
	}
	req.RedirectURL = "http://" + host + l.path()
	at, tx, err := l.Client.AuthCodeURL(ctx, req)
	if err != nil {
		closeAll(listeners)
		return nil, err
	}
	ctx, cancel := context.WithDeadlineCause(ctx, tx.Expires, &CheckError{Check: checkTransaction, Reason: "the login took too long: begin again"})
	defer cancel()
	back := &loopbackServer{client: l.Client, tx: tx, host: host, path: l.path(), done: make(chan loopbackResult, 1)}
	stop := back.serve(ctx, listeners)
	defer stop()
	l.show(ctx, at)
	select {
	case r := <-back.done:
		return r.session, r.err
	case <-ctx.Done():
		return nil, interrupted(ctx, context.Cause(ctx))
	}
}

func (l *Loopback) path() string {
	if l.Path == "" {
		return "/callback"
	}
	return l.Path
}

// listen implements Rule 14: an address, and a name only by choice. host is that of
// the redirect URL.
func (l *Loopback) listen(ctx context.Context) (listeners []net.Listener, host string, err error) {
	addrs := []string{"127.0.0.1:0", "[::1]:0"}
	if l.Addr != "" {
		addrs = []string{l.Addr}
		named, port, splitErr := net.SplitHostPort(l.Addr)
		if splitErr == nil && named == localhost {
			return listenByName(ctx, port)
		}
		if ip := net.ParseIP(named); splitErr != nil || ip == nil || !ip.IsLoopback() {
			return nil, "", errors.New("login: Loopback.Addr is not a loopback address, such as 127.0.0.1:8123, nor localhost with a port")
		}
	}
	for _, addr := range addrs {
		var one net.Listener
		if one, err = new(net.ListenConfig).Listen(ctx, "tcp", addr); err == nil {
			return []net.Listener{one}, one.Addr().String(), nil
		}
	}
	return nil, "", fmt.Errorf("login: Loopback cannot listen: %w", err)
}

const localhost = "localhost"

// listenByName listens on both loopback addresses, as either may be what the browser
// takes the name for.
func listenByName(ctx context.Context, port string) (listeners []net.Listener, host string, err error) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		one, lerr := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(addr, port))
		if lerr != nil {
			err = lerr
			continue
		}
		listeners = append(listeners, one)
		_, port, _ = net.SplitHostPort(one.Addr().String())
	}
	if len(listeners) == 0 {
		return nil, "", fmt.Errorf("login: Loopback cannot listen: %w", err)
	}
	return listeners, net.JoinHostPort(localhost, port), nil
}

func closeAll(listeners []net.Listener) {
	for _, one := range listeners {
		_ = one.Close()
	}
}

func (l *Loopback) show(ctx context.Context, at string) {
	open, out := l.Open, l.Output
	if open == nil {
		open = openBrowser
	}
	if out == nil {
		out = os.Stderr
	}
	if err := open(ctx, at); err != nil {
		_, _ = fmt.Fprintf(out, "Open this page to log in:\n%s\n", at)
		return
	}
	_, _ = fmt.Fprintf(out, "Log in with the browser. If it does not open, go to:\n%s\n", at)
}

// openBrowser starts the browser that the user has chosen, or the system's, and
// does not wait for it.
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
			return errors.New("login: there is no screen")
		}
		name = "xdg-open"
	}
	// Without a context: the browser stays when the program has ended.
	cmd := exec.Command(name, append(args, at)...) //nolint:noctx // see above
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("login: browser: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

// loopbackServer waits for one response.
type loopbackServer struct {
	client     *Client
	tx         *Transaction
	host, path string
	done       chan loopbackResult

	mu     sync.Mutex // held while a response is looked at
	over   *loopbackResult
	query  string                // of the response that ended the login
	silent map[net.Conn]struct{} // guarded by connMu
	connMu sync.Mutex
}

type loopbackResult struct {
	session *Session
	err     error
}

// serve answers on the listeners until the returned function is called, which lets
// the last page get out.
func (s *loopbackServer) serve(ctx context.Context, listeners []net.Listener) (stop func()) {
	s.silent = make(map[net.Conn]struct{})
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       20 * time.Second,
		MaxHeaderBytes:    maxResponse,
		ConnState:         s.connState,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	for _, one := range listeners {
		go func() { _ = server.Serve(one) }()
	}
	return func() {
		closeAll(listeners)
		s.hangUp()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	}
}

// connState keeps the connections on which nothing was said: browsers open them
// ahead of time, and Shutdown would wait for them.
func (s *loopbackServer) connState(c net.Conn, state http.ConnState) {
	s.connMu.Lock()
	defer s.connMu.Unlock()
	if state == http.StateNew {
		s.silent[c] = struct{}{}
	} else {
		delete(s.silent, c)
	}
}

func (s *loopbackServer) hangUp() {
	s.connMu.Lock()
	defer s.connMu.Unlock()
	for c := range s.silent {
		_ = c.Close()
	}
}

func (s *loopbackServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	private(w)
	plain(w)
	w.Header().Set("Connection", "close")
	// A name that somebody had resolve to this machine is not this server's.
	if r.Host != s.host {
		http.Error(w, "This is not the place.", http.StatusMisdirectedRequest)
		return
	}
	if r.URL.Path != s.path {
		http.NotFound(w, r)
		return
	}
	// A browser that asks twice waits for what becomes of the first request.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil && r.URL.RawQuery != s.query {
		s.page(w, http.StatusBadRequest, "This login is over. You can close this window.")
		return
	}
	if s.over == nil {
		result := s.exchange(r)
		if stranger(result.err) && !s.tx.spent.Load() {
			s.page(w, StatusCode(result.err), "This is not the login that was begun.")
			return
		}
		s.over, s.query = result, r.URL.RawQuery
		defer func() { s.done <- *result }() // once: the page first
	}
	if err := s.over.err; err != nil {
		s.page(w, StatusCode(err), "The login failed: "+advice(err)+" You can close this window.")
		return
	}
	s.page(w, http.StatusOK, "You are logged in. You can close this window.")
}

// exchange ends the login. While nothing is spent, a server that fails is asked a
// few times. A browser that goes away meanwhile changes nothing.
func (s *loopbackServer) exchange(r *http.Request) *loopbackResult {
	const attempts = 4
	ctx := context.WithoutCancel(r.Context())
	r = r.WithContext(ctx)
	for i := 1; ; i++ {
		session, err := s.client.Exchange(ctx, s.tx, r)
		if s.tx.spent.Load() || !transient(err) || i == attempts || pause(ctx, time.Second) != nil {
			return &loopbackResult{session, err}
		}
	}
}

// transient reports whether a request that failed may succeed soon.
func transient(err error) bool {
	ee, ok := errors.AsType[*EndpointError](err)
	return ok && (ee.StatusCode == 0 || ee.StatusCode >= 500 || ee.StatusCode == http.StatusTooManyRequests)
}

// stranger reports whether a response was not that of the login.
func stranger(err error) bool {
	ce, ok := errors.AsType[*CheckError](err)
	return ok && (ce.Check == "state" || ce.Check == "redirect_uri" || ce.Check == "redirect")
}

// advice says to a user, in words of this package, what happened.
func advice(err error) string {
	if ae, ok := errors.AsType[*AuthorizationError](err); ok {
		if ae.Code == "access_denied" {
			return "access was denied."
		}
		return "the server denied it (" + ae.Code + ")."
	}
	return "see the program for what happened."
}

func (s *loopbackServer) page(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, strings.Replace(loopbackPage, "TEXT", text, 1))
}

const loopbackPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Login</title><p>TEXT</p></html>
`
