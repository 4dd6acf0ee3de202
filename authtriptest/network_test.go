package authtriptest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/authtriptest"
)

// eachNetwork runs f in a bubble, over HTTP/1.1 and over HTTP/2.
func eachNetwork(t *testing.T, f func(t *testing.T, n *authtriptest.Network)) {
	t.Helper()
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%t", h2), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &authtriptest.Network{HTTP2: h2}
				t.Cleanup(func() { n.Close() })
				f(t, n)
			})
		})
	}
}

func say(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, text, " ", r.Host, " ", r.Proto)
	})
}

func TestNetworkHasManyHosts(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, n *authtriptest.Network) {
		n.Handle("http://127.0.0.1", say("one"))
		n.Handle("http://127.0.0.1:8080", say("two"))
		n.Handle("https://api.example", say("three"))
		n.Handle("http://[::1]:81", say("four"))
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[n.HTTP2]
		c := &http.Client{Transport: n}
		for url, want := range map[string]string{
			"http://127.0.0.1/":       "one 127.0.0.1 ",
			"http://127.0.0.1:80/x":   "one 127.0.0.1:80 ",
			"http://127.0.0.1:8080/":  "two 127.0.0.1:8080 ",
			"https://api.example/":    "three api.example ",
			"https://api.example:443": "three api.example:443 ",
			"http://[::1]:81/":        "four [::1]:81 ",
		} {
			resp := get(t, c, url, "")
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != want+proto {
				t.Errorf("GET %s = %q, %v, want %q", url, body, err, want+proto)
			}
		}
	})
}

func TestNetworkRefusesUnknownHosts(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, n *authtriptest.Network) {
		n.Handle(origin, say("here"))
		c := &http.Client{Transport: n}
		if resp, err := tryGet(t, c, "https://nobody.example/", ""); !errors.Is(err, syscall.ECONNREFUSED) {
			resp.Body.Close()
			t.Errorf("unknown host: %v, want a refused connection", err)
		}
		resp := get(t, c, origin, "")
		resp.Body.Close()
		n.Handle(origin, nil)
		for range 2 {
			if resp, err := tryGet(t, c, origin, ""); err == nil {
				resp.Body.Close()
				t.Error("a host that left the network answered")
			}
		}
		n.Handle(origin, say("back"))
		resp = get(t, c, origin, "")
		resp.Body.Close()
	})
}

func TestNetworkReusesConnections(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, n *authtriptest.Network) {
		n.Handle(origin, say("x"))
		for range 10 {
			resp := get(t, &http.Client{Transport: n}, origin, "")
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if got := n.Connections(); got != 1 {
			t.Errorf("Connections = %d, want 1", got)
		}
		n.CloseIdleConnections()
		synctest.Wait()
		get(t, &http.Client{Transport: n}, origin, "").Body.Close()
		if got := n.Connections(); got != 2 {
			t.Errorf("Connections = %d, want 2", got)
		}
	})
}

func TestNetworkHourPassesAtOnce(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, n *authtriptest.Network) {
		n.Handle(origin, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-time.After(time.Hour) }))
		began := time.Now()
		get(t, &http.Client{Transport: n}, origin, "").Body.Close()
		if got := time.Since(began); got != time.Hour {
			t.Errorf("the answer took %v, want 1h", got)
		}
	})
}

func TestNetworkTimeoutEndsTheHandler(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, n *authtriptest.Network) {
		left := make(chan time.Time, 1)
		n.Handle(origin, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			left <- time.Now()
		}))
		began := time.Now()
		c := &http.Client{Transport: n, Timeout: time.Minute}
		if resp, err := tryGet(t, c, origin, ""); err == nil {
			resp.Body.Close()
			t.Error("there was an answer")
		}
		if got := (<-left).Sub(began); got != time.Minute {
			t.Errorf("the handler saw the end after %v, want 1m", got)
		}
	})
}

func TestNetworkResetsByHijacking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := authtriptest.NewNetwork(t)
		srv := &authtriptest.Server{}
		n.Handle(origin, srv)
		srv.Fail(authtriptest.APIPath, authtriptest.Fault{Delay: time.Hour, Reset: true})
		resp, err := tryGet(t, &http.Client{Transport: n}, origin+authtriptest.APIPath, "x")
		if !errors.Is(err, syscall.ECONNRESET) {
			if err == nil {
				resp.Body.Close()
			}
			t.Errorf("error = %v, want a reset connection", err)
		}
	})
}

func TestNetworkCarriesLargeBodies(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, n *authtriptest.Network) {
		n.Handle(origin, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.Copy(w, r.Body)
		}))
		want := bytes.Repeat([]byte("0123456789"), 500_000)
		resp, err := (&http.Client{Transport: n}).Post(origin, "", bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back, %v, want %d", len(got), err, len(want))
		}
	})
}

func TestNetworkCloseIsFinal(t *testing.T) {
	t.Parallel()
	eachNetwork(t, func(t *testing.T, n *authtriptest.Network) {
		n.Handle(origin, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		c := &http.Client{Transport: n}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if resp, err := tryGet(t, c, origin, ""); err == nil {
					resp.Body.Close()
					t.Error("there was an answer")
				}
			})
		}
		synctest.Wait()
		for range 2 {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		if _, err := n.DialContext(t.Context(), "tcp", "auth.example:443"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial after Close: %v, want a refused connection", err)
		}
	})
}

func TestNetworkThatWasNeverUsedCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		if err := new(authtriptest.Network).Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestNetworkDialHonoursContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := authtriptest.NewNetwork(t)
		n.Handle(origin, say("x"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.DialContext(ctx, "tcp", "auth.example:443"); !errors.Is(err, context.Canceled) {
			t.Errorf("dial: %v, want the context's error", err)
		}
	})
}

func TestHandleWantsAnOrigin(t *testing.T) {
	t.Parallel()
	for _, origin := range []string{"", "api.example", "ftp://api.example", "https://", "://"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Handle(%q) did not panic", origin)
				}
			}()
			new(authtriptest.Network).Handle(origin, say("x"))
		}()
	}
}

// raw dials the network below HTTP.
func raw(t *testing.T, serve func(net.Conn)) net.Conn {
	t.Helper()
	n := authtriptest.NewNetwork(t)
	n.Handle(origin, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		serve(c)
	}))
	c, err := n.DialContext(t.Context(), "tcp", "auth.example:443")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	return c
}

func TestConnHonoursDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		c := raw(t, func(c net.Conn) { <-hold; c.Close() })
		defer close(hold)
		began := time.Now()
		if err := c.SetDeadline(began.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(began.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 1))
		var timeout net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Read: %v, want a timeout", err)
		}
		if got := time.Since(began); got != time.Hour {
			t.Errorf("Read took %v, want 1h: the later deadline", got)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write: %v, want a timeout", err)
		}
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("Write = %d, %v without a deadline", n, err)
		}
	})
}

func TestConnDeliversWhatWasWrittenBeforeClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := raw(t, func(c net.Conn) { fmt.Fprint(c, "goodbye"); c.Close() })
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "goodbye" {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write: %v, want a broken pipe", err)
		}
		c.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read: %v, want a closed connection", err)
		}
	})
}
