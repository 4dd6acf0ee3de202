package login_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

const wellKnown = "/.well-known/openid-configuration"

func TestRule45MetadataIssuer(t *testing.T) {
	t.Parallel()
	for _, other := range []any{"https://evil.example", issuer + "/", "https://AS.example", "", nil, "https://as.example:443"} {
		o := newOP(t)
		o.metadata = func(m map[string]any) { m["issuer"] = other }
		m, err := o.provider().Metadata(t.Context())
		ce := wantCheck(t, err, "metadata issuer")
		if m != nil || ce.Want != issuer {
			t.Errorf("metadata of %v was returned", other)
		}
		if n := o.count("/.well-known/oauth-authorization-server"); n != 0 {
			t.Error("looked elsewhere after another issuer's metadata")
		}
	}
}

func TestDiscoverPlaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ issuer, oidc, oauth string }{
		{"https://as.example", wellKnown, "/.well-known/oauth-authorization-server"},
		{"https://as.example/", wellKnown, "/.well-known/oauth-authorization-server"},
		{"https://as.example/t/1", "/t/1" + wellKnown, "/.well-known/oauth-authorization-server/t/1"},
	} {
		o := newOP(t)
		o.issuer = tt.issuer
		for _, path := range []string{tt.oidc, tt.oauth} {
			o.handle[path] = func(w http.ResponseWriter, _ *http.Request) { o.serveMetadata(w) }
		}
		if m, err := o.provider().Metadata(t.Context()); err != nil || m.Issuer != tt.issuer || o.count(tt.oidc) != 1 {
			t.Errorf("%s: OpenID Connect Discovery: %v", tt.issuer, err)
		}
		o.handle[tt.oidc] = http.NotFound
		if m, err := o.provider().Metadata(t.Context()); err != nil || m.Issuer != tt.issuer || o.count(tt.oauth) != 1 {
			t.Errorf("%s: RFC 8414: %v", tt.issuer, err)
		}
	}
}

func TestMetadataURLAndStatic(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.handle["/elsewhere"] = func(w http.ResponseWriter, _ *http.Request) { o.serveMetadata(w) }
	p := o.provider()
	p.MetadataURL = issuer + "/elsewhere"
	m, err := p.Metadata(t.Context())
	if err != nil || o.count(wellKnown) != 0 {
		t.Fatalf("MetadataURL: %v", err)
	}
	var more struct {
		DeviceEndpoint string `json:"device_authorization_endpoint"`
	}
	if err := m.Claims(&more); err != nil || more.DeviceEndpoint != m.DeviceAuthorizationEndpoint {
		t.Errorf("Claims: %+v, %v", more, err)
	}

	c := o.client()
	c.Provider.Static = &login.Metadata{
		AuthorizationEndpoint: issuer + "/authorize", TokenEndpoint: issuer + "/token", JWKSURI: issuer + "/keys",
		IDTokenSigningAlgs: []string{"ES256"},
	}
	if _, err := o.run(t, c, nil); err != nil || o.count(wellKnown) != 0 {
		t.Errorf("Static: %v", err)
	}
	if _, err := c.LogoutURL(t.Context(), nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an endpoint that is not there: %v", err)
	}
	c.Provider.Static.Issuer = "https://other.example"
	_, err = c.Provider.Metadata(t.Context())
	wantCheck(t, err, "metadata issuer")
}

func TestPain23MetadataIsSharedAndRefreshed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		o.handle[wellKnown] = func(w http.ResponseWriter, _ *http.Request) {
			wait(time.Second)
			o.serveMetadata(w)
		}
		p := o.provider()
		// The first caller gives up; nobody else is hurt.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := p.Metadata(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v", err)
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := p.Metadata(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := o.count(wellKnown); n != 1 {
			t.Fatalf("requests = %d, want 1", n)
		}
		wait(time.Hour)
		start := time.Now()
		for range 10 {
			if _, err := p.Metadata(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("an old copy took %v", took)
		}
		wait(2 * time.Second)
		if n := o.count(wellKnown); n != 2 {
			t.Errorf("requests = %d, want 2", n)
		}
	})
}

func TestPain23LastGoodMetadataWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		p := o.provider()
		var mu sync.Mutex
		kinds := map[authtrip.EventKind]int{}
		p.OnEvent = func(e authtrip.Event) { mu.Lock(); kinds[e.Kind]++; mu.Unlock() }
		first, err := p.Metadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.handle[wellKnown] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
		wait(time.Hour)
		for range 600 { // ten minutes of a program that asks each second
			if m, err := p.Metadata(t.Context()); err != nil || m != first {
				t.Fatalf("metadata is gone: %v", err)
			}
			wait(time.Second)
		}
		if n := o.count(wellKnown); n > 20 {
			t.Errorf("requests to a server that is down = %d", n)
		}
		o.handle[wellKnown] = nil
		wait(2 * time.Minute)
		_, _ = p.Metadata(t.Context())
		synctest.Wait()
		if m, err := p.Metadata(t.Context()); err != nil || m == first {
			t.Errorf("metadata is still the old one: %v", err)
		}
		if kinds[login.EventMetadataRefreshed] != 2 || kinds[login.EventMetadataFailed] < 5 {
			t.Errorf("events = %v", kinds)
		}
	})
}

func TestMetadataFailureIsPaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		o.handle[wellKnown] = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		p := o.provider()
		for range 50 {
			_, err := p.Metadata(t.Context())
			if ee, ok := errors.AsType[*login.EndpointError](err); !ok || ee.RetryAfter != 7*time.Second {
				t.Fatalf("error is %T %v", err, err)
			}
			wait(100 * time.Millisecond)
		}
		if n := o.count(wellKnown); n != 1 {
			t.Errorf("requests = %d, want 1", n)
		}
		o.handle[wellKnown] = nil
		wait(3 * time.Second)
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestMetadataLimits(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"too large": `{"issuer":"` + issuer + `","x":"` + strings.Repeat("x", 1<<20) + `"}`,
		"no object": `["` + issuer + `"]`,
		"null":      `null`,
		"empty":     ``,
		"cut":       `{"issuer":"` + issuer + `"`,
		"types":     `{"issuer":"` + issuer + `","token_endpoint":7}`,
	} {
		o := newOP(t)
		o.handle[wellKnown] = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
		_, err := o.provider().Metadata(t.Context())
		if _, ok := errors.AsType[*login.EndpointError](err); !ok {
			t.Errorf("%s: error is %T %v", name, err, err)
		}
	}
}
