package measure_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/authtriptest"
	"example.com/authtrip/login"
	"example.com/authtrip/probe/internal/site"
	"example.com/authtrip/probe/measure"
)

// bubble runs f where time passes at once.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// member returns what was found of a member of the metadata.
func member(all []measure.Promise, name string) string {
	i := slices.IndexFunc(all, func(p measure.Promise) bool { return p.Member == name })
	if i < 0 {
		return ""
	}
	return all[i].Found
}

// TestPromisesThatAreNotKept: the metadata says what is not so, and the run goes on without it.
func TestPromisesThatAreNotKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := run(t, &site.Site{
			Server: &authtriptest.Server{Rotate: true}, NoPKCE: true, NoIss: true, NoPAR: true,
			Metadata: func(m map[string]any) {
				m["revocation_endpoint"] = issuer + "/nowhere"
				m["introspection_endpoint"] = issuer + "/nowhere"
				m["shop_endpoint"] = issuer + "/shop"
			},
		}, nil)
		for name, want := range map[string]string{
			"code_challenge_methods_supported":               "a wrong verifier is accepted",
			"authorization_response_iss_parameter_supported": "the response has no iss",
			"pushed_authorization_request_endpoint":          "404",
			"revocation_endpoint":                            "404",
			"introspection_endpoint":                         "404",
		} {
			if found := member(r.Metadata.Broken, name); !strings.HasPrefix(found, want) {
				t.Errorf("%s: found %q, want %q", name, found, want)
			}
		}
		if r.Request.PKCE != measure.No || r.Request.Iss != measure.No || r.Request.Pushed != measure.No || r.Revoke.Works != measure.No {
			t.Errorf("found %+v", r.Request)
		}
		if !slices.Equal(r.Metadata.Own, []string{"shop_endpoint"}) {
			t.Errorf("members of its own: %v", r.Metadata.Own)
		}
		if strings.Contains(r.Literal(), "PushRequests") {
			t.Error("the settings push requests")
		}
	})
}

// TestWhatWorksAndIsNotListed: PKCE that is checked in spite of a list without it, iss, and a
// client authentication.
func TestWhatWorksAndIsNotListed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := run(t, &site.Site{
			Server: &authtriptest.Server{},
			Metadata: func(m map[string]any) {
				m["code_challenge_methods_supported"] = []string{"plain"}
				delete(m, "authorization_response_iss_parameter_supported")
				m["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
				m["grant_types_supported"] = []string{"authorization_code"}
			},
		}, nil)
		for _, name := range []string{
			"code_challenge_methods_supported", "authorization_response_iss_parameter_supported",
			"token_endpoint_auth_methods_supported", "grant_types_supported",
		} {
			if member(r.Metadata.Silent, name) == "" {
				t.Errorf("%s: nothing found", name)
			}
		}
		if r.Request.PKCE != measure.Yes || r.Client.Works != "client_secret_post" {
			t.Errorf("PKCE %q, client authentication %q", r.Request.PKCE, r.Client.Works)
		}
	})
}

// TestClientAuthenticationIsFound: one method of several, without a session for it.
func TestClientAuthenticationIsFound(t *testing.T) {
	for _, only := range []string{"client_secret_basic", "client_secret_post"} {
		bubble(t, func(t *testing.T) {
			r := run(t, &site.Site{Server: &authtriptest.Server{}, Methods: []string{only}}, nil)
			if r.Client.Works != only || r.Client.Checked != measure.Yes {
				t.Errorf("found %q, checked %q", r.Client.Works, r.Client.Checked)
			}
			for _, m := range r.Client.Methods {
				if want := m.Method == only; m.Works == measure.Yes != want && m.Works != "" {
					t.Errorf("%s: works %q", m.Method, m.Works)
				}
			}
			if !strings.Contains(folded(r.Literal()), "AuthMethod: \""+only+"\"") {
				t.Error("it is not in the settings")
			}
		})
	}
}

// TestClockDifferenceIsFound, and the settings allow for it.
func TestClockDifferenceIsFound(t *testing.T) {
	for ahead, set := range map[time.Duration]string{
		90 * time.Second: "ClockSkew: 2 * time.Minute", -5 * time.Minute: "ClockSkew: 330 * time.Second", 5 * time.Second: "",
	} {
		bubble(t, func(t *testing.T) {
			r := run(t, &site.Site{Server: &authtriptest.Server{}, Ahead: ahead}, nil)
			for _, c := range r.Clocks {
				if off := c.Ahead.Duration() - ahead; off.Abs() > time.Second {
					t.Errorf("%s: found %v, want %v", c.Host, c.Ahead, ahead)
				}
			}
			if len(r.Clocks) != 2 || set == "" == strings.Contains(r.Literal(), "ClockSkew") || !strings.Contains(folded(r.Literal()), set) {
				t.Errorf("with %v the settings are\n%s", ahead, r.Literal())
			}
		})
	}
}

// TestLimitsAndMembersOfItsOwn: header fields, members of the token response, and no value.
func TestLimitsAndMembersOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := run(t, &site.Site{
			Server: &authtriptest.Server{Claims: func(string) map[string]any {
				return map[string]any{"name": site.User, "shoe_size": 42}
			}},
			Member: "instance_url",
			Header: http.Header{"X-Ratelimit-Limit": {"100"}, "X-Ratelimit-Remaining": {"7"}, "Ratelimit-Policy": {"100;w=60"}},
		}, nil)
		if !slices.Contains(r.RateLimits, measure.RateLimit{Host: "as.example", Header: "X-Ratelimit-Limit", Value: "100"}) || len(r.RateLimits) != 4 {
			t.Errorf("limits: %v", r.RateLimits)
		}
		if !slices.Equal(r.Tokens.Own, []string{"instance_url"}) || !slices.Equal(r.UserInfo.Own, []string{"shoe_size"}) {
			t.Errorf("members: %v, %v", r.Tokens.Own, r.UserInfo.Own)
		}
		if r.UserInfo.SubFits != measure.Yes || !slices.Equal(r.UserInfo.Members, []string{"name", "sub"}) {
			t.Errorf("user info: %+v", r.UserInfo)
		}
	})
}

// TestUserInfoOfAnotherUser is found, and nothing of it printed.
func TestUserInfoOfAnotherUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &site.Site{Server: &authtriptest.Server{}}
		s.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{JSON: map[string]any{"sub": "mallory"}})
		r := run(t, s, nil)
		if r.UserInfo.SubFits != measure.No {
			t.Errorf("sub fits: %q", r.UserInfo.SubFits)
		}
	})
}

// TestAnswersOfAnAPI: to no token, a made-up one, an expired and a revoked one, as APIs do it.
func TestAnswersOfAnAPI(t *testing.T) {
	replaced := func(status int, challenge string) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got := &status401{ResponseWriter: w, status: status, challenge: challenge}
				next.ServeHTTP(got, r)
			})
		}
	}
	for _, c := range []struct {
		name                  string
		api                   func(http.Handler) http.Handler
		none, madeUp, expired string
		blind                 bool
		advice                string
	}{
		{name: "as RFC 6750 has it", none: "401, Bearer", madeUp: "401, Bearer invalid_token", expired: "401, Bearer invalid_token"},
		{
			name: "401 without a challenge", api: replaced(401, ""),
			none: "401, no challenge", madeUp: "401, no challenge", expired: "401, no challenge",
		},
		{
			name: "403", api: replaced(403, ""),
			none: "403, no challenge", madeUp: "403, no challenge", expired: "403, no challenge", advice: "with 403",
		},
		{
			name: "200 that means no", api: replaced(200, ""), blind: true,
			none: "200, no challenge", madeUp: "200, no challenge", expired: "200, no challenge", advice: "authtrip.Retry",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := &site.Site{Server: &authtriptest.Server{Lifetime: 20 * time.Second, RevokeOnRefresh: true}, API: c.api}
				r := run(t, s, nil)
				for what, pair := range map[string][2]string{
					"no token": {r.API.None.String(), c.none}, "made up": {r.API.MadeUp.String(), c.madeUp},
					"expired": {r.API.Expired.String(), c.expired}, "revoked": {r.API.Revoked.String(), c.expired},
					"good": {r.API.Good.String(), "200, no challenge"},
				} {
					if pair[0] != pair[1] {
						t.Errorf("%s: found %q, want %q", what, pair[0], pair[1])
					}
				}
				if r.API.Blind != c.blind || !strings.Contains(r.Literal(), c.advice) {
					t.Errorf("blind: %v\n%s", r.API.Blind, r.Literal())
				}
				// Where the API cannot tell, user info does.
				if r.Refresh.OldAccessDies != measure.Yes {
					t.Errorf("the old access token dies: %q", r.Refresh.OldAccessDies)
				}
			})
		})
	}
}

// status401 writes another status and challenge in the place of a 401.
type status401 struct {
	http.ResponseWriter
	status    int
	challenge string
}

func (w *status401) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		w.Header().Del("WWW-Authenticate")
		if w.challenge != "" {
			w.Header().Set("WWW-Authenticate", w.challenge)
		}
		status = w.status
	}
	w.ResponseWriter.WriteHeader(status)
}

// TestNoRefreshToken: what can be found is found, and the rest is said to be missing.
func TestNoRefreshToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &site.Site{Server: &authtriptest.Server{}, NoRefreshToken: true}
		r := run(t, s, nil)
		if r.Tokens.RefreshToken != measure.No || r.Refresh.Works != "" || len(r.NotFound) == 0 {
			t.Errorf("found %+v", r.Refresh)
		}
		if !strings.Contains(r.Literal(), "no refresh token came") {
			t.Error("the settings do not say so")
		}
	})
}

// TestLoginThatFails: the report has what was found before.
func TestLoginThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := probe(t, &site.Site{Server: &authtriptest.Server{}})
		p.Authorize = func(_ context.Context, at string) (*url.URL, error) {
			asked, err := url.Parse(at)
			if err != nil {
				return nil, err
			}
			back := url.Values{"error": {"access_denied"}, "state": {asked.Query().Get("state")}, "iss": {issuer}}
			return url.Parse("http://127.0.0.1:9/callback?" + back.Encode())
		}
		r, err := p.Run(t.Context())
		if _, ok := errors.AsType[*login.AuthorizationError](err); !ok || r.Client.Works == "" {
			t.Errorf("error %v, client authentication %q", err, r.Client.Works)
		}
	})
}

// TestRequestsAreLimited: no more requests than are allowed, whatever comes.
func TestRequestsAreLimited(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: time.Minute}}
		p := probe(t, s)
		p.RequestLimit = 20
		r, _ := p.Run(t.Context())
		if n := s.Counts(); r.Requests > 20 || n.Token+n.API+n.UserInfo+n.Revocations > 20 {
			t.Errorf("%d requests", r.Requests)
		}
	})
}

// TestTokenEndpointThatFails: what nobody knows is not said.
func TestTokenEndpointThatFails(t *testing.T) {
	for _, f := range []authtriptest.Fault{{Status: 503}, {Status: 429}, {Reset: true}} {
		bubble(t, func(t *testing.T) {
			s := &site.Site{Server: &authtriptest.Server{Rotate: true}}
			p := probe(t, s)
			p.Allow = func(_ context.Context, step measure.Step) bool {
				if step.Name == "reuse" {
					// The first refresh of this step goes through, the reuse does not.
					s.Fail(authtriptest.TokenPath, authtriptest.Fault{}, f, f, f, f)
				}
				return true
			}
			r, err := p.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Refresh.Rotates != measure.Yes || r.Refresh.Grace != "" || r.Refresh.ReuseEndsSession != "" {
				t.Errorf("status %d: found %+v", f.Status, r.Refresh)
			}
			if strings.Contains(r.Literal(), "GracePeriod") {
				t.Error("the settings have a GracePeriod")
			}
		})
	}
}

func TestPlainHTTPAPIGetsNoToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := probe(t, &site.Site{Server: &authtriptest.Server{}})
		p.API = "http://api.example/api"
		if _, err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Probe.API is plain http") {
			t.Errorf("error %v", err)
		}
	})
}

// TestLoginThatEndsTheSessionBefore is dex: with one refresh token for a user and a client, the
// sessions of a search end one another, so that there is one at a time.
func TestLoginThatEndsTheSessionBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		grace := 10 * time.Second
		s := &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: grace}, OneSession: true}
		r := run(t, s, nil)
		f := r.Refresh
		if f.LoginEndsOthers != measure.Yes || !strings.Contains(r.Literal(), "A further login") {
			t.Errorf("another login ends others: %q", f.LoginEndsOthers)
		}
		if f.Grace != measure.Yes || f.AcceptedAfter.Duration() > grace || f.RefusedAfter.Duration() < grace || f.RefusedAfter > 20 {
			t.Errorf("grace: found %v to %v", f.AcceptedAfter, f.RefusedAfter)
		}
	})
}

// TestSlowServer: the bounds of a grace period hold whatever an answer takes, and a run still
// takes less than two minutes.
func TestSlowServer(t *testing.T) {
	for _, grace := range []time.Duration{10 * time.Second, time.Minute} {
		bubble(t, func(t *testing.T) {
			s := &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: grace}}
			for _, path := range []string{authtriptest.TokenPath, authtriptest.APIPath, authtriptest.UserInfoPath, authtriptest.RevokePath} {
				s.FailAlways(path, authtriptest.Fault{Delay: 400 * time.Millisecond})
			}
			f := run(t, s, nil).Refresh
			lo, hi := f.AcceptedAfter.Duration(), f.RefusedAfter.Duration()
			if f.Grace != measure.Yes || lo > grace || hi < grace || hi-lo > 8*time.Second {
				t.Errorf("found %v to %v, want %v", lo, hi, grace)
			}
		})
	}
}
