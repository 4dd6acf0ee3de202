package login_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"example.com/authtrip/login"
)

const (
	tenantOne = "11111111-2222-3333-4444-555555555555"
	tenantTwo = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
)

// An application of many tenants logs in users of each at a server whose issuer is
// another one for each, and of no other.
func TestTenantIssuer(t *testing.T) {
	t.Parallel()
	const template = issuer + "/{tenantid}/v2.0"
	for name, tt := range map[string]struct {
		iss, tid any
		check    string
	}{
		"of the tenant":            {issuer + "/" + tenantOne + "/v2.0", tenantOne, ""},
		"of another tenant":        {issuer + "/" + tenantTwo + "/v2.0", tenantOne, "id_token iss"},
		"of a tenant not taken":    {issuer + "/" + tenantTwo + "/v2.0", tenantTwo, "id_token iss"},
		"the placeholder itself":   {template, "{tenantid}", "id_token iss"},
		"no tid":                   {issuer + "/" + tenantOne + "/v2.0", nil, "id_token iss"},
		"a tid that is a path":     {"https://evil.example/x/v2.0", "x", "id_token iss"},
		"the server's own":         {issuer + "/common", tenantOne, "id_token iss"},
		"another server":           {"https://evil.example/" + tenantOne + "/v2.0", tenantOne, "id_token iss"},
		"a tid in capitals, alone": {issuer + "/" + tenantOne + "/v2.0", strings.ToUpper(tenantTwo), "id_token iss"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.issuer = issuer + "/common"
			o.handle["/common"+wellKnown] = func(w http.ResponseWriter, _ *http.Request) { o.serveMetadata(w) }
			o.metadata = func(m map[string]any) {
				m["issuer"] = template
				for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
					m[name] = strings.Replace(m[name].(string), "/common", "", 1)
				}
			}
			o.claims = func(c map[string]any) {
				if c["iss"], c["tid"] = tt.iss, tt.tid; tt.tid == nil {
					delete(c, "tid")
				}
			}
			c := o.client()
			c.Provider.TenantIssuer = template
			if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Provider.Tenants") {
				t.Fatalf("without Tenants: %v", err)
			}
			c.Provider.Tenants = func(tenant string) bool { return tenant == tenantOne }
			asked, tx := begin(t, c, nil)
			q := o.consent(asked)
			q.Del("iss") // as this server does
			s, err := c.Exchange(t.Context(), tx, callback(q))
			if tt.check != "" {
				wantCheck(t, err, tt.check)
				return
			}
			if err != nil || s.IDToken.Issuer != tt.iss {
				t.Fatalf("error = %v", err)
			}
			if _, err := c.RefreshToken().Refresh(t.Context(), s.Token); err != nil {
				t.Errorf("refresh: %v", err)
			}
			// The user of the other tenant is another user.
			o.claims = func(c map[string]any) { c["iss"], c["tid"] = issuer+"/"+tenantTwo+"/v2.0", tenantTwo }
			c.Provider.Tenants = func(string) bool { return true }
			if _, err := c.RefreshToken().Refresh(t.Context(), s.Token); err == nil {
				t.Error("a refresh took the user of another tenant")
			}
		})
	}
}

// One Handlers serves several servers; the login that was begun says at the callback
// which one it is.
func TestHandlersOfManyIssuers(t *testing.T) {
	t.Parallel()
	one, two := newOP(t), newOP(t)
	two.issuer = "https://two.example"
	one.network.Handle(two.issuer, two)
	two.network = one.network
	clients := map[string]*login.Client{one.issuer: one.client(), two.issuer: two.client()}
	h := &login.Handlers{Clients: func(r *http.Request, tx *login.Transaction) (*login.Client, error) {
		if tx != nil {
			return clients[tx.Issuer], nil
		}
		return clients["https://"+r.URL.Query().Get("at")], nil
	}}
	var issuers []string
	app := newWeb(one, h)
	h.OnLogin = func(_ http.ResponseWriter, _ *http.Request, s *login.Session) error {
		issuers = append(issuers, s.IDToken.Issuer)
		return nil
	}
	b := newBrowser(t, one)
	_, first := b.get("https://app.example/login?at=as.example")
	_, second := b.get("https://app.example/login?at=two.example")
	if first.Host != "as.example" || second.Host != "two.example" {
		t.Fatalf("led to %s and %s", first.Host, second.Host)
	}
	// In the other order, each at its own server.
	b.get(callback(two.consent(second.Query())))
	b.get(callback(one.consent(first.Query())))
	if !slices.Equal(issuers, []string{two.issuer, one.issuer}) {
		t.Errorf("issuers = %q, %v", issuers, app.failed)
	}
	// A response of the one for a login at the other is refused.
	_, first = b.get("https://app.example/login?at=as.example")
	q := two.consent(first.Query())
	if resp, _ := b.get(callback(q)); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("mixed up: status %d", resp.StatusCode)
	}
	if resp, _ := b.get("https://app.example/login?at=evil.example"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("no such server: status %d", resp.StatusCode)
	}
}

// A login that another site begins goes to the server that it names, if that is ours.
func TestThirdPartyInitiatedLogin(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		q      url.Values
		status int
		back   string
	}{
		"right":                {url.Values{"iss": {issuer}, "login_hint": {"alice"}, "target_link_uri": {"https://app.example/inbox?x=1"}}, http.StatusSeeOther, "/inbox?x=1"},
		"elsewhere in the end": {url.Values{"iss": {issuer}, "target_link_uri": {"https://evil.example/inbox"}}, http.StatusSeeOther, "/"},
		"another port":         {url.Values{"iss": {issuer}, "target_link_uri": {"https://app.example:8443/inbox"}}, http.StatusSeeOther, "/"},
		"another server":       {url.Values{"iss": {"https://evil.example"}}, http.StatusBadRequest, ""},
		"no server":            {url.Values{}, http.StatusBadRequest, ""},
		"two servers":          {url.Values{"iss": {issuer, "https://evil.example"}}, http.StatusBadRequest, ""},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			o := newOP(t)
			h := &login.Handlers{}
			newWeb(o, h)
			r := httptest.NewRequest(method, "/initiate?"+tt.q.Encode(), nil)
			if method == http.MethodPost {
				r = httptest.NewRequest(method, "/initiate", strings.NewReader(tt.q.Encode()))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			w := httptest.NewRecorder()
			h.Initiate(w, r)
			if w.Code != tt.status {
				t.Errorf("%s, %s: status %d", name, method, w.Code)
			}
			if w.Code != http.StatusSeeOther {
				continue
			}
			at, _ := w.Result().Location()
			if at.Query().Get("login_hint") != tt.q.Get("login_hint") {
				t.Errorf("%s: login_hint = %q", name, at.Query().Get("login_hint"))
			}
			back := httptest.NewRequest(http.MethodGet, "/callback?"+o.consent(at.Query()).Encode(), nil)
			back.AddCookie(w.Result().Cookies()[0])
			w = httptest.NewRecorder()
			if h.Callback(w, back); w.Header().Get("Location") != tt.back {
				t.Errorf("%s: led to %q, want %q", name, w.Header().Get("Location"), tt.back)
			}
		}
	}
}

// There are Max providers at most; one that is asked for stays the same.
func TestProvidersAreBounded(t *testing.T) {
	t.Parallel()
	made := 0
	ps := &login.Providers{Max: 2, New: func(iss string) (*login.Provider, error) {
		if strings.Contains(iss, "evil") {
			return nil, errors.New("not trusted")
		}
		made++
		return &login.Provider{Issuer: iss}, nil
	}}
	get := func(iss string) *login.Provider {
		p, err := ps.Provider(iss)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := get("https://a.example")
	get("https://b.example")
	if get("https://a.example") != a || made != 2 {
		t.Errorf("made %d, want 2", made)
	}
	get("https://c.example") // b is forgotten
	if get("https://a.example") != a || made != 3 {
		t.Errorf("made %d, want 3", made)
	}
	if get("https://b.example"); made != 4 {
		t.Errorf("made %d, want 4", made)
	}
	for _, bad := range []string{"https://evil.example", "http://x.example", ""} {
		if _, err := ps.Provider(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if p, err := new(login.Providers).Provider(issuer); err != nil || p.Issuer != issuer {
		t.Errorf("the zero value: %v", err)
	}
}

// The check is for those with handlers of their own, too.
func TestIsLocalPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/": true, "/inbox?page=2#x": true, "//evil.example": false, "/\\evil.example": false, "https://evil.example": false,
		"": false, "inbox": false, "/\t/evil.example": false, "/a//b": true,
	} {
		if got := login.IsLocalPath(path); got != want {
			t.Errorf("IsLocalPath(%q) = %v", path, got)
		}
	}
}
