package conformance

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// newZitadel is the provider of zitadel/oidc with the storage of its examples.
func newZitadel(t *testing.T) (*server, *storage.Storage) {
	t.Helper()
	p := newPlaces(t)
	site := httptest.NewUnstartedServer(nil)
	issuer := "http://" + site.Listener.Addr().String()
	clients := map[string]*storage.Client{
		"web":    storage.WebClient("web", "secret with spaces", p.redirectURLs()...),
		"cli":    storage.NativeClient("cli", p.redirectURLs()...),
		"device": storage.DeviceClient("device", "secret"),
	}
	st := storage.NewStorageWithClients(storage.NewUserStore(issuer), clients)
	site.Config.Handler = exampleop.SetupServer(issuer, keyed{st}, slog.New(slog.NewTextHandler(io.Discard, nil)), false)
	site.Start()
	t.Cleanup(site.Close)
	provider, err := login.Discover(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	return &server{
		client:   &login.Client{Provider: provider, ID: "web", Secret: "secret with spaces", RedirectURL: redirectURL},
		request:  &login.AuthRequest{Scopes: []string{"openid", "profile", "offline_access"}},
		name:     "test-user@127.0.0.1",
		password: "verysecure",
		places:   p,
		pkce:     true, userInfo: true, revocation: true, introspection: true, logout: true,
	}, st
}

// keyed is the storage with a key for the web application, which signs its requests.
type keyed struct{ *storage.Storage }

func (k keyed) GetKeyByIDAndClientID(ctx context.Context, keyID, clientID string) (*jose.JSONWebKey, error) {
	if clientID == "web" && keyID == "mine" {
		return &jose.JSONWebKey{Key: webKey().Public(), KeyID: keyID, Use: "sig"}, nil
	}
	return k.Storage.GetKeyByIDAndClientID(ctx, keyID, clientID)
}

// webKey is the key of the web application: this server takes RS256 alone.
var webKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func TestZitadel(t *testing.T) {
	s, st := newZitadel(t)
	t.Run("confidential", s.run)

	public := *s
	public.client = &login.Client{Provider: s.client.Provider, ID: "cli", RedirectURL: redirectURL}
	public.introspection = false // it is for clients that can authenticate themselves
	public.places = newPlaces(t)
	t.Run("public", func(t *testing.T) {
		t.Run("login", public.testLogin)
		t.Run("expiry and rotation", public.testRotation)
		t.Run("user info", public.testUserInfo)
	})

	signed := *s
	signed.client = &login.Client{
		Provider: s.client.Provider, ID: "web", Secret: "secret with spaces", AuthMethod: "client_secret_basic",
		Key: webKey(), KeyID: "mine", SignRequests: true, RedirectURL: redirectURL,
	}
	t.Run("request object", func(t *testing.T) {
		t.Run("login", signed.testLogin)
		t.Run("expiry and rotation", signed.testRotation)
		stranger := signed
		client := *signed.client
		client.KeyID = "another"
		stranger.client = &client
		at, _, err := stranger.client.AuthCodeURL(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if status := stranger.browser(t).status(at); status == http.StatusOK || status == http.StatusFound {
			t.Errorf("a request that a stranger has signed: status %d", status)
		}
	})
	t.Run("what it has not", s.testHasNot)

	t.Run("client credentials", func(t *testing.T) {
		c := &login.Client{Provider: s.client.Provider, ID: "sid1", Secret: "verysecret"}
		src := &authtrip.Source{Refresher: c.ClientCredentials(&login.TokenRequest{Scopes: []string{"openid"}})}
		defer func() { _ = src.Close() }()
		if tok, err := src.TokenContext(t.Context()); err != nil || tok.AccessToken == "" {
			t.Error(err)
		}
	})

	t.Run("device", func(t *testing.T) {
		c := &login.Client{Provider: s.client.Provider, ID: "device", Secret: "secret"}
		req := &login.AuthRequest{Scopes: []string{"openid"}}
		d, err := c.DeviceAuth(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		d.Interval = 1
		if err := st.CompleteDeviceAuthorization(context.Background(), d.UserCode, "id1"); err != nil {
			t.Fatal(err)
		}
		session, err := c.DeviceToken(t.Context(), d, req)
		if err != nil || session.IDToken.Subject != "id1" {
			t.Error(err)
		}
	})
}

// The public client's redirect is one of another port than any that is
// registered: RFC 8252, section 7.3.
func TestZitadelAnyPort(t *testing.T) {
	s, _ := newZitadel(t)
	s.client = &login.Client{Provider: s.client.Provider, ID: "cli"}
	s.places.loopback = "127.0.0.1:0"
	s.testLoopback(t)
}
