package login

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// A ClientCertificate is an [http.RoundTripper] that shows a client certificate (RFC
// 8705). The certificate may change while the program runs. Each request goes over a
// connection with the current one. A field of [tls.Config] alone does not do that:
// connections that are in use keep the old certificate, and new tokens would be bound to
// it.
//
// Use the same one for the server and for the API:
//
//	shown := &login.ClientCertificate{Get: certificate}
//	client := &login.Client{Provider: provider, ID: "app", AuthMethod: "tls_client_auth", HTTPClient: &http.Client{Transport: shown}}
//	api := &http.Client{Transport: &authtrip.Transport{Source: src, Base: shown}}
//
// After a change an API rejects, once, a token that is bound to the old certificate. The
// token is replaced as any rejected token is, and the request is sent again. To replace
// it ahead of that, call [authtrip.Source.Refresh]. The refresh token of a public client
// is bound to the certificate as well (RFC 8705, section 4): such a session ends with its
// certificate.
//
// A ClientCertificate is safe for concurrent use, must not be copied, and its fields must
// not be modified after first use.
type ClientCertificate struct {
	// Get returns the certificate to show; required. It is called for each request, and
	// should return the same pointer until the certificate changes. Its errors are errors of
	// the request.
	Get func(context.Context) (*tls.Certificate, error)
	// Base has the settings of the connections. It is copied at the first request. Its own
	// client certificates and its dial functions for TLS are ignored. If nil, the settings
	// are those of [http.DefaultTransport].
	Base *http.Transport

	mu   sync.Mutex // guards the rest
	cert *tls.Certificate
	via  *http.Transport // whose connections show cert
}

// RoundTrip implements [http.RoundTripper].
func (c *ClientCertificate) RoundTrip(req *http.Request) (*http.Response, error) {
	via, err := c.current(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	return via.RoundTrip(req)
}

// CloseIdleConnections closes those that are not in use.
func (c *ClientCertificate) CloseIdleConnections() {
	c.mu.Lock()
	via := c.via
	c.mu.Unlock()
	if via != nil {
		via.CloseIdleConnections()
	}
}

// current is the transport whose connections show the certificate of now.
func (c *ClientCertificate) current(ctx context.Context) (*http.Transport, error) {
	if c.Get == nil {
		return nil, errors.New("login: ClientCertificate.Get is nil")
	}
	cert, err := c.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("login: ClientCertificate.Get: %w", err)
	}
	if cert == nil || len(cert.Certificate) == 0 {
		return nil, errors.New("login: ClientCertificate.Get returned no certificate")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert == cert {
		return c.via, nil
	}
	if c.cert == nil || !bytes.Equal(c.cert.Certificate[0], cert.Certificate[0]) {
		before := c.via
		c.via = c.showing(cert)
		if before != nil {
			before.CloseIdleConnections() // what is under way goes on
		}
	}
	c.cert = cert
	return c.via, nil
}

// showing returns a transport whose connections show cert.
func (c *ClientCertificate) showing(cert *tls.Certificate) *http.Transport {
	base := c.Base
	if base == nil {
		base, _ = http.DefaultTransport.(*http.Transport)
	}
	via := new(http.Transport)
	if base != nil {
		via = base.Clone()
	}
	via.DialTLS, via.DialTLSContext = nil, nil //nolint:staticcheck // they know nothing of cert, and a base may have set either
	if via.TLSClientConfig == nil {
		via.TLSClientConfig = new(tls.Config)
	}
	via.TLSClientConfig.Certificates = nil
	via.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	// A connection that is resumed counts as one with the certificate from before.
	via.TLSClientConfig.ClientSessionCache = nil
	via.ForceAttemptHTTP2 = via.TLSNextProto == nil || base != nil && base.ForceAttemptHTTP2
	if via.IdleConnTimeout == 0 {
		via.IdleConnTimeout = 90 * time.Second // for those that were in use when it changed
	}
	return via
}
