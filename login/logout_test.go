package login_test

import (
	"net/http"
	"net/url"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip/login"
)

// logOut presses the button.
func logOut(b *browser) (*http.Response, *url.URL) {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "https://app.example/logout", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.read(b.client.Do(req))
}

// A logout has a state, and the page after it is for the browser that began it.
func TestLogoutStateIsChecked(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	app := newWeb(o, &login.Handlers{LoggedOutURL: "https://app.example/bye", Home: "/home"})
	b := newBrowser(t, o)
	_, at := logOut(b)
	state := at.Query().Get("state")
	if len(state) < 43 {
		t.Fatal("no state")
	}
	for name, tt := range map[string]struct {
		browser *browser
		query   string
	}{
		"another state":   {b, "?state=x"},
		"no state":        {b, ""},
		"state twice":     {b, "?state=" + state + "&state=" + state},
		"another browser": {newBrowser(t, o), "?state=" + state},
	} {
		if resp, _ := tt.browser.get("https://app.example/bye" + tt.query); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
	}
	wantCheck(t, app.failed[0], "state")
	for i, want := range []int{http.StatusSeeOther, http.StatusBadRequest} {
		resp, at := b.get("https://app.example/bye?state=" + state)
		if resp.StatusCode != want || want == http.StatusSeeOther && at.Path != "/home" {
			t.Errorf("time %d: status %d to %v", i+1, resp.StatusCode, at)
		}
	}
}

// Servers with a logout of their own kind get what they want.
func TestLogoutSaysMore(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { delete(m, "end_session_endpoint") }
	req := &login.LogoutRequest{LogoutHint: "alice", UILocales: []string{"de"}, Endpoint: issuer + "/v2/logout", Params: url.Values{"returnTo": {"x"}}}
	h := &login.Handlers{
		LoggedOutURL:  "https://app.example/bye",
		LogoutRequest: func(*http.Request, *oauth2.Token) (*login.LogoutRequest, error) { return req, nil },
	}
	newWeb(o, h)
	_, at := logOut(newBrowser(t, o))
	q := at.Query()
	if at.Path != "/v2/logout" || q.Get("returnTo") != "x" || q.Get("logout_hint") != "alice" || q.Get("ui_locales") != "de" || q.Get("client_id") != clientID {
		t.Errorf("logout leads to %s", at.Path)
	}
	for _, bad := range []*login.LogoutRequest{
		{Endpoint: issuer + "/x", Params: url.Values{"state": {"x"}}},
		{Endpoint: "http://as.example/x"},
		{Endpoint: "/x"},
	} {
		if _, err := o.client().LogoutURL(t.Context(), bad); err == nil {
			t.Errorf("%s was taken", bad.Endpoint)
		}
	}
}

// Where the server has no logout, the browser went to Home and not to the page for
// those who have logged out.
func TestLogoutAtAServerWithoutOne(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { delete(m, "end_session_endpoint") }
	newWeb(o, &login.Handlers{LoggedOutURL: "https://app.example/bye"})
	b := newBrowser(t, o)
	_, at := logOut(b)
	if at.Path != "/bye" {
		t.Fatalf("logout leads to %v", at)
	}
	if resp, at := b.get(at.String()); resp.StatusCode != http.StatusSeeOther || at.Path != "/" {
		t.Errorf("status %d to %v", resp.StatusCode, at)
	}
}
