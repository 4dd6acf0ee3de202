package authtriptest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// Site is a handler that is reachable over a loopback address until the test
// ends. It is made by [Start] and [StartTLS]; its methods are safe for
// concurrent use by multiple goroutines.
type Site struct {
	// URL is the site's origin, such as "http://127.0.0.1:40123".
	URL string

	// Client reaches the site and trusts its certificate. Its Transport, an
	// [*http.Transport], is what a test passes on as a base. It must not be
	// used after the test.
	Client *http.Client

	conns atomic.Int64
}

// Connections returns how many connections the site has accepted.
func (s *Site) Connections() int { return int(s.conns.Load()) }

// Start serves h over HTTP/1.1 on a free port of 127.0.0.1 until the test ends.
// Requests that are being served then lose their connection.
func Start(tb testing.TB, h http.Handler) *Site {
	tb.Helper()
	return start(tb, h, false)
}

// StartTLS is [Start] with TLS and HTTP/2. Clients that offer only HTTP/1.1 are
// served as well.
func StartTLS(tb testing.TB, h http.Handler) *Site {
	tb.Helper()
	return start(tb, h, true)
}

// EachProtocol runs f as the subtests "h1" and "h2": the first one with
// [Start], the second one with [StartTLS] to serve its handlers.
func EachProtocol(t *testing.T, f func(t *testing.T, start func(http.Handler) *Site)) {
	t.Helper()
	t.Run("h1", func(t *testing.T) {
		f(t, func(h http.Handler) *Site { t.Helper(); return Start(t, h) })
	})
	t.Run("h2", func(t *testing.T) {
		f(t, func(h http.Handler) *Site { t.Helper(); return StartTLS(t, h) })
	})
}

func start(tb testing.TB, h http.Handler, secure bool) *Site {
	tb.Helper()
	site := &Site{}
	ts := httptest.NewUnstartedServer(h)
	ts.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			site.conns.Add(1)
		}
	}
	if secure {
		ts.EnableHTTP2 = true
		ts.StartTLS()
	} else {
		ts.Start()
	}
	tb.Cleanup(func() {
		ts.CloseClientConnections()
		ts.Close()
	})
	site.URL, site.Client = ts.URL, ts.Client()
	if s, ok := h.(*Server); ok {
		s.bind(ts.URL)
	}
	return site
}
