package authtriptest_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"example.com/authtrip/authtriptest"
)

const origin = "https://auth.example"

// bubble runs f in a synctest bubble with a network on which srv is origin.
func bubble(t *testing.T, srv *authtriptest.Server, f func(t *testing.T, c *http.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := authtriptest.NewNetwork(t)
		network.Handle(origin, srv)
		f(t, &http.Client{Transport: network})
	})
}

// reply is the answer to a token request.
type reply struct {
	status       int
	header       http.Header
	AccessToken  string      `json:"access_token"`
	RefreshToken string      `json:"refresh_token"`
	IDToken      string      `json:"id_token"`
	TokenType    string      `json:"token_type"`
	IssuedType   string      `json:"issued_token_type"`
	Scope        string      `json:"scope"`
	Error        string      `json:"error"`
	ExpiresIn    json.Number `json:"expires_in"`
}

// post sends a form as the default client, with the header mended by edit.
func post(t *testing.T, c *http.Client, path string, form url.Values, edit ...func(*http.Request)) reply {
	t.Helper()
	r, err := tryPost(t, c, path, form, edit...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tryPost(t *testing.T, c *http.Client, path string, form url.Values, edit ...func(*http.Request)) (reply, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, origin+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("client", "client-secret")
	for _, f := range edit {
		f(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, header: resp.Header}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, err
	}
	return r, json.Unmarshal(body, &r)
}

func refreshForm(token string, more ...string) url.Values {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Add(more[i], more[i+1])
	}
	return form
}

// get calls a URL with a token; the caller closes the body.
func get(t *testing.T, c *http.Client, url, token string) *http.Response {
	t.Helper()
	resp, err := tryGet(t, c, url, token)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func tryGet(t *testing.T, c *http.Client, url, token string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return c.Do(req)
}

// status calls the API and returns nothing but the status.
func status(t *testing.T, c *http.Client, token string) int {
	t.Helper()
	resp := get(t, c, origin+authtriptest.APIPath, token)
	resp.Body.Close()
	return resp.StatusCode
}

// claims reads a JWT without checking it.
func claims(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("the JWT has %d parts, want 3", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
