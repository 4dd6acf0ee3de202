package authtrip_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestRule49SignedUserInfo(t *testing.T) {
	verify := func(_ context.Context, raw string) ([]byte, error) {
		if raw != "a signed jwt" {
			return nil, errors.New("signature is wrong")
		}
		return []byte(`{"sub":"alice","name":"Alice"}`), nil
	}
	for name, c := range map[string]struct {
		verify func(context.Context, string) ([]byte, error)
		body   string
		want   string // in the error; "" if there is none
	}{
		"no verifier":  {nil, "a signed jwt", "UserInfoSource.VerifyJWT"},
		"verified":     {verify, "a signed jwt", ""},
		"not verified": {verify, "a forged jwt", "signature is wrong"},
		"of another user": {
			func(context.Context, string) ([]byte, error) { return []byte(`{"sub":"mallory"}`), nil },
			"a signed jwt", "sub is not",
		},
		"verifier panics": {func(context.Context, string) ([]byte, error) { panic("mine") }, "a signed jwt", "panic"},
		"verifier hangs":  {func(context.Context, string) ([]byte, error) { wait(time.Hour); return nil, nil }, "a signed jwt", "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &spyCache{}
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.VerifyJWT, u.Cache = c.verify, cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				r.srv.FailAlways(authtriptest.UserInfoPath, answers("application/jwt", c.body))
				if c.want == "" {
					wantUser(t, info, "alice")
					return
				}
				for range 100 { // paced, whatever it was
					_, err := info.UserInfo(t.Context())
					wantSafe(t, err, c.body)
					if !strings.Contains(err.Error(), c.want) {
						t.Errorf("error = %v, want it to say %q", err, c.want)
					}
				}
				r.wantFetches(t, 1)
				wait(time.Hour) // until what hangs has ended
				if n := cache.len(); n != 0 {
					t.Errorf("%d entries in the Cache, want none", n)
				}
			})
		})
	}
}

func TestAnswersThatAreNoUserInfo(t *testing.T) {
	for name, c := range map[string]struct {
		fault authtriptest.Fault
		want  string
	}{
		"html":            {answers("text/html", "<html>secret</html>"), "Content-Type is text/html"},
		"plain text":      {authtriptest.Fault{Body: `{"sub":"alice"}`}, "Content-Type is text/plain"},
		"no type":         {answers("", `{"sub":"alice"}`), "Content-Type is missing"},
		"a list":          {answers("application/json", `[{"sub":"alice"}]`), "not a JSON object"},
		"half an object":  {answers("application/json", `{"sub":"alice"`), "not a JSON object"},
		"two objects":     {answers("application/json", `{"sub":"alice"}{}`), "not a JSON object"},
		"nothing":         {authtriptest.Fault{Status: http.StatusNoContent}, "want status 200"},
		"other success":   {authtriptest.Fault{Status: http.StatusAccepted}, "want status 200"},
		"half the answer": {authtriptest.Fault{Truncate: true}, "unexpected EOF"},
		"forbidden":       {authtriptest.Fault{Status: http.StatusForbidden}, "scope openid"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &spyCache{}
			infoInBubble(t, func(u *authtrip.UserInfoSource) { u.Cache = cache }, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				r.srv.FailAlways(authtriptest.UserInfoPath, c.fault)
				_, err := info.UserInfo(t.Context())
				if _, ok := errors.AsType[*authtrip.UserInfoError](err); !ok || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error = %v, want a UserInfoError that says %q", err, c.want)
				}
				wantSafe(t, err, "secret", r.src.Initial.AccessToken)
				if n := cache.len(); n != 0 {
					t.Errorf("%d entries in the Cache, want none", n)
				}
			})
		})
	}
}

func TestHugeUserInfoIsCutAtTheLimit(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		var read atomic.Int64
		info := newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.Base = roundTripFunc(func(req *http.Request) (*http.Response, error) {
				resp, err := r.net.RoundTrip(req)
				if err == nil {
					resp.Body = &countingBody{resp.Body, &read}
				}
				return resp, err
			})
		})
		huge := answers("application/json", " ")
		huge.BodySize = 2 << 30
		r.srv.Fail(authtriptest.UserInfoPath, huge)
		_, err := info.UserInfo(t.Context())
		if err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("error = %v, want one of the size", err)
		}
		if n := read.Load(); n > 2<<20 {
			t.Errorf("%d bytes were read", n)
		}
	})
}

type countingBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

func TestRule20UserInfoDoesNotFollowRedirects(t *testing.T) {
	for _, to := range []string{"https://evil.example/", asURL + "/elsewhere", "http://as.example/userinfo"} {
		for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
			infoInBubble(t, nil, func(t *testing.T, r *rig, info *authtrip.UserInfoSource) {
				var requests atomic.Int32
				evil := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) })
				r.net.Handle("https://evil.example", evil)
				r.net.Handle("http://as.example", evil)
				r.srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: status, Header: http.Header{"Location": {to}}})
				_, err := info.UserInfo(t.Context())
				wantStatus(t, err, status)
				if !strings.Contains(err.Error(), "UserInfoSource.URL") {
					t.Errorf("error = %v, want it to say what to set", err)
				}
				if n := requests.Load(); n != 0 {
					t.Errorf("%d requests to %s", n, to)
				}
				r.wantFetches(t, 1)
			})
		}
	}
}

func TestUserInfoConfigurationMistakesNameTheField(t *testing.T) {
	src := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret"})
	typed := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret", TokenType: "mac"})
	for name, c := range map[string]struct {
		info *authtrip.UserInfoSource
		want string
	}{
		"nothing":       {&authtrip.UserInfoSource{}, "UserInfoSource.Source is nil"},
		"no source":     {&authtrip.UserInfoSource{URL: userInfoURL}, "UserInfoSource.Source is nil"},
		"no URL":        {&authtrip.UserInfoSource{Source: src}, "UserInfoSource.URL is empty"},
		"a path":        {&authtrip.UserInfoSource{Source: src, URL: "/userinfo"}, "UserInfoSource.URL is not"},
		"no URL at all": {&authtrip.UserInfoSource{Source: src, URL: "https://%zz"}, "UserInfoSource.URL is not"},
		"another kind":  {&authtrip.UserInfoSource{Source: src, URL: "ftp://as.example"}, "UserInfoSource.URL is not"},
		"a password":    {&authtrip.UserInfoSource{Source: src, URL: "https://user:pass@as.example"}, "UserInfoSource.URL must have no user"},
		"plain http":    {&authtrip.UserInfoSource{Source: src, URL: "http://as.example/userinfo"}, "UserInfoSource.URL is plain http"},
		"no subject":    {&authtrip.UserInfoSource{Source: src, URL: userInfoURL}, "UserInfoSource.Subject is empty"},
		"token type":    {&authtrip.UserInfoSource{Source: typed, URL: userInfoURL, Subject: "alice"}, "want Bearer"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second one too
				_, err := c.info.UserInfo(t.Context())
				wantSafe(t, err, "secret", "pass")
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error = %v, want it to say %q", err, c.want)
				}
			}
			if err := c.info.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUserInfoGoesOverPlainHTTPWhereThatIsNamed(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, r *rig, _ *authtrip.UserInfoSource) {
		r.net.Handle("http://inner.example", r.srv)
		wantUser(t, newInfo(t, r, func(u *authtrip.UserInfoSource) {
			u.URL, u.AllowInsecureHTTP = "http://inner.example"+authtriptest.UserInfoPath, true
		}), "alice")
	})
}

func TestUserInfoEndpointIsLookedUpWhenItIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rotating(time.Hour), nil)
		found, asked := "", 0
		info := &authtrip.UserInfoSource{Source: r.src, Base: r.net, FindURL: func(context.Context) (string, error) {
			asked++
			if found == "" {
				return "", errStoreDown
			}
			return found, nil
		}}
		defer info.Close()
		_, err := info.UserInfo(t.Context())
		wantIs(t, err, errStoreDown)
		found = "http://as.example/userinfo"
		wait(time.Minute)
		if _, err = info.UserInfo(t.Context()); err == nil || !strings.Contains(err.Error(), "FindURL is plain http") {
			t.Errorf("plain http: %v, want an error that says so", err)
		}
		found = userInfoURL
		wait(time.Minute)
		for range 3 {
			if user, err := info.UserInfo(t.Context()); err != nil || user.Subject != "alice" {
				t.Errorf("UserInfo() = %v, %v", user, err)
			}
		}
		if asked != 3 {
			t.Errorf("FindURL was called %d times, want once for each request", asked)
		}
	})
}
