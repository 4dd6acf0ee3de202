package login_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

func TestRule68ResourceMetadataIsLookedForAtItsPlacesInOrder(t *testing.T) {
	t.Parallel()
	const wellKnown = "/.well-known/oauth-protected-resource"
	challenge := []authtrip.Challenge{{Scheme: "Bearer", ResourceMetadata: issuer + "/elsewhere"}}
	for _, tt := range []struct {
		at, says string
		parent   bool
		seen     []string
		check    bool
	}{
		{"/elsewhere", issuer + "/v1/mcp", false, []string{"/elsewhere"}, false},
		{wellKnown + "/v1/mcp", issuer + "/v1/mcp", false, []string{"/elsewhere", wellKnown + "/v1/mcp"}, false},
		{wellKnown, issuer, true, []string{"/elsewhere", wellKnown + "/v1/mcp", wellKnown}, false},
		{wellKnown, issuer + "/v1/", true, nil, false},
		{wellKnown, issuer, false, nil, true},
		{wellKnown, issuer + "/v", true, nil, true},
		{wellKnown, "https://evil.example/v1/mcp", true, nil, true},
		{wellKnown, issuer + "/v1/mcp/more", true, nil, true},
	} {
		o := newOP(t)
		var seen []string
		for _, place := range []string{"/elsewhere", wellKnown + "/v1/mcp", wellKnown} {
			o.handle[place] = func(w http.ResponseWriter, r *http.Request) {
				seen = append(seen, r.URL.Path)
				if r.URL.Path != tt.at {
					http.NotFound(w, r)
					return
				}
				reply(w, http.StatusOK, map[string]any{"resource": tt.says, "authorization_servers": []string{issuer}})
			}
		}
		f := &login.Finder{URL: issuer + "/v1/mcp", AllowParent: tt.parent, HTTPClient: &http.Client{Transport: o.network}}
		m, err := f.Find(t.Context(), challenge)
		if tt.check {
			wantCheck(t, err, "metadata resource")
			continue
		}
		if err != nil || m.Resource != tt.says {
			t.Errorf("%s at %s: %v", tt.says, tt.at, err)
		}
		if tt.seen != nil && !slices.Equal(seen, tt.seen) {
			t.Errorf("looked at %q, want %q", seen, tt.seen)
		}
	}
}

func TestRule67StepUpAsksForTheUnionAndEnds(t *testing.T) {
	t.Parallel()
	more := authtrip.Challenge{Scope: "write", MaxAge: -1}
	got, err := login.Widen([]string{"read"}, more, 0)
	if err != nil || !slices.Equal(got, []string{"read", "write"}) {
		t.Errorf("Widen() = %q, %v", got, err)
	}
	for _, tt := range []struct {
		asked []string
		tries int
	}{{[]string{"read", "write"}, 0}, {[]string{"read"}, 3}} {
		if _, err := login.Widen(tt.asked, more, tt.tries); err == nil {
			t.Errorf("Widen(%q, %d tries) has no error", tt.asked, tt.tries)
		} else if _, ok := errors.AsType[*login.StepUpError](err); !ok {
			t.Errorf("Widen() = %v, want a StepUpError", err)
		}
	}
}

func TestRule71GuardAllowsPublicAddressesOnly(t *testing.T) {
	t.Parallel()
	g := new(login.Guard)
	for _, bad := range []string{
		"127.0.0.1", "::1", "169.254.169.254", "10.1.2.3", "172.16.0.1", "192.168.1.1", "0.0.0.0", "100.100.100.200",
		"224.0.0.1", "255.255.255.255", "fe80::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
		"64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::1.1.1.1", "2002:7f00:1::", "::127.0.0.1", "ff02::1", "::",
		"::ffff:0:127.0.0.1", "5f00::1", "3fff::1", "100:0:0:1::1", "4000::1", // not in use, or translated to IPv4 somewhere
	} {
		if g.Allows(netip.MustParseAddr(bad)) {
			t.Errorf("%s is allowed", bad)
		}
	}
	for _, good := range []string{"1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::1.1.1.1"} {
		if !g.Allows(netip.MustParseAddr(good)) {
			t.Errorf("%s is not allowed", good)
		}
	}
	g = &login.Guard{Loopback: true, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for addr, want := range map[string]bool{"127.0.0.1": true, "::1": true, "10.1.2.3": true, "192.168.1.1": false, "169.254.169.254": false} {
		if g.Allows(netip.MustParseAddr(addr)) != want {
			t.Errorf("Allows(%s) = %v", addr, !want)
		}
	}
}

func TestRule71ServersThatNameForbiddenAddressesAreNotAsked(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	inside := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer inside.Close()
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	for _, at := range []string{
		"https://169.254.169.254/latest/meta-data", "https://127.0.0.1:" + port + "/x", "https://[::ffff:169.254.169.254]/x",
		"https://localhost:" + port + "/x", "https://2852039166/x",
	} {
		f := &login.Finder{URL: "https://192.0.2.1/mcp"}
		if _, err := f.Find(t.Context(), []authtrip.Challenge{{ResourceMetadata: at}}); err == nil {
			t.Errorf("%s was asked", at)
		} else if !errors.Is(err, login.ErrForbiddenAddress) && !strings.HasSuffix(at, "2852039166/x") {
			t.Errorf("%s: %v, want ErrForbiddenAddress", at, err)
		}
	}
	if len(asked) != 0 {
		t.Errorf("%s was requested", <-asked)
	}
}

// TestRule71MetadataOfAGigabyteIsNotRead: the answer is cut off after the first megabytes.
func TestRule71MetadataOfAGigabyteIsNotRead(t *testing.T) {
	t.Parallel()
	sent := make(chan int64, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		n, _ := io.Copy(w, io.LimitReader(endless{}, 1<<30))
		sent <- n
	}))
	defer server.Close()
	f := &login.Finder{URL: server.URL}
	if _, err := f.Find(t.Context(), nil); err == nil {
		t.Error("Find() has no error")
	}
	if n := <-sent; n >= 1<<26 {
		t.Errorf("%d bytes were read", n)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestRule70ClientIsNamedInOrderAndBoundToItsIssuer(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	registered := 0
	o.handle["/register"] = func(w http.ResponseWriter, _ *http.Request) {
		registered++
		reply(w, http.StatusCreated, map[string]any{"client_id": "dynamic"})
	}
	provider := func(cimd bool) *login.Provider {
		return &login.Provider{
			Issuer: issuer, HTTPClient: &http.Client{Transport: o.network},
			Static: &login.Metadata{ClientIDMetadataDocumentSupported: cimd, RegistrationEndpoint: issuer + "/register"},
		}
	}
	id := &login.Identity{DocumentURL: "https://app.example/client", Metadata: &login.ClientMetadata{}}
	for _, tt := range []struct {
		cimd bool
		want string
	}{{true, "https://app.example/client"}, {false, "dynamic"}, {false, "dynamic"}} {
		c, _, err := id.Client(t.Context(), provider(tt.cimd), nil, false)
		if err != nil || c.ID != tt.want {
			t.Errorf("Client() = %v, %v, want %s", c, err, tt.want)
		}
	}
	if registered != 1 {
		t.Errorf("%d registrations, want 1", registered)
	}
	if _, _, err := new(login.Identity).Client(t.Context(), provider(true), nil, false); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Client() = %v, want ErrUnsupported", err)
	}
}

// A page with metadata that was out of order for a moment counted as none: whoever falls back
// then goes to another server. The next place is looked at all the same.
func TestRule68MetadataThatIsOutOfOrderIsNotNone(t *testing.T) {
	t.Parallel()
	const wellKnown = "/.well-known/oauth-protected-resource"
	o := newOP(t)
	o.handle[wellKnown+"/v1"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	f := &login.Finder{URL: issuer + "/v1", AllowParent: true, HTTPClient: &http.Client{Transport: o.network}}
	_, err := f.Find(t.Context(), nil)
	if ee, ok := errors.AsType[*login.EndpointError](err); !ok || ee.StatusCode != http.StatusBadGateway || errors.Is(err, login.ErrNoMetadata) {
		t.Errorf("Find() = %v, want the 502", err)
	}
	o.handle[wellKnown] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"resource": issuer, "authorization_servers": []string{issuer}})
	}
	if _, err = f.Find(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
