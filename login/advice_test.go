package login_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/authtrip/login"
)

// This file is about errors that sent people the wrong way.

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A client with a key and a secret, at a server that takes secrets only, was told that
// the server offers nothing for it.
func TestClientWithKeyAndSecretUsesWhatTheServerTakes(t *testing.T) {
	t.Parallel()
	for offered, want := range map[string]string{"client_secret_basic": "basic", "client_secret_post": "post", "private_key_jwt": "jwt"} {
		o := newOP(t)
		o.metadata = func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = []string{offered} }
		c := o.client()
		c.Key = p256(t)
		if _, err := o.run(t, c, nil); err != nil {
			t.Errorf("%s: %v", offered, err)
			continue
		}
		form, header := o.last("/token")
		got := map[string]bool{
			"basic": header.Get("Authorization") != "", "post": form.Has("client_secret"), "jwt": form.Has("client_assertion"),
		}
		if !got[want] || methods(form, header) != 1 {
			t.Errorf("%s: got %v", offered, got)
		}
	}
}

// The error names both sides: what is offered, and what the client has.
func TestNoMethodFitsSaysWhatWouldDo(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) {
		m["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt", "tls_client_auth"}
	}
	_, _, err := o.client().AuthCodeURL(t.Context(), nil)
	for _, part := range []string{"private_key_jwt", "tls_client_auth", "a Secret", "Client.AuthMethod"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error = %v, want it to name %s", err, part)
		}
	}
}

// A secret too short for HMAC was blamed on Client.Key, which was nil.
func TestShortSecretIsNamed(t *testing.T) {
	t.Parallel()
	for alg, size := range map[string]int{"": 31, "HS384": 47, "HS512": 63} {
		o := newOP(t)
		c := o.client()
		c.Secret, c.AuthMethod, c.KeyAlg = strings.Repeat("s", size), "client_secret_jwt", alg
		_, _, err := c.AuthCodeURL(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), "Client.Secret") || strings.Contains(err.Error(), "Client.Key ") {
			t.Errorf("%q: error = %v", alg, err)
		}
		c.Secret += "s"
		if _, err := o.run(t, c, nil); err != nil {
			t.Errorf("%q, one byte more: %v", alg, err)
		}
	}
}

// A logout that another site had asked for was answered with "The login failed".
func TestRefusedLogoutSpeaksOfALogout(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	app := newWeb(o, &login.Handlers{})
	app.OnError = nil
	req, _ := http.NewRequest(http.MethodPost, "https://app.example/logout", nil)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := newBrowser(t, o).client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(page), "logout") || strings.Contains(string(page), "login") {
		t.Errorf("status %d: %s", resp.StatusCode, page)
	}
}

// OnLogin said no, and the tokens of that user lived on at the server, with nobody who
// knew them.
func TestTokensOfARefusedLoginAreRevoked(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	var revoked []string
	o.handle["/revoke"] = func(_ http.ResponseWriter, r *http.Request) {
		revoked = append(revoked, r.PostForm.Get("token_type_hint"))
	}
	h := &login.Handlers{}
	app := newWeb(o, h)
	h.OnLogin = func(http.ResponseWriter, *http.Request, *login.Session) error { return errors.New("no such customer") }
	b := newBrowser(t, o)
	_, at := b.get("https://app.example/login")
	resp, _ := b.get(callback(o.consent(at.Query())))
	if resp.StatusCode != http.StatusInternalServerError || len(app.failed) != 1 || !slices.Equal(revoked, []string{"refresh_token", "access_token"}) {
		t.Errorf("status %d, %v, revoked %q", resp.StatusCode, app.failed, revoked)
	}
}
