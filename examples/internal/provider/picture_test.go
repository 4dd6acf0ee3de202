package provider_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip/examples/internal/browser"
	"example.com/authtrip/examples/internal/provider"
)

// TestPicture: user info names a picture, and it is there.
func TestPicture(t *testing.T) {
	t.Parallel()
	const picture = `<svg xmlns="http://www.w3.org/2000/svg"/>`
	p, err := provider.Start(provider.Options{
		Clients: []provider.Client{{ID: "native", RedirectURIs: []string{redirectURI}}},
		Users: []provider.User{
			{Subject: "42", Login: "ada", Password: "engine", Picture: picture},
			{Subject: "43", Login: "grace", Password: "compiler"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	endpoint := p.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	f := &fixture{T: t, Provider: p, conf: &oauth2.Config{
		ClientID: "native", Endpoint: endpoint, RedirectURL: redirectURI, Scopes: []string{"openid", "profile"},
	}}
	for _, test := range []struct{ login, password, want string }{
		{"ada", "engine", p.Issuer() + "/picture/42"},
		{"grace", "compiler", ""},
	} {
		answer, verifier, err := f.authorize(browser.New(test.login, test.password))
		if err != nil {
			t.Fatal(err)
		}
		tok, err := f.conf.Exchange(t.Context(), answer.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		info := f.decode(f.get(p.UserInfoURL(), tok.AccessToken).Body)
		if got, _ := info["picture"].(string); got != test.want {
			t.Errorf("picture of %s = %q, want %q", test.login, got, test.want)
		}
	}
	if got := fetch(t, p.Issuer()+"/picture/42"); got != "200 image/svg+xml "+picture {
		t.Errorf("the picture is %q", got)
	}
	if got := fetch(t, p.Issuer()+"/picture/43"); !strings.HasPrefix(got, "404 ") {
		t.Errorf("no picture is %q", got)
	}
	if got := fetch(t, p.Issuer()+"/style.css"); !strings.HasPrefix(got, "200 text/css; charset=utf-8 ") {
		t.Errorf("the style is %q", got)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status[:3] + " " + resp.Header.Get("Content-Type") + " " + string(body)
}
