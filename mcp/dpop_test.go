package mcp_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

// newBoundWorld is one whose servers bind tokens to keys, and want nonces that change
// with each request.
func newBoundWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.proofs = proofs{algs: []string{"ES256"}, nonces: true}
	return w
}

func TestBoundSessionGoesOnInAnotherProcess(t *testing.T) {
	t.Parallel()
	w, store := newBoundWorld(t), new(authtrip.MemoryStore)
	want200(t, w.transport(t, &mcp.Transport{Login: browser(), Store: store, DPoP: new(dpop.Keys)}), w.url(), "x")
	again := w.transport(t, &mcp.Transport{Login: &mcp.Browser{Open: nobody}, Store: store, DPoP: new(dpop.Keys)})
	want200(t, again, w.url(), "x")
	w.revoke()
	want200(t, again, w.url(), "x") // with the key of the session
}

func TestNoncesCostNoLoginAndNoRefresh(t *testing.T) {
	t.Parallel()
	w := newBoundWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser(), DPoP: new(dpop.Keys)})
	for range 20 {
		want200(t, tr, w.url(), "x")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, m := len(w.as[0].asked), len(w.as[0].tokens); n != 1 || m != 2 {
		t.Errorf("%d logins and %d token requests, want 1 and 2: one was without a nonce", n, m)
	}
	if len(w.bodies) != 20 {
		t.Errorf("%d requests were let in, want 20", len(w.bodies))
	}
}

// TestProofThatIsRejectedAsksNobody: a server that never likes a proof would send the user
// to the browser for each request.
func TestProofThatIsRejectedAsksNobody(t *testing.T) {
	t.Parallel()
	w := newBoundWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser(), DPoP: new(dpop.Keys)})
	want200(t, tr, w.url(), "x")
	// A body that cannot be sent twice gets the challenge for a nonce.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url(), io.MultiReader(strings.NewReader("x")))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("%v, %v, want the 401 as it came", resp, err)
	}
	_ = resp.Body.Close()
	tr.Proofs() // as for the SDK
	if err = tr.Authorize(t.Context(), req, resp); err == nil {
		t.Error("Authorize() has no error")
	}
	if n := len(w.as[0].asked); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestServerWithoutDPoPGivesBearerTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(t, &mcp.Transport{Login: browser(), DPoP: new(dpop.Keys)})
	want200(t, tr, w.url(), "")
	w.mu.Lock()
	w.proofs.algs = []string{"ES256"} // from now on, it binds: this session stays as it is
	w.mu.Unlock()
	if tok, err := tr.Source().Refresh(t.Context()); err == nil {
		t.Errorf("type %s, want no token: the request goes without a proof", tok.TokenType)
	}
}

func TestServerThatWantsBoundTokensIsToldSo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want string
		algs       []string
		keys       authtrip.Binder
	}{
		{"no keys", "Transport.DPoP is nil", []string{"ES256"}, nil},
		{"a server that does not bind", "dpop_signing_alg_values_supported", nil, new(dpop.Keys)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.proofs = proofs{algs: tt.algs, required: true}
			_, err := post(t, w.transport(t, &mcp.Transport{Login: browser(), DPoP: tt.keys}), w.url(), "")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
			if len(w.as[0].asked) != 0 {
				t.Error("the user was asked")
			}
		})
	}
}

// TestBoundSessionWithoutItsKeysIsKept: a program that has lost its DPoP field must not
// end the session by a request without a proof.
func TestBoundSessionWithoutItsKeysIsKept(t *testing.T) {
	t.Parallel()
	w, store := newBoundWorld(t), new(authtrip.MemoryStore)
	want200(t, w.transport(t, &mcp.Transport{Login: browser(), Store: store, DPoP: new(dpop.Keys)}), w.url(), "x")
	tokens := len(w.as[0].tokens)
	without := w.transport(t, &mcp.Transport{Login: browser(), Store: store})
	_, _ = without.Source().Token() // from the Store
	if _, err := without.Source().Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "Transport.DPoP is nil") {
		t.Errorf("error = %v", err)
	}
	if n := len(w.as[0].tokens); n != tokens {
		t.Error("a token request went out without a proof")
	}
	want200(t, w.transport(t, &mcp.Transport{Login: &mcp.Browser{Open: nobody}, Store: store, DPoP: new(dpop.Keys)}), w.url(), "x")
}

// TestSDKWithHandlerSendsProofs: the SDK knows Bearer only, and a bound token never goes
// out as one.
func TestSDKWithHandlerSendsProofs(t *testing.T) {
	t.Parallel()
	w := newBoundWorld(t)
	w.next = tools(nil)
	bearer := 0
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer") {
			bearer++
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	tr := w.transport(t, &mcp.Transport{Login: browser(), DPoP: new(dpop.Keys), Base: base})
	if _, err := tr.TokenSource(t.Context()); err == nil || !strings.Contains(err.Error(), "Transport.Proofs") {
		t.Errorf("TokenSource() without Proofs: %v", err)
	}
	session := connect(t, &sdk.StreamableClientTransport{Endpoint: w.url(), OAuthHandler: tr, HTTPClient: &http.Client{Transport: tr.Proofs()}})
	for range 2 {
		if _, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "say"}); err != nil {
			t.Fatal(err)
		}
		w.revoke()
	}
	if n := len(w.as[0].asked); n != 1 || bearer != 0 {
		t.Errorf("%d logins, want 1; %d bearer tokens, want none", n, bearer)
	}
}

func TestProgramWithoutAUserKeepsItsKey(t *testing.T) {
	t.Parallel()
	w := newBoundWorld(t)
	id := &login.Identity{Registered: func(context.Context, string) (*login.Client, error) { return &login.Client{ID: "robot"}, nil }}
	tr := w.transport(t, &mcp.Transport{Login: new(mcp.ClientCredentials), Identity: id, DPoP: new(dpop.Keys)})
	want200(t, tr, w.url(), "")
	w.revoke()
	want200(t, tr, w.url(), "")
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := map[string]bool{}
	for _, jkt := range w.proofs.jkt {
		keys[jkt] = true
	}
	if len(keys) != 1 || w.as[0].n != 2 {
		t.Errorf("%d tokens with %d keys, want 2 with the same", w.as[0].n, len(keys))
	}
}
