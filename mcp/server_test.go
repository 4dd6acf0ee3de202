package mcp_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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
	also   []string            // issuers that it names after that
	needs  string              // scope of /write
	bodies []string
	next   http.Handler // serves what is let in; nil: it is noted

	proofs  proofs
	rejects []string // methods of the requests that got a 401
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
	deny       string         // the error of /token
	forgot     int            // how many clients are forgotten: those that have registered first
	pending    int            // how often /token says that a device login takes its time
	metadata   map[string]any // replaces members
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
	if strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource") {
		w.mu.Lock()
		defer w.mu.Unlock()
		reply(rw, 200, map[string]any{
			"resource": w.url(), "authorization_servers": append([]string{w.as[w.named].URL}, w.also...), "scopes_supported": []string{"read"},
			"dpop_bound_access_tokens_required": w.proofs.required,
		})
		return
	}
	if !w.letIn(rw, r) {
		return
	}
	if w.next != nil {
		w.next.ServeHTTP(rw, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bodies = append(w.bodies, string(body))
}

// letIn reports whether a request may pass; else it has answered.
func (w *world) letIn(rw http.ResponseWriter, r *http.Request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	scopes, ok := w.valid[token]
	code := "invalid_token"
	if ok {
		code = w.proofs.check(rw, r, scheme, token)
	}
	switch {
	case !ok || code != "":
		w.rejects = append(w.rejects, r.Method)
		rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`%s error="%s", resource_metadata="%s/.well-known/oauth-protected-resource/mcp"`, w.proofs.scheme(), code, w.api.URL))
		rw.WriteHeader(401)
	case r.URL.Path == "/mcp/write" && !slices.Contains(scopes, w.needs):
		rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`%s error="insufficient_scope", scope="%s"`, w.proofs.scheme(), w.needs))
		rw.WriteHeader(403)
	default:
		return true
	}
	return false
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
			"device_authorization_endpoint":    a.URL + "/device",
			"code_challenge_methods_supported": []string{"S256"}, "scopes_supported": []string{"offline_access"},
		}
		if a.noPKCE {
			delete(m, "code_challenge_methods_supported")
		}
		if len(a.w.proofs.algs) > 0 {
			m["dpop_signing_alg_values_supported"] = a.w.proofs.algs
		}
		maps.Copy(m, a.metadata)
		reply(rw, 200, m)
	case "/register":
		a.registered++
		var m map[string]any
		_ = json.NewDecoder(r.Body).Decode(&m)
		m["client_id"] = fmt.Sprint("client", a.registered)
		reply(rw, 201, m)
	case "/device":
		if !a.knows(r.PostForm.Get("client_id")) {
			reply(rw, 401, map[string]any{"error": "invalid_client"})
			return
		}
		a.asked = append(a.asked, r.PostForm)
		a.codes["device"] = r.PostForm.Get("scope")
		reply(rw, 200, map[string]any{
			"device_code": "device", "user_code": "ABCD", "verification_uri": a.URL + "/go", "expires_in": 60, "interval": 1,
		})
	case "/authorize":
		if !a.knows(r.Form.Get("client_id")) {
			http.Error(rw, "unknown client", 400) // and no redirect
			return
		}
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

// knows reports whether a client that has registered itself is not forgotten.
func (a *authServer) knows(client string) bool {
	n, err := strconv.Atoi(strings.TrimPrefix(client, "client"))
	return err != nil || n > a.forgot
}

func (a *authServer) token(rw http.ResponseWriter, r *http.Request) {
	a.tokens = append(a.tokens, r.PostForm)
	if !a.knows(r.PostForm.Get("client_id")) {
		reply(rw, 401, map[string]any{"error": "invalid_client"})
		return
	}
	kind, code := a.w.proofs.checkToken(rw, r)
	if code != "" {
		reply(rw, 400, map[string]any{"error": code})
		return
	}
	scope, ok := a.codes[r.PostForm.Get("code")+r.PostForm.Get("device_code")]
	if ok && r.PostForm.Get("device_code") != "" && a.pending > 0 {
		a.pending--
		reply(rw, 400, map[string]any{"error": "authorization_pending"})
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "refresh_token":
		scope, ok = a.refresh[r.PostForm.Get("refresh_token")]
		delete(a.refresh, r.PostForm.Get("refresh_token"))
	case "client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange":
		scope, ok = r.PostForm.Get("scope"), true
	}
	if a.deny != "" || !ok {
		reply(rw, 400, map[string]any{"error": cmp.Or(a.deny, "invalid_grant")})
		return
	}
	a.n++
	access, refresh := fmt.Sprintf("access%d at %s", a.n, a.URL), fmt.Sprint("refresh", a.n)
	access = strings.ReplaceAll(access, " ", "_")
	a.w.valid[access] = strings.Fields(scope)
	a.refresh[refresh] = scope
	a.w.proofs.bind(access, refresh)
	m := map[string]any{"access_token": access, "token_type": kind, "refresh_token": refresh, "expires_in": 3600}
	if strings.HasSuffix(r.PostForm.Get("grant_type"), "token-exchange") {
		m["issued_token_type"], m["token_type"] = "urn:ietf:params:oauth:token-type:id-jag", "N_A"
	}
	if r.PostForm.Get("grant_type") == "client_credentials" {
		delete(m, "refresh_token")
	}
	reply(rw, 200, m)
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
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}
