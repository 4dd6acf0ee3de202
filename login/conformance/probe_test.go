package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/login"
	"example.com/authtrip/probe/measure"
)

// A probed is a server as it is configured here, and what the probe has to find.
type probed struct {
	server *server
	row    string // its name in docs/providers.md
	want   func(r *measure.Report) []found
}

// found is one row of the table of what was expected and found.
type found struct {
	what      string
	got, want any
}

// probe runs the probe against a server, whose user logs in as in the other tests.
func (p probed) probe(t *testing.T) {
	s := p.server
	client := *s.client
	client.RedirectURL, client.Scopes = redirectURL, s.request.Scopes
	secrets := []string{client.Secret, url.QueryEscape(client.Secret)}
	if s.name != "" {
		secrets = append(secrets, s.name)
	}
	var lines bytes.Buffer
	run := &measure.Probe{
		Client:   &client,
		Request:  s.request,
		Progress: func(line string) { lines.WriteString(line + "\n") },
		Authorize: func(_ context.Context, at string) (*url.URL, error) {
			back, _ := s.browser(t).visit(at, redirectURL)
			u, err := url.Parse(back)
			if err == nil {
				secrets = append(secrets, u.Query().Get("code"), u.Query().Get("state"))
			}
			return u, err
		},
	}
	began := time.Now()
	r, err := run.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("it took %s", took)
	}
	var out bytes.Buffer
	if err = r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	out.WriteString(r.Literal())
	doc, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	row := r.MarkdownRow(p.row)
	printed := lines.String() + out.String() + string(doc) + row
	for _, word := range secrets {
		if word != "" && strings.Contains(printed, word) {
			t.Error("a secret is printed")
		}
	}
	for _, f := range p.want(r) {
		if f.got != f.want {
			t.Errorf("%s: found %v, want %v", f.what, f.got, f.want)
		}
	}
	page, err := os.ReadFile("../../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), row+"\n") {
		t.Errorf("docs/providers.md does not have the row:\n%s", row)
	}
	t.Logf("\n%s\n%s", lines.String(), out.String())
}

func TestProbeZitadel(t *testing.T) {
	t.Parallel()
	s, _ := newZitadel(t)
	probed{s, "zitadel/oidc 3.51.17, its example", func(r *measure.Report) []found {
		return []found{
			{"rotation", r.Refresh.Rotates, measure.Yes},
			{"grace", r.Refresh.Grace, measure.No},
			{"PKCE", r.Request.PKCE, measure.Yes},
			{"old access token", r.Refresh.OldAccessDies, measure.Yes},
			{"reuse ends the session", r.Refresh.ReuseEndsSession, measure.No},
			{"sub", r.UserInfo.SubFits, measure.Yes},
			{"user info to a revoked token", r.UserInfoReplies.Revoked.String(), "403, no challenge"},
		}
	}}.probe(t)
}

// TestProbeZitadelDevice: a login on another device, and client credentials. The device's client
// gets no refresh token.
func TestProbeZitadelDevice(t *testing.T) {
	t.Parallel()
	s, st := newZitadel(t)
	run := &measure.Probe{
		Client: &login.Client{Provider: s.client.Provider, ID: "device", Secret: "secret", Scopes: []string{"openid"}},
		Device: func(ctx context.Context, d *oauth2.DeviceAuthResponse) error {
			d.Interval = 1
			return st.CompleteDeviceAuthorization(ctx, d.UserCode, "id1")
		},
	}
	r, err := run.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Login != "device_code" || r.Tokens.RefreshToken != measure.No || r.UserInfo.SubFits != measure.Yes || r.Logins != 1 {
		t.Errorf("found %+v, %+v", r.Tokens, r.UserInfo)
	}
	own := &measure.Probe{Client: &login.Client{Provider: s.client.Provider, ID: "sid1", Secret: "verysecret", Scopes: []string{"openid"}}}
	if r, err = own.Run(t.Context()); err != nil || r.Tokens.AccessSeconds == 0 || r.Client.Works == "" {
		t.Errorf("client credentials: %v, %+v", err, r.Client)
	}
}

// TestProbeDex: dex keeps one refresh token for a user and a client, so that another login
// ends the session before. It does not know PKCE yet.
func TestProbeDex(t *testing.T) {
	t.Parallel()
	probed{newDex(t), "dex 2.13.0", func(r *measure.Report) []found {
		return []found{
			{"rotation", r.Refresh.Rotates, measure.Yes},
			{"grace", r.Refresh.Grace, measure.No},
			{"PKCE", r.Request.PKCE, measure.No},
			{"another login", r.Refresh.LoginEndsOthers, measure.Yes},
		}
	}}.probe(t)
}

// TestProbePanva: oidc-provider with and without rotation, and with access tokens whose end can
// be waited for.
func TestProbePanva(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil && os.Getenv("CI") == "" {
		t.Log("left out: oidc-provider needs Node.js and npm, which are not installed here")
		return
	}
	for _, c := range []struct {
		name     string
		settings map[string]any
		want     func(r *measure.Report) []found
	}{
		{"rotateRefreshToken: true", map[string]any{"accessTokenTTL": 300}, func(r *measure.Report) []found {
			return []found{
				{"rotation", r.Refresh.Rotates, measure.Yes},
				{"grace", r.Refresh.Grace, measure.No},
				{"reuse ends the session", r.Refresh.ReuseEndsSession, measure.Yes},
			}
		}},
		{"rotateRefreshToken: false", map[string]any{"accessTokenTTL": 30, "rotate": false}, func(r *measure.Report) []found {
			return []found{
				{"rotation", r.Refresh.Rotates, measure.No},
				{"access token", r.Tokens.AccessSeconds.Duration(), 30 * time.Second},
				{"user info to an expired token", r.UserInfoReplies.Expired.String(), "401, Bearer invalid_token"},
				{"user info accepts it late", r.UserInfoReplies.AcceptedLate > 1, true},
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			provider, p, _ := newPanvaWith(t, c.settings)
			s := &server{
				client:  &login.Client{Provider: provider, ID: "client_secret_basic", Secret: panvaSecret, RedirectURL: redirectURL},
				request: &login.AuthRequest{Scopes: []string{"openid", "email", "offline_access"}, Prompt: "consent"},
				name:    "alice", password: "any", places: p,
			}
			all := func(r *measure.Report) []found {
				return append(c.want(r), []found{
					{"PKCE", r.Request.PKCE, measure.Yes},
					{"pushed requests", r.Request.Pushed, measure.Yes},
					{"iss", r.Request.Iss, measure.Yes},
					{"client authentication", r.Client.Works, "client_secret_basic"},
					{"methods that work", len(working(r)), 2},
					{"revocation", r.Revoke.Works, measure.Yes},
				}...)
			}
			probed{s, "oidc-provider 9.13.3, `" + c.name + "`", all}.probe(t)
		})
	}
}

// working are the methods that work: oidc-provider takes the secret of a client that is registered
// for client_secret_basic in the form, too.
func working(r *measure.Report) (methods []string) {
	for _, m := range r.Client.Methods {
		if m.Works == measure.Yes {
			methods = append(methods, m.Method)
		}
	}
	return methods
}
