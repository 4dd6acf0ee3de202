package login_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

func TestRule46ResourceMetadata(t *testing.T) {
	t.Parallel()
	const wellKnown = "/.well-known/oauth-protected-resource"
	for _, tt := range []struct {
		id, at, path, says string
		check              bool
	}{
		{"https://as.example", "", wellKnown, "https://as.example", true},
		{"https://as.example/v1", "", wellKnown + "/v1", "https://as.example/v1", true},
		{"https://as.example/v1", issuer + "/elsewhere", "/elsewhere", "https://as.example/v1", true},
		{"https://as.example/v1", "", wellKnown + "/v1", "https://as.example/v1/", false},
		{"https://as.example/v1", "", wellKnown + "/v1", "https://evil.example/v1", false},
		{"https://as.example/v1", "", wellKnown + "/v1", "", false},
	} {
		o := newOP(t)
		o.handle[tt.path] = func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, map[string]any{"resource": tt.says, "authorization_servers": []string{issuer}, "x": 1})
		}
		r := &login.Resource{ID: tt.id, MetadataURL: tt.at, HTTPClient: &http.Client{Transport: o.network}}
		m, err := r.Metadata(t.Context())
		if !tt.check {
			wantCheck(t, err, "metadata resource")
			continue
		}
		var more struct{ X int }
		if err != nil || !slices.Equal(m.AuthorizationServers, []string{issuer}) || m.Claims(&more) != nil || more.X != 1 {
			t.Errorf("%s: %v", tt.id, err)
		}
		_, _ = r.Metadata(t.Context())
		if n := o.count(tt.path); n != 1 {
			t.Errorf("requests = %d, want 1", n)
		}
	}
	for _, bad := range []*login.Resource{
		{ID: ""}, {ID: "http://api.example"}, {ID: "https://api.example", MetadataURL: "http://127.0.0.1/x"}, {ID: "https://api.example#x"},
	} {
		if _, err := bad.Metadata(t.Context()); err == nil {
			t.Errorf("%q at %q was taken", bad.ID, bad.MetadataURL)
		}
	}
}

func TestStepUp(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	h := http.Header{"Www-Authenticate": {`Bearer error="insufficient_user_authentication", scope="books", acr_values="mfa", max_age=0`}}
	asked, _ := begin(t, o.client(), login.StepUp(authtrip.Challenges(h)[0]))
	if asked.Get("scope") != "openid books" || asked.Get("acr_values") != "mfa" || asked.Get("max_age") != "0" {
		t.Errorf("request = %v", asked)
	}
	h.Set("WWW-Authenticate", `Bearer error="insufficient_claims", claims="eyJ4IjoxfQ=="`)
	asked, _ = begin(t, o.client(), login.StepUp(authtrip.Challenges(h)[0]))
	if asked.Get("claims") == "" || asked.Has("max_age") || asked.Get("scope") != "openid" {
		t.Errorf("request = %v", asked)
	}
}

// certificate is one that its own key signed.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key := newKey(t, "").key.(*ecdsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: clientID},
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Rule 19, the other half: certificates are verified; and tls_client_auth.
func TestRule19Certificates(t *testing.T) {
	t.Parallel()
	cert := certificate(t)
	var shown, form string
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wellKnown {
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": server.URL, "token_endpoint": server.URL + "/token"})
			return
		}
		shown, form = r.TLS.PeerCertificates[0].Subject.CommonName, r.FormValue("client_id")
		reply(w, http.StatusOK, map[string]any{"access_token": "at", "token_type": "Bearer"})
	})
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)

	_, err := login.Discover(t.Context(), server.URL)
	if ee, ok := errors.AsType[*login.EndpointError](err); !ok || ee.StatusCode != 0 || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody knows: %v", err)
	}

	transport := server.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	transport.TLSClientConfig.Certificates = []tls.Certificate{cert}
	c := &login.Client{
		Provider: &login.Provider{Issuer: server.URL, HTTPClient: &http.Client{Transport: transport}},
		ID:       clientID, AuthMethod: "tls_client_auth",
	}
	if _, err := c.ClientCredentials(nil).Refresh(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if shown != clientID || form != clientID {
		t.Errorf("certificate of %q, client_id %q", shown, form)
	}
}
