package login_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/login"
)

const (
	oauthWellKnown = "/.well-known/oauth-authorization-server"
	tenantIssuer   = issuer + "/t/1"
)

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// Metadata that was only at the third place was not found, and any answer but a 404 at
// the first one ended the search.
func TestDiscoveryGoesOnToTheNextPlace(t *testing.T) {
	t.Parallel()
	places := []string{"/t/1" + wellKnown, oauthWellKnown + "/t/1", wellKnown + "/t/1"}
	for name, first := range map[string]http.HandlerFunc{
		"nothing there":   http.NotFound,
		"HTML with a 200": answer(http.StatusOK, "text/html", "<!doctype html><title>Welcome</title>"),
		"a failure":       answer(http.StatusInternalServerError, "text/plain", "oops"),
		"other JSON":      answer(http.StatusOK, "application/json", `{"error":"no such page"}`),
		"forbidden":       answer(http.StatusForbidden, "text/plain", "no"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, there := range places {
				o := newOP(t)
				o.issuer = tenantIssuer
				for _, place := range places {
					o.handle[place] = first
				}
				o.handle[there] = func(w http.ResponseWriter, _ *http.Request) { o.serveMetadata(w) }
				if _, err := o.provider().Metadata(t.Context()); err != nil {
					t.Errorf("place %d: %v", i+1, err)
				}
			}
		})
	}
}

// What is said of a search in vain is what can help: not that the last place is empty.
func TestDiscoveryInVainSaysTheMostTellingFailure(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.handle[wellKnown] = answer(http.StatusServiceUnavailable, "text/plain", "busy")
	_, err := o.provider().Metadata(t.Context())
	if ee, ok := errors.AsType[*login.EndpointError](err); !ok || ee.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("error = %v", err)
	}
}

// A server that is failing where its metadata was before keeps what it had: the next
// place may have less.
func TestRefreshOfMetadataStaysAtItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		p := o.provider()
		first, err := p.Metadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.handle[wellKnown] = answer(http.StatusServiceUnavailable, "text/plain", "busy")
		o.handle[oauthWellKnown] = answer(http.StatusOK, "application/json", `{"issuer":"`+issuer+`"}`)
		for range 3 {
			wait(time.Hour)
			if m, err := p.Metadata(t.Context()); err != nil || m.TokenEndpoint != first.TokenEndpoint {
				t.Fatalf("another copy, or %v", err)
			}
			synctest.Wait()
		}
	})
}

// One member of an odd type refused all of the metadata, and ISSUER after issuer was
// taken for it.
func TestRule62Metadata(t *testing.T) {
	t.Parallel()
	const good = `"issuer":"` + issuer + `","token_endpoint":"` + issuer + `/token","jwks_uri":"` + issuer + `/keys"`
	for name, tt := range map[string]struct {
		doc string
		ok  bool
	}{
		"as it should be":      {`{` + good + `}`, true},
		"a list is a string":   {`{` + good + `,"scopes_supported":"openid"}`, true},
		"a flag is a string":   {`{` + good + `,"require_pushed_authorization_requests":"no"}`, true},
		"aliases are a list":   {`{` + good + `,"mtls_endpoint_aliases":[]}`, true},
		"ISSUER after":         {`{` + good + `,"ISSUER":"https://evil.example"}`, true},
		"ISSUER alone":         {`{"ISSUER":"` + issuer + `","token_endpoint":"` + issuer + `/token"}`, false},
		"hidden behind ISSUER": {`{"issuer":"https://evil.example","ISSUER":"` + issuer + `"}`, false},
		"issuer twice":         {`{"issuer":"https://evil.example",` + good + `}`, false},
		"token_endpoint twice": {`{` + good + `,"token_endpoint":"https://evil.example"}`, false},
		"an endpoint's type":   {`{` + good + `,"userinfo_endpoint":7}`, false},
		"Token_Endpoint after": {`{` + good + `,"Token_Endpoint":"https://evil.example"}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.handle[wellKnown] = answer(http.StatusOK, "application/json", tt.doc)
			m, err := o.provider().Metadata(t.Context())
			if tt.ok != (err == nil) {
				t.Fatalf("error = %v", err)
			}
			if tt.ok && (m.Issuer != issuer || m.TokenEndpoint != issuer+"/token") {
				t.Errorf("metadata = %s %s", m.Issuer, m.TokenEndpoint)
			}
		})
	}
}

// A flag that makes the client stricter is read in either spelling.
func TestMetadataFlagsAsStrings(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { m["authorization_response_iss_parameter_supported"] = "true" }
	c := o.client()
	asked, tx := begin(t, c, nil)
	q := o.consent(asked)
	q.Del("iss")
	_, err := c.Exchange(t.Context(), tx, callback(q))
	wantCheck(t, err, "iss")
}

// A server that says that it has no S256 let the user log in before it refused.
func TestRule10ServerWithoutS256IsSaidBeforeTheBrowserOpens(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		methods any
		ok      bool
	}{{nil, true}, {[]string{"S256"}, true}, {[]string{"plain", "S256"}, true}, {[]string{"plain"}, false}, {[]string{}, true}} {
		o := newOP(t)
		o.metadata = func(m map[string]any) {
			if tt.methods != nil {
				m["code_challenge_methods_supported"] = tt.methods
			}
		}
		_, _, err := o.client().AuthCodeURL(t.Context(), nil)
		if tt.ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "S256") {
			t.Errorf("%v: error = %v", tt.methods, err)
		}
	}
}
