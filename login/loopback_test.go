package login_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authtrip/login"
)

// visit is a browser on this machine: it answers with the status and the page.
func visit(t testing.TB, at, host string) (int, string) {
	t.Helper()
	return visitWith(context.Background(), t, at, host)
}

func visitWith(ctx context.Context, t testing.TB, at, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(page)
}

func TestRule14Loopback(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	c.Secret, c.RedirectURL = "", ""
	var out bytes.Buffer
	done := make(chan struct{})
	l := &login.Loopback{Client: c, Output: &out, Open: func(_ context.Context, at string) error {
		u, err := url.Parse(at)
		if err != nil {
			return err
		}
		redirect := u.Query().Get("redirect_uri")
		if !strings.HasPrefix(redirect, "http://127.0.0.1:") || !strings.HasSuffix(redirect, "/callback") {
			t.Errorf("redirect_uri = %q", redirect)
		}
		q := o.consent(u.Query())
		go func() {
			defer close(done)
			for at, want := range map[string]int{
				redirect + "?code=x&state=y":                            http.StatusBadRequest,
				strings.Replace(redirect, "callback", "favicon.ico", 1): http.StatusNotFound,
				redirect: http.StatusBadRequest,
				redirect + "?error=access_denied&state=" + q.Get("state")[1:]: http.StatusBadRequest,
			} {
				if status, _ := visit(t, at, ""); status != want {
					t.Errorf("%s: status %d, want %d", at, status, want)
				}
			}
			if status, _ := visit(t, redirect+"?"+q.Encode(), "evil.example"); status != http.StatusMisdirectedRequest {
				t.Errorf("another name of this machine: status %d", status)
			}
			if status, page := visit(t, redirect+"?"+q.Encode(), ""); status != http.StatusOK || !strings.Contains(page, "You are logged in") {
				t.Errorf("status %d: %s", status, page)
			}
		}()
		return nil
	}}
	s, err := l.Login(t.Context())
	<-done
	if err != nil || s.IDToken.Subject != "alice" {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), issuer+"/authorize?") {
		t.Errorf("output = %q", out.String())
	}
}

func TestLoopbackWithoutBrowser(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	read, write := io.Pipe()
	l := &login.Loopback{Client: o.client(), Output: write, Path: "/back", Open: func(context.Context, string) error {
		return errors.New("no browser")
	}}
	done := make(chan string, 1)
	go func() { // the user copies the line
		buf := make([]byte, 4096)
		n, _ := read.Read(buf)
		lines := strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
		u, err := url.Parse(lines[len(lines)-1])
		if err != nil {
			t.Error(err)
		}
		asked := u.Query()
		q := url.Values{"error": {"access_denied"}, "state": {asked.Get("state")}, "error_description": {"<b>alice</b>"}}
		_, page := visit(t, asked.Get("redirect_uri")+"?"+q.Encode(), "")
		done <- page
	}()
	_, err := l.Login(t.Context())
	if ae, ok := errors.AsType[*login.AuthorizationError](err); !ok || ae.Code != "access_denied" {
		t.Errorf("error is %T %v", err, err)
	}
	if page := <-done; !strings.Contains(page, "access was denied") || strings.Contains(page, "alice") {
		t.Errorf("page = %s", page)
	}
}

func TestLoopbackEnds(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	ctx, cancel := context.WithCancel(t.Context())
	l := &login.Loopback{Client: o.client(), Output: io.Discard, Open: func(context.Context, string) error { cancel(); return nil }}
	if _, err := l.Login(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	c := o.client()
	c.LoginTimeout = time.Millisecond
	l = &login.Loopback{Client: c, Output: io.Discard, Open: func(context.Context, string) error { return nil }}
	_, err := l.Login(t.Context())
	wantCheck(t, err, "transaction")
	for _, addr := range []string{"0.0.0.0:0", "localhost", "localhost.example:0", "192.0.2.1:80", "127.0.0.1"} {
		if _, err := (&login.Loopback{Client: c, Addr: addr}).Login(t.Context()); err == nil {
			t.Errorf("Addr %q was taken", addr)
		}
	}
	if _, err := new(login.Loopback).Login(t.Context()); err == nil {
		t.Error("no Client, no error")
	}
}

// openWith answers the login with what change makes of a good response, and hands the
// status of the page to got.
func openWith(t *testing.T, o *op, change func(q url.Values), got chan<- string) func(context.Context, string) error {
	return func(_ context.Context, at string) error {
		u, err := url.Parse(at)
		if err != nil {
			return err
		}
		q := o.consent(u.Query())
		if change != nil {
			change(q)
		}
		go func() {
			_, page := visit(t, u.Query().Get("redirect_uri")+"?"+q.Encode(), "")
			got <- page
		}()
		return nil
	}
}

// An exchange that could not work, as the keys were out of reach, told the browser to
// reload; the program waited ten minutes and said that the login took too long.
func TestLoopbackSaysWhatFailed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(o *op, c *login.Client)
		want  string
	}{
		"keys":          {func(o *op, _ *login.Client) { o.handle["/keys"] = http.NotFound }, "keys endpoint"},
		"keys, failing": {func(o *op, _ *login.Client) { o.handle["/keys"] = deviceError("x") }, "keys endpoint"},
		"secret": {func(_ *op, c *login.Client) {
			c.Secret, c.SecretFunc = "", func(context.Context) (string, error) { return "", errors.New("vault is sealed") }
		}, "vault is sealed"},
		"token endpoint": {func(o *op, _ *login.Client) { o.status = http.StatusInternalServerError }, "token endpoint"},
		"no token endpoint": {func(o *op, c *login.Client) {
			o.metadata = func(m map[string]any) { delete(m, "token_endpoint") }
		}, "no token endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			c := o.client()
			tt.spoil(o, c)
			page := make(chan string, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := (&login.Loopback{Client: c, Output: io.Discard, Open: openWith(t, o, nil, page)}).Login(ctx)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
			if p := <-page; !strings.Contains(p, "The login failed") {
				t.Errorf("page = %s", p)
			}
		})
	}
}

// A browser opens a connection ahead of time and says nothing on it; the login took
// two seconds longer for it.
func TestLoopbackDoesNotWaitForASilentConnection(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	page := make(chan string, 1)
	answer := openWith(t, o, nil, page)
	l := &login.Loopback{Client: o.client(), Output: io.Discard, Open: func(ctx context.Context, at string) error {
		u, err := url.Parse(at)
		if err != nil {
			return err
		}
		back, err := url.Parse(u.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", back.Host)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = conn.Close() })
		return answer(ctx, at)
	}}
	start := time.Now()
	if _, err := l.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
	if p := <-page; !strings.Contains(p, "You are logged in") {
		t.Errorf("page = %s", p)
	}
}

// A server that fails for a moment, before anything is spent, is asked again.
func TestLoopbackAsksAgainWhileNothingIsSpent(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	var asked atomic.Int32
	o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		o.serveKeys(w)
	}
	page := make(chan string, 1)
	_, err := (&login.Loopback{Client: o.client(), Output: io.Discard, Open: openWith(t, o, nil, page)}).Login(t.Context())
	if p := <-page; err != nil || !strings.Contains(p, "You are logged in") {
		t.Errorf("error = %v, page = %s", err, p)
	}
}

// A reload while the code is exchanged was told that the login is over.
func TestLoopbackReloadGetsTheResult(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	pages := make(chan string, 2)
	there, on := make(chan struct{}, 2), make(chan struct{})
	o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) {
		there <- struct{}{}
		<-on
		o.serveToken(w, r)
	}
	l := &login.Loopback{Client: o.client(), Output: io.Discard, Open: func(_ context.Context, at string) error {
		u, err := url.Parse(at)
		if err != nil {
			return err
		}
		back := u.Query().Get("redirect_uri") + "?" + o.consent(u.Query()).Encode()
		go func() {
			go func() { _, page := visit(t, back, ""); pages <- page }()
			<-there
			sent := make(chan struct{})
			ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
				WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) },
			})
			go func() { _, page := visitWith(ctx, t, back, ""); pages <- page }()
			<-sent
			for range 5 { // the server gets to read it
				visit(t, strings.Replace(back, "callback", "other", 1), "")
			}
			close(on)
		}()
		return nil
	}}
	if _, err := l.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if page := <-pages; !strings.Contains(page, "You are logged in") {
			t.Errorf("page = %s", page)
		}
	}
	if n := o.count("/token"); n != 1 {
		t.Errorf("token requests = %d, want 1", n)
	}
}

// Some servers take no address in a redirect URL.
func TestLoopbackWithANameByChoice(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	page := make(chan string, 1)
	l := &login.Loopback{Client: o.client(), Addr: "localhost:0", Output: io.Discard, Open: func(ctx context.Context, at string) error {
		u, err := url.Parse(at)
		if err != nil {
			return err
		}
		if back := u.Query().Get("redirect_uri"); !strings.HasPrefix(back, "http://localhost:") {
			t.Errorf("redirect_uri = %q", back)
		}
		return openWith(t, o, nil, page)(ctx, at)
	}}
	if _, err := l.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-page
}

// A response that belongs to the login and is refused has ended it. The program went on
// waiting, for ten minutes.
func TestLoopbackEndsWithTheResponseThatEndedItsLogin(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	c.Secret = ""
	l := &login.Loopback{Client: c, Output: io.Discard, Open: func(_ context.Context, at string) error {
		u, err := url.Parse(at)
		if err != nil {
			return err
		}
		q := o.consent(u.Query())
		q.Set("access_token", "of the implicit grant")
		go visit(t, u.Query().Get("redirect_uri")+"?"+q.Encode(), "")
		return nil
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := l.Login(ctx)
	wantCheck(t, err, "redirect")
}
