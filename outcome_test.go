package authtrip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// These tests are inside of the package, as what a failure means for the refresh token is said to
// nobody else.

// TestOnlyWhatMayHaveBeenProcessedIsAmbiguous holds each row of rules.md, section 4.2. Attempts that
// were never processed used up the resends of a refresh token.
func TestOnlyWhatMayHaveBeenProcessedIsAmbiguous(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer string // status line, header and body; "": see serve
		want   bool
	}{
		{"400", "400\r\n\r\n" + `{"error":"invalid_grant"}`, false},
		{"401", "401\r\n\r\n" + `{"error":"invalid_client"}`, false},
		{"408", "408\r\n\r\n", false},
		{"429", "429\r\nRetry-After: 5\r\n\r\n", false},
		{"429 without Retry-After", "429\r\n\r\n", false},
		{"503 with Retry-After", "503\r\nRetry-After: 5\r\n\r\n", false},
		{"503 that is temporary", "503\r\n\r\n" + `{"error":"temporarily_unavailable"}`, false},
		{"503 of a gateway", "503\r\n\r\n<html>", true},
		{"500", "500\r\n\r\n" + `{"error":"invalid_grant"}`, true},
		{"502", "502\r\nRetry-After: 5\r\n\r\n", true},
		{"504", "504\r\n\r\n", true},
		{"redirect", "307\r\nLocation: https://elsewhere.example/\r\n\r\n", false},
		{"200 with HTML", "200\r\nContent-Type: text/html\r\n\r\n<html>", true},
		{"200 that is cut", "200\r\nContent-Length: 99\r\n\r\n" + `{"access_token":"a`, true},
		{"no HTTP", "??", true},
		{"nothing", "-", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := listen(t)
			go serve(l, func(c net.Conn) {
				readRequest(c)
				if tt.answer != "-" {
					_, _ = io.WriteString(c, "HTTP/1.1 "+strings.Replace(tt.answer, "\r\n", " X\r\nConnection: close\r\n", 1))
				}
			})
			wantAmbiguous(t, refresh(t.Context(), &Grant{TokenURL: "http://" + l.Addr().String()}), tt.want)
		})
	}
}

func TestARequestThatWasWrittenIsAmbiguous(t *testing.T) {
	t.Run("reset", func(t *testing.T) {
		l := listen(t)
		go serve(l, func(c net.Conn) {
			readRequest(c)
			_ = c.(*net.TCPConn).SetLinger(0)
		})
		wantAmbiguous(t, refresh(t.Context(), &Grant{TokenURL: "http://" + l.Addr().String()}), true)
	})
	t.Run("timeout", func(t *testing.T) {
		l := listen(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		go serve(l, func(c net.Conn) {
			readRequest(c)
			cancel(context.DeadlineExceeded)
			_, _ = io.Copy(io.Discard, c)
		})
		wantAmbiguous(t, refresh(ctx, &Grant{TokenURL: "http://" + l.Addr().String()}), true)
	})
}

func TestARequestThatNeverLeftIsNotAmbiguous(t *testing.T) {
	closed := listen(t)
	_ = closed.Close()
	slow := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	silent := listen(t) // takes connections and says nothing
	strange := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(strange.Close)
	for _, tt := range []struct {
		name, url string
		transport http.RoundTripper
	}{
		{"refused", "http://" + closed.Addr().String(), nil},
		{"no such host", "https://nobody.invalid", nil},
		{"a certificate that nobody knows", strange.URL, nil},
		{"dial that times out", "http://127.0.0.1:1", &http.Transport{DialContext: slow}},
		{"handshake that times out", "https://" + silent.Addr().String(), &http.Transport{TLSHandshakeTimeout: 50 * time.Millisecond}},
		{"no route, from a transport that does not trace", "http://127.0.0.1:1", roundTripFunc(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}
		})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			g := &Grant{TokenURL: tt.url}
			if tt.transport != nil {
				g.HTTPClient = &http.Client{Transport: tt.transport}
				defer g.HTTPClient.CloseIdleConnections()
			}
			wantAmbiguous(t, refresh(ctx, g), false)
		})
	}
}

// TestErrorsOfATokenRequestQuoteNoServer: net/http puts what it cannot read into its errors, and a
// server could put the refresh token there.
func TestErrorsOfATokenRequestQuoteNoServer(t *testing.T) {
	const secret = "s3cr3t-refresh"
	for name, answer := range map[string]string{
		"no HTTP":           secret + "\r\n\r\n",
		"status line":       "HTTP/1.1 " + secret + "\r\n\r\n",
		"reason":            "HTTP/1.1 500 " + secret + "\r\n\r\n",
		"header":            "HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n",
		"Location":          "HTTP/1.1 302 Found\r\nLocation: http://[" + secret + "\r\nContent-Length: 0\r\n\r\n",
		"Content-Length":    "HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n",
		"Transfer-Encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n",
		"Content-Type":      "HTTP/1.1 200 OK\r\nContent-Type: text/" + secret + "\r\nContent-Length: 1\r\n\r\n<",
		"chunk":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n",
		"error code":        "HTTP/1.1 400 X\r\nContent-Length: 28\r\n\r\n" + `{"error":"` + secret + `12"}`,
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t)
			go serve(l, func(c net.Conn) {
				readRequest(c)
				_, _ = io.WriteString(c, answer)
			})
			err := refresh(t.Context(), &Grant{TokenURL: "http://" + l.Addr().String()})
			for e := error(err); e != nil; e = errors.Unwrap(e) {
				if strings.Contains(fmt.Sprintf("%v %+v %#v", e, e, e.Error()), secret) {
					t.Error("an error quotes what the server sent")
				}
			}
		})
	}
}

// refresh asks g with a token that has a refresh token.
func refresh(ctx context.Context, g *Grant) *RefreshError {
	g.ClientID = "client"
	_, err := g.Refresh(ctx, &oauth2.Token{RefreshToken: "s3cr3t-refresh"})
	e, _ := errors.AsType[*RefreshError](err)
	return e
}

func wantAmbiguous(t *testing.T, e *RefreshError, want bool) {
	t.Helper()
	switch {
	case e == nil:
		t.Fatal("no *RefreshError")
	case e.ambiguous != want:
		t.Errorf("%v: ambiguous %v, want %v", e, e.ambiguous, want)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// serve answers each connection with f, and ends it.
func serve(l net.Listener, f func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			f(c)
		}()
	}
}

// readRequest reads a request to its end.
func readRequest(c net.Conn) {
	var all []byte
	b := make([]byte, 4096)
	for !strings.Contains(string(all), "refresh_token=") {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		all = append(all, b[:n]...)
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
