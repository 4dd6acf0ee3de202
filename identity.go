package authtrip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"example.com/authtrip/internal/origin"
	"example.com/authtrip/internal/wire"
)

// This file is how a server's identity endpoints are reached: the URL, the client, what its errors
// may say, and whether a request was sent.

// identityURL parses the URL of an endpoint that gets credentials. Rule 19.
func identityURL(field, raw string, allowInsecure bool) (*url.URL, error) {
	if raw == "" {
		return nil, fmt.Errorf("authtrip: %s is empty", field)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("authtrip: %s is not an absolute https URL", field)
	}
	if u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("authtrip: %s must have no user and no fragment", field)
	}
	if u.Scheme == "http" && !allowInsecure && !origin.Loopback(u.Hostname()) {
		return nil, fmt.Errorf("authtrip: %s is plain http: use https, or set AllowInsecureHTTP for a network that nobody else can read", field)
	}
	return u, nil
}

// identityClient makes the client that talks to an identity endpoint: c, with
// redirects refused and the retries that check allows, without a log.
func identityClient(c *http.Client, check retryablehttp.CheckRetry) *retryablehttp.Client {
	quiet := new(http.Client)
	if c != nil {
		*quiet = *c
	}
	quiet.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	base := quiet.Transport
	if base == nil {
		base = identityTransport()
	}
	// Behind a func, as retryablehttp closes the idle connections of a client
	// whose request has failed: here they belong to the whole program.
	quiet.Transport = roundTripFunc(func(req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err == nil && resp != nil && resp.StatusCode >= 300 && resp.StatusCode < 400 {
			resp.Header.Del("Location") // http.Client would read it, and quote it in an error
		}
		return resp, err
	})
	return &retryablehttp.Client{
		HTTPClient:   quiet,
		RetryWaitMin: 50 * time.Millisecond,
		RetryWaitMax: 500 * time.Millisecond,
		RetryMax:     2,
		CheckRetry:   check,
		Backoff:      retryablehttp.DefaultBackoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// identityConns is how many idle connections are kept to one identity endpoint. Of
// [http.DefaultTransport] it would be two, and of many refreshes at once most would dial.
const identityConns = 100

// identityTransport returns http.DefaultTransport with a larger pool of connections: the same for
// the whole process, or each would have a pool of its own. Where a program has put something else in
// its place, that is used as it is.
func identityTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	return pool.of(t)
}

// pool is the one clone of http.DefaultTransport.
var pool clone //nolint:gochecknoglobals // connections are shared by a process, as those of http.DefaultTransport

type clone struct {
	mu       sync.Mutex
	original *http.Transport
	copy     *http.Transport
}

// of returns the clone of t, which is made anew if http.DefaultTransport has become another one.
func (c *clone) of(t *http.Transport) *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.original != t {
		c.original, c.copy = t, t.Clone()
		c.copy.MaxIdleConnsPerHost = max(t.MaxIdleConnsPerHost, identityConns)
		if c.copy.MaxIdleConns > 0 {
			c.copy.MaxIdleConns = max(t.MaxIdleConns, 2*identityConns)
		}
	}
	return c.copy
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// untraced is a context without its httptrace: a request's caller who traces it must not see what
// the token endpoint is sent. All other values are there.
type untraced struct{ context.Context }

// Value implements [context.Context]. The keys of a trace are types that cannot be named.
func (c untraced) Value(key any) any {
	if t := reflect.TypeOf(key); t != nil && (t.PkgPath() == "net/http/httptrace" || t.PkgPath() == "internal/nettrace") {
		return nil
	}
	return c.Context.Value(key)
}

// sentTrace tells a request that certainly never left from one that may have.
type sentTrace struct {
	dialled, connected atomic.Bool
}

func (s *sentTrace) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { s.dialled.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { s.connected.Store(true) },
	}
}

// never reports whether the request whose error this is was certainly not sent. A connection that
// was had counts as sent, also where nothing was written to it: a transport that tries
// again by itself may have written to the one before.
func (s *sentTrace) never(err error) bool {
	if s.connected.Load() {
		return false
	}
	// A transport that does not trace may have sent everything that is no failure to connect.
	return s.dialled.Load() || notSent(err)
}

// notSent reports whether err says that no connection was made, so that nothing was sent: refused,
// no route, no such host, a dial that timed out, a certificate that is not valid.
func notSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns) ||
		errors.As(err, &cert) || errors.As(err, &unknown)
}

// bare returns the error of an HTTP exchange without anything that a server wrote.
func bare(err error) error { return wire.Cause(err) }
