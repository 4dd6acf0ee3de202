package login_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/authtrip/login"
)

// visit is a browser on this machine: it answers with the status and the page.
func visit(t testing.TB, at, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, at, nil)
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
	for _, addr := range []string{"0.0.0.0:0", "localhost:0", "192.0.2.1:80", "127.0.0.1"} {
		if _, err := (&login.Loopback{Client: c, Addr: addr}).Login(t.Context()); err == nil {
			t.Errorf("Addr %q was taken", addr)
		}
	}
	if _, err := new(login.Loopback).Login(t.Context()); err == nil {
		t.Error("no Client, no error")
	}
}
