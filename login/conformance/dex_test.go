package conformance

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	dex "github.com/dexidp/dex/server"
	dexstorage "github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"example.com/authtrip/login"
)

// newDex is dex with its storage in memory and the connector that asks nothing.
func newDex(t *testing.T) *server {
	t.Helper()
	p := newPlaces(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	st := memory.New(log)
	if err := st.CreateClient(dexstorage.Client{ID: "web", Secret: "secret%+", RedirectURIs: p.redirectURLs()}); err != nil {
		t.Fatal(err)
	}
	if err := st.CreateConnector(dexstorage.Connector{ID: "mock", Type: "mockCallback", Name: "mock", ResourceVersion: "1"}); err != nil {
		t.Fatal(err)
	}
	site := httptest.NewUnstartedServer(nil)
	issuer := "http://" + site.Listener.Addr().String() + "/dex" // an issuer with a path
	handler, err := dex.NewServer(t.Context(), dex.Config{
		Issuer:             issuer,
		Storage:            st,
		SkipApprovalScreen: true,
		IDTokensValidFor:   time.Hour,
		Web:                dex.WebConfig{Dir: dexPages(t)},
		Logger:             log,
		PrometheusRegistry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	site.Config.Handler = http.Handler(handler)
	site.Start()
	t.Cleanup(site.Close)
	provider, err := login.Discover(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	return &server{
		client:  &login.Client{Provider: provider, ID: "web", Secret: "secret%+", RedirectURL: redirectURL},
		request: &login.AuthRequest{Scopes: []string{"openid", "email", "offline_access"}},
		places:  p,
		// RFC 6749, section 5.2 has invalid_grant.
		ownCodes: true,
	}
}

// dexPages makes the pages that dex wants to have and that nobody sees here.
func dexPages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"static", "templates", "themes/coreos"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"approval", "login", "password", "oob", "error"} {
		if err := os.WriteFile(filepath.Join(dir, "templates", name+".html"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDex(t *testing.T) {
	s := newDex(t)
	s.run(t)
	t.Run("what it has not", s.testHasNot)
}
