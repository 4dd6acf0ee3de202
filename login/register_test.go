package login_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// registrar has the op register clients as RFC 7591 and 7592 say. A token serves once.
func registrar(t *testing.T, o *op, expires int64) (clients map[string]map[string]any) {
	t.Helper()
	clients = make(map[string]map[string]any)
	token, n := "initial-secret", 0
	o.metadata = func(m map[string]any) { m["registration_endpoint"] = issuer + "/register" }
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			reply(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
			return
		}
		n++
		token = "token-secret-" + strings.Repeat("x", n)
		var doc map[string]any
		_ = json.NewDecoder(r.Body).Decode(&doc)
		id := strings.TrimPrefix(r.URL.Path, "/register/")
		if r.Method == http.MethodPost {
			id = "client-" + strings.Repeat("i", n)
		}
		switch r.Method {
		case http.MethodDelete:
			delete(clients, id)
			w.WriteHeader(http.StatusNoContent)
			return
		case http.MethodGet:
			doc = clients[id]
		}
		clients[id] = doc
		out := maps.Clone(doc)
		maps.Copy(out, map[string]any{
			"client_id": id, "client_secret": clientToken, "client_secret_expires_at": expires,
			"registration_client_uri": issuer + "/register/" + id, "registration_access_token": token, "CLIENT_ID": "evil",
		})
		reply(w, map[bool]int{true: http.StatusCreated, false: http.StatusOK}[r.Method == http.MethodPost], out)
	}
	o.handle["/register"] = handler
	o.handle["/register/client-i"] = handler
	return clients
}

func TestRegistrationIsMadeReadUpdatedAndDeleted(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	clients := registrar(t, o, 0)
	p := o.provider()
	ctx := t.Context()
	m := &login.ClientMetadata{RedirectURIs: []string{redirectURL}, ClientName: "App", TokenEndpointAuthMethod: "client_secret_post"}
	if _, err := p.Register(ctx, m, "wrong"); err == nil {
		t.Error("a wrong token was taken")
	} else if ee, ok := errors.AsType[*login.EndpointError](err); !ok || ee.Code != "invalid_token" {
		t.Errorf("error = %v", err)
	}
	r, err := p.Register(ctx, m, "initial-secret")
	if err != nil || r.ClientID != "client-i" || r.Issuer != issuer || clients["client-i"]["client_name"] != "App" {
		t.Fatalf("Register: %v", err)
	}
	first := r.RegistrationAccessToken
	if r, err = p.ReadRegistration(ctx, r); err != nil || r.RegistrationAccessToken == first || r.ClientName != "App" {
		t.Fatalf("ReadRegistration: %v", err)
	}
	m.ClientName = "Better App"
	if r, err = p.UpdateRegistration(ctx, r, m); err != nil || r.ClientName != "Better App" || clients["client-i"]["client_id"] != "client-i" {
		t.Fatalf("UpdateRegistration: %v", err)
	}
	if text := printed(r, *r); strings.Contains(text, clientToken) || strings.Contains(text, "token-secret") {
		t.Error("it prints its secrets")
	}
	c, err := r.Client(p)
	if err != nil || c.ID != "client-i" || c.Secret != clientToken || c.RedirectURL != redirectURL || c.AuthMethod != "client_secret_post" {
		t.Fatalf("Client: %v", err)
	}
	other := &login.Provider{Issuer: "https://other.example"}
	_, err = r.Client(other)
	wantCheck(t, err, "registration issuer")
	_, err = other.ReadRegistration(ctx, r)
	wantCheck(t, err, "registration issuer")
	if err = p.DeleteRegistration(ctx, r); err != nil || len(clients) != 0 {
		t.Errorf("DeleteRegistration: %v", err)
	}
	if err = p.DeleteRegistration(ctx, &login.Registration{Issuer: issuer}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without an endpoint: %v", err)
	}
	if _, err = newOP(t).provider().Register(ctx, m, ""); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a server without registration: %v", err)
	}
}

// A client is registered once with each server, and anew when its secret has expired.
func TestRegistrationsAreKeptByIssuer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		registrar(t, o, time.Now().Add(time.Hour).Unix())
		cache := new(authtrip.MemoryCache)
		token := "initial-secret"
		rs := func() *login.Registrations { // of a process that starts
			return &login.Registrations{
				Cache: cache, Metadata: &login.ClientMetadata{RedirectURIs: []string{redirectURL}},
				InitialToken: func(context.Context, string) (string, error) { return token, nil },
			}
		}
		for range 3 {
			r, err := rs().Register(t.Context(), o.provider())
			if err != nil {
				t.Fatal(err)
			}
			token = r.RegistrationAccessToken // as this server wants the last one
		}
		if n := o.count("/register"); n != 1 {
			t.Errorf("registrations = %d, want 1", n)
		}
		wait(2 * time.Hour)
		if r, err := rs().Register(t.Context(), o.provider()); err != nil || r.ClientID == "client-i" || o.count("/register") != 2 {
			t.Errorf("after the secret has expired: %v", err)
		}
	})
}

func TestClientDocument(t *testing.T) {
	t.Parallel()
	const id = "https://app.example/client.json"
	m := &login.ClientMetadata{RedirectURIs: []string{redirectURL}, ClientName: "App"}
	w := httptest.NewRecorder()
	(&login.ClientDocument{ID: id, Metadata: m}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/client.json", nil))
	var doc struct {
		ClientID string `json:"client_id"`
		Method   string `json:"token_endpoint_auth_method"`
		login.ClientMetadata
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" ||
		doc.ClientID != id || doc.ClientName != "App" || doc.Method != "none" {
		t.Errorf("status %d, document %s, %v", w.Code, w.Body, err)
	}
	for name, d := range map[string]*login.ClientDocument{
		"plain http":  {ID: "http://app.example/client.json", Metadata: m},
		"no path":     {ID: "https://app.example", Metadata: m},
		"a dot":       {ID: "https://app.example/a/../b", Metadata: m},
		"a fragment":  {ID: id + "#x", Metadata: m},
		"a user":      {ID: "https://u@app.example/client.json", Metadata: m},
		"no redirect": {ID: id, Metadata: new(login.ClientMetadata)},
		"a secret":    {ID: id, Metadata: &login.ClientMetadata{RedirectURIs: m.RedirectURIs, TokenEndpointAuthMethod: "client_secret_basic"}},
	} {
		if _, err := d.Document(); err == nil || !strings.HasPrefix(err.Error(), "login: ClientDocument.") {
			t.Errorf("%s: error = %v", name, err)
		}
	}
	// A login with the URL as client_id.
	o := newOP(t)
	o.claims = func(c map[string]any) { c["aud"] = id }
	c := o.client()
	c.ID, c.Secret = id, ""
	if _, err := o.run(t, c, nil); err != nil {
		t.Error(err)
	}
}

// A set of keys that was made from those in memory has their private halves, and was sent
// to the server, or served to everybody.
func TestPrivateKeysArePublishedNowhere(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { m["registration_endpoint"] = issuer + "/register" }
	secret := jose.JSONWebKey{Key: []byte("53CR3T of at least thirty-two bytes"), KeyID: "symmetric"}
	for name, key := range map[string]jose.JSONWebKey{"private": {Key: o.keys[0].key, KeyID: "k"}, "symmetric": secret} {
		set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
		if err != nil {
			t.Fatal(err)
		}
		m := &login.ClientMetadata{RedirectURIs: []string{redirectURL}, JWKS: set}
		doc := &login.ClientDocument{ID: "https://app.example/client.json", Metadata: m}
		_, derr := doc.Document()
		_, rerr := o.provider().Register(t.Context(), m, "")
		for _, err := range []error{derr, rerr} {
			if err == nil || err.Error() != "login: ClientMetadata.JWKS has a private key, want public ones: see JSONWebKey.Public of go-jose" {
				t.Errorf("%s: error = %v", name, err)
			}
		}
		w := httptest.NewRecorder()
		doc.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/client.json", nil))
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "keys") {
			t.Errorf("%s: status %d", name, w.Code)
		}
	}
	if o.count("/register") != 0 {
		t.Error("a private key was sent")
	}
}

// Each of many requests at once, as after a start, made a client of its own at the server.
func TestRegistrationsAtOnceMakeOneClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		o.metadata = func(m map[string]any) { m["registration_endpoint"] = issuer + "/register" }
		o.handle["/register"] = func(w http.ResponseWriter, _ *http.Request) {
			wait(time.Second)
			reply(w, http.StatusCreated, map[string]any{"client_id": "c" + strconv.Itoa(o.count("/register"))})
		}
		rs := &login.Registrations{Cache: new(authtrip.MemoryCache), Metadata: &login.ClientMetadata{RedirectURIs: []string{redirectURL}}}
		p := o.provider()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if r, err := rs.Register(t.Context(), p); err != nil || r.ClientID != "c1" {
					t.Errorf("error = %v", err)
				}
			})
		}
		all.Wait()
		if n := o.count("/register"); n != 1 {
			t.Errorf("registered %d times, want once", n)
		}
	})
}

// A secret that expires in hundreds of years, which is how some say never, had its registration
// kept for no time at all: each login registered another client.
func TestRegistrationWhoseSecretLivesForAgesIsKept(t *testing.T) {
	t.Parallel()
	registered := 0
	network := roundTripper(func(r *http.Request) (*http.Response, error) {
		registered++
		return response(r, http.StatusCreated, `{"client_id":"a","client_secret":"s","client_secret_expires_at":9223372036854775807}`), nil
	})
	p := &login.Provider{
		Issuer: "https://as.example", HTTPClient: &http.Client{Transport: network},
		Static: &login.Metadata{RegistrationEndpoint: "https://as.example/register"},
	}
	rs := &login.Registrations{Cache: new(authtrip.MemoryCache), Metadata: &login.ClientMetadata{}}
	for range 3 {
		if _, err := rs.Register(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if registered != 1 {
		t.Errorf("%d registrations, want 1", registered)
	}
}
