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
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"example.com/authtrip/internal/identity"
	"example.com/authtrip/internal/wire"
)

// This file is how a server's identity endpoints are reached: the URL, the client, what its errors
// may say, and whether a request was sent.

// identityURL parses the URL of an endpoint that gets credentials. Rule 19.
func identityURL(field, raw string, allowInsecure bool) (*url.URL, error) {
	if raw == "" {
		return nil, fmt.Errorf("authtrip: %s is empty", field)
	}
	u, err := identity.URL(raw, true, allowInsecure)
	if err != nil {
		return nil, fmt.Errorf("authtrip: %s %w", field, err)
	}
	return u, nil
}

// identityClient makes the client that talks to an identity endpoint: c, with
// redirects refused and the retries that check allows, without a log.
func identityClient(c *http.Client, check retryablehttp.CheckRetry) *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient:   identity.Client(c),
		RetryWaitMin: 50 * time.Millisecond,
		RetryWaitMax: 500 * time.Millisecond,
		RetryMax:     2,
		CheckRetry:   check,
		Backoff:      retryablehttp.DefaultBackoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

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
