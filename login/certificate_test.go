package login_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// boundSite is a server and an API whose tokens are bound to the certificate of the
// connection that they were got over (RFC 8705, section 3).
type boundSite struct {
	*httptest.Server

	mu       sync.Mutex
	bound    map[string][sha256.Size]byte // by token
	refresh  string
	n        int
	tokens   int
	rejected int
}

func newBoundSite(t *testing.T, http2 bool) *boundSite {
	t.Helper()
	s := &boundSite{bound: make(map[string][sha256.Size]byte)}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = http2
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *boundSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	shown := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	_ = r.ParseForm()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.URL.Path {
	case wellKnown:
		reply(w, http.StatusOK, map[string]any{
			"issuer": s.URL, "token_endpoint": s.URL + "/token", "tls_client_certificate_bound_access_tokens": true,
		})
	case "/token":
		s.tokens++
		if r.PostForm.Get("grant_type") == "refresh_token" && r.PostForm.Get("refresh_token") != s.refresh {
			reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
			return
		}
		s.n++
		access := "at" + strconv.Itoa(s.n)
		s.refresh = "rt" + strconv.Itoa(s.n)
		s.bound[access] = shown
		reply(w, http.StatusOK, map[string]any{"access_token": access, "refresh_token": s.refresh, "token_type": "Bearer", "expires_in": 3600})
	default:
		access, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if to, known := s.bound[access]; !known || to != shown {
			s.rejected++
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}

// client authenticates itself with a key, or with the certificate.
func (s *boundSite) client(t *testing.T, shown http.RoundTripper, withKey bool) *login.Client {
	t.Helper()
	c := &login.Client{
		Provider: &login.Provider{Issuer: s.URL, HTTPClient: &http.Client{Transport: shown}},
		ID:       clientID, AuthMethod: "tls_client_auth", HTTPClient: &http.Client{Transport: shown},
	}
	if withKey {
		c.AuthMethod, c.Key, c.CertificateBoundTokens = "private_key_jwt", newKey(t, "").key, true
	}
	return c
}

// changing is a certificate that becomes another one.
func (s *boundSite) changing(t *testing.T) (shown *login.ClientCertificate, change func()) {
	t.Helper()
	var now atomic.Pointer[tls.Certificate]
	change = func() {
		cert := certificate(t)
		now.Store(&cert)
	}
	change()
	shown = &login.ClientCertificate{
		Base: s.Client().Transport.(*http.Transport),
		Get:  func(context.Context) (*tls.Certificate, error) { return now.Load(), nil },
	}
	t.Cleanup(shown.CloseIdleConnections)
	return shown, change
}

// TestTokenIsReplacedWhenTheCertificateChanges: with GetClientCertificate alone, connections
// in use keep the certificate from before, new tokens are bound to that, and the API rejects
// one after the other.
func TestTokenIsReplacedWhenTheCertificateChanges(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		for kind, withKey := range map[string]bool{"tls_client_auth": false, "private_key_jwt": true} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				s := newBoundSite(t, http2)
				shown, change := s.changing(t)
				c := s.client(t, shown, withKey)
				src := c.Source()
				defer func() { _ = src.Close() }()
				first, err := c.ClientCredentials(nil).Refresh(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if err = src.SetToken(t.Context(), first); err != nil {
					t.Fatal(err)
				}
				api := &http.Client{Transport: &authtrip.Transport{Source: src, Base: shown}}
				for round := range 3 {
					if round > 0 {
						change()
					}
					var all sync.WaitGroup
					for range 50 {
						all.Go(func() { post(t, api, s.URL+"/api") })
					}
					all.Wait()
					if s.tokens != 1+round {
						t.Errorf("after %d changes there were %d token requests, want one for each, and one", round, s.tokens)
					}
				}
			})
		}
	}
}

func post(t *testing.T, c *http.Client, at string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader("body"))
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Errorf("status = %d, want 200", resp.StatusCode)
	}
}

// TestCertificateThatIsTheSameKeepsItsConnections holds that a new pointer to the same
// certificate, as from a file that was read again, changes nothing.
func TestCertificateThatIsTheSameKeepsItsConnections(t *testing.T) {
	t.Parallel()
	s := newBoundSite(t, false)
	var dialed atomic.Int32
	cert := certificate(t)
	base := s.Client().Transport.(*http.Transport).Clone()
	base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	shown := &login.ClientCertificate{Base: base, Get: func(context.Context) (*tls.Certificate, error) {
		same := cert
		return &same, nil
	}}
	t.Cleanup(shown.CloseIdleConnections)
	for range 5 {
		resp, err := (&http.Client{Transport: shown}).Get(s.URL + wellKnown)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if n := dialed.Load(); n != 1 {
		t.Errorf("connections = %d, want 1", n)
	}
}

func TestCertificateThatCannotBeHadIsTheRequestsError(t *testing.T) {
	t.Parallel()
	gone := errors.New("the file is gone")
	for want, c := range map[string]*login.ClientCertificate{
		"login: ClientCertificate.Get is nil":                  {},
		"login: ClientCertificate.Get: the file is gone":       {Get: func(context.Context) (*tls.Certificate, error) { return nil, gone }},
		"login: ClientCertificate.Get returned no certificate": {Get: func(context.Context) (*tls.Certificate, error) { return nil, nil }},
	} {
		_, err := c.RoundTrip(httptest.NewRequest(http.MethodPost, "https://as.example/", strings.NewReader("body")))
		if err == nil || err.Error() != want {
			t.Errorf("error = %v, want %s", err, want)
		}
	}
}

// Settings with a dial function of their own for TLS had the certificate shown to nobody.
func TestCertificateIsShownWithADialerOfTLS(t *testing.T) {
	t.Parallel()
	shown := make(chan int, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { shown <- len(r.TLS.PeerCertificates) }))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	base := s.Client().Transport.(*http.Transport).Clone()
	base.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&tls.Dialer{Config: base.TLSClientConfig}).DialContext(ctx, network, addr)
	}
	c := &login.ClientCertificate{Base: base, Get: func(context.Context) (*tls.Certificate, error) { return &s.TLS.Certificates[0], nil }}
	resp, err := (&http.Client{Transport: c}).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if <-shown == 0 {
		t.Error("the certificate was not shown")
	}
}
