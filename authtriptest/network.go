package authtriptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// Network carries HTTP over memory: the servers and the connections are those
// of net/http, but there are no sockets. In a [testing/synctest] bubble all
// waiting on it is durably blocking, so that a slow server takes no time.
//
//	synctest.Test(t, func(t *testing.T) {
//		network := authtriptest.NewNetwork(t)
//		network.Handle("https://auth.example", srv)
//		client := &http.Client{Transport: network}
//		…
//	})
//
// Any host can be given a handler, under http and https alike. There is no TLS: an https
// connection is taken to be past its handshake, and [http.Response.TLS] is nil. A connection
// to a host without a handler fails.
//
// A Network is an [http.RoundTripper]. The zero value is ready to use; it must
// be closed, and its fields must not be modified after first use. It is safe for
// concurrent use by multiple goroutines. A Network must be used in one bubble
// only, and must not be copied after first use.
type Network struct {
	// HTTP2 speaks HTTP/2 on all connections. If false, HTTP/1.1.
	HTTP2 bool

	once      sync.Once
	conns     chan net.Conn // dialed, not accepted
	done      chan struct{} // closed by Close
	served    chan struct{} // closed when no further connection is accepted
	server    *http.Server
	transport *http.Transport
	closing   sync.Once
	active    sync.WaitGroup // connections and handlers

	mu     sync.Mutex // guards hosts and dialed
	hosts  map[string]http.Handler
	dialed int
}

// NewNetwork returns a Network that is closed when the test ends.
func NewNetwork(tb testing.TB) *Network {
	tb.Helper()
	n := &Network{}
	tb.Cleanup(func() { _ = n.Close() })
	return n
}

// Handle makes h the handler of an origin such as "https://api.example" or
// "http://127.0.0.1:8080"; it replaces the one that was there. A nil handler takes the
// origin off the network: new connections to it fail, and those that exist break at the next
// request. Handle panics if origin is none.
func (n *Network) Handle(origin string, h http.Handler) {
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		panic(fmt.Sprintf("authtriptest: %q is not an origin", origin))
	}
	n.mu.Lock()
	if n.hosts == nil {
		n.hosts = map[string]http.Handler{}
	}
	n.hosts[hostPort(u)] = h
	n.mu.Unlock()
	if s, ok := h.(*Server); ok {
		s.bind(u.Scheme + "://" + u.Host)
	}
}

// RoundTrip sends a request over the network, with connections that are kept
// and reused.
func (n *Network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.once.Do(n.start)
	return n.transport.RoundTrip(r)
}

// DialContext connects to a host and port of the network, for a test that needs
// an [http.Transport] of its own. The kind of network is ignored.
func (n *Network) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	n.once.Do(n.start)
	if err := ctx.Err(); err != nil {
		return nil, dialError(address, err)
	}
	n.mu.Lock()
	known := n.hosts[address] != nil
	n.dialed++
	port := 1024 + n.dialed
	n.mu.Unlock()
	if !known {
		return nil, dialError(address, syscall.ECONNREFUSED)
	}
	near, far := newConns(addr("127.0.0.1:"+strconv.Itoa(port)), addr(address))
	select {
	case n.conns <- far:
		return near, nil
	case <-n.done:
		return nil, dialError(address, syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, dialError(address, ctx.Err())
	}
}

// Connections returns how many connections were asked for, failed ones included.
func (n *Network) Connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialed
}

// CloseIdleConnections closes the connections that no request uses.
func (n *Network) CloseIdleConnections() {
	n.once.Do(n.start)
	n.transport.CloseIdleConnections()
}

// Close ends all connections, and new ones fail. Handlers see the end of their request's
// context; Close waits for them to return, so that a handler must not call it. No goroutine
// of the network is left after that, as the end of a bubble demands.
func (n *Network) Close() error {
	n.once.Do(n.start)
	n.closing.Do(func() {
		close(n.done)
		<-n.served // else a connection accepted last would escape server.Close
		_ = n.server.Close()
		n.transport.CloseIdleConnections()
		n.active.Wait()
	})
	return nil
}

// start makes what the zero value lacks. It runs in the bubble of the first
// user, to which the channels belong from then on.
func (n *Network) start() {
	n.conns, n.done, n.served = make(chan net.Conn), make(chan struct{}), make(chan struct{})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!n.HTTP2)
	protocols.SetUnencryptedHTTP2(n.HTTP2)
	n.server = &http.Server{
		Handler:   http.HandlerFunc(n.route),
		Protocols: protocols,
		ConnState: n.track,
	}
	n.transport = &http.Transport{
		DialContext:    n.DialContext,
		DialTLSContext: n.DialContext,
		Protocols:      protocols,
	}
	go func() {
		defer close(n.served)
		_ = n.server.Serve((*listener)(n))
	}()
}

// track counts the connections of the server.
func (n *Network) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		n.active.Add(1)
	case http.StateClosed, http.StateHijacked:
		n.active.Done()
	}
}

// route finds the handler by the address that was dialed, as real hosts do; the
// Host header may say anything.
func (n *Network) route(w http.ResponseWriter, r *http.Request) {
	n.active.Add(1)
	defer n.active.Done()
	at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	n.mu.Lock()
	h := n.hosts[at.String()]
	n.mu.Unlock()
	if h == nil {
		panic(http.ErrAbortHandler)
	}
	h.ServeHTTP(w, r)
}

// listener is the accepting side of a Network.
type listener Network

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { return nil } // Network.Close closes done.
func (l *listener) Addr() net.Addr { return addr("127.0.0.1:1") }

func dialError(address string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &net.OpError{Op: "dial", Net: "memory", Addr: addr(address), Err: err}
}

func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
