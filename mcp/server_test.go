package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

// world is a server of the protocol, as far as authorization goes, and its authorization
// servers.
type world struct {
	api *httptest.Server
	as  []*authServer

	mu     sync.Mutex
	valid  map[string][]string // scopes by token
	named  int                 // which of as the metadata names
	needs  string              // scope of /write
	bodies []string
}

// authServer is one that lets everybody in.
type authServer struct {
	*httptest.Server
	w          *world
	noPKCE     bool
	asked      []url.Values // at /authorize
	tokens     []url.Values // at /token
	registered int
	codes      map[string]string // scope
	refresh    map[string]string
	n          int
	deny       string // the error of /token
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{valid: map[string][]string{}, needs: "write"}
	w.api = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.api.Close)
	w.add(t)
	return w
}

func (w *world) add(t *testing.T) *authServer {
	t.Helper()
	a := &authServer{w: w, codes: map[string]string{}, refresh: map[string]string{}}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	w.as = append(w.as, a)
	return a
}

func (w *world) url() string { return w.api.URL + "/mcp" }

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource") {
		reply(rw, 200, map[string]any{"resource": w.url(), "authorization_servers": []string{w.as[w.named].URL}, "scopes_supported": []string{"read"}})
		return
	}
	body, _ := io.ReadAll(r.Body)
	scopes, ok := w.valid[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	switch {
	case !ok:
		rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", resource_metadata="`+w.api.URL+`/.well-known/oauth-protected-resource/mcp"`)
		rw.WriteHeader(401)
	case r.URL.Path == "/mcp/write" && !slices.Contains(scopes, w.needs):
		rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope="%s"`, w.needs))
		rw.WriteHeader(403)
	default:
		w.bodies = append(w.bodies, string(body))
	}
}

func (w *world) revoke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.valid)
}

func (a *authServer) serve(rw http.ResponseWriter, r *http.Request) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	_ = r.ParseForm()
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		m := map[string]any{
			"issuer": a.URL, "authorization_endpoint": a.URL + "/authorize", "token_endpoint": a.URL + "/token",
			"registration_endpoint": a.URL + "/register", "token_endpoint_auth_methods_supported": []string{"none"},
			"code_challenge_methods_supported": []string{"S256"}, "scopes_supported": []string{"offline_access"},
		}
		if a.noPKCE {
			delete(m, "code_challenge_methods_supported")
		}
		reply(rw, 200, m)
	case "/register":
		a.registered++
		var m map[string]any
		_ = json.NewDecoder(r.Body).Decode(&m)
		m["client_id"] = fmt.Sprint("client", a.registered)
		reply(rw, 201, m)
	case "/authorize":
		a.asked = append(a.asked, r.Form)
		a.n++
		code := fmt.Sprint("code", a.n)
		a.codes[code] = r.Form.Get("scope")
		http.Redirect(rw, r, r.Form.Get("redirect_uri")+"?code="+code+"&state="+url.QueryEscape(r.Form.Get("state")), http.StatusFound)
	case "/token":
		a.token(rw, r)
	default:
		http.NotFound(rw, r)
	}
}

func (a *authServer) token(rw http.ResponseWriter, r *http.Request) {
	a.tokens = append(a.tokens, r.PostForm)
	scope, ok := a.codes[r.PostForm.Get("code")]
	switch r.PostForm.Get("grant_type") {
	case "refresh_token":
		scope, ok = a.refresh[r.PostForm.Get("refresh_token")]
		delete(a.refresh, r.PostForm.Get("refresh_token"))
	case "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange":
		scope, ok = r.PostForm.Get("scope"), true
	}
	if a.deny != "" || !ok {
		code := "invalid_grant"
		if a.deny != "" {
			code = a.deny
		}
		reply(rw, 400, map[string]any{"error": code})
		return
	}
	a.n++
	access, refresh := fmt.Sprintf("access%d at %s", a.n, a.URL), fmt.Sprint("refresh", a.n)
	access = strings.ReplaceAll(access, " ", "_")
	a.w.valid[access] = strings.Fields(scope)
	a.refresh[refresh] = scope
	reply(rw, 200, map[string]any{"access_token": access, "token_type": "Bearer", "refresh_token": refresh, "expires_in": 3600})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// agree is a browser whose user agrees to everything.
func agree(_ context.Context, at string) error {
	go func() {
		if resp, err := http.Get(at); err == nil {
			_ = resp.Body.Close()
		}
	}()
	return nil
}

func nobody(context.Context, string) error { return errors.New("there is no browser") }

func browser() *mcp.Browser { return &mcp.Browser{Open: agree, Output: io.Discard} }

func identity() *login.Identity {
	return &login.Identity{Metadata: &login.ClientMetadata{ClientName: "test"}}
}

// transport returns one for w, which ends with the test.
func (w *world) transport(t *testing.T, with *mcp.Transport) *mcp.Transport {
	t.Helper()
	with.URL = w.url()
	if with.Identity == nil {
		with.Identity = identity()
	}
	t.Cleanup(func() { _ = with.Close() })
	return with
}

// post sends a request and returns its status.
func post(t *testing.T, tr http.RoundTripper, at, body string) (int, error) {
	t.Helper()
	resp, err := (&http.Client{Transport: tr}).Post(at, "text/plain", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}
