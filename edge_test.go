package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// rejecting is a base that rejects the first request, or as many as it is told, and answers others with 200.
type rejecting struct {
	mu        sync.Mutex
	times     int
	challenge string
	status    int // 401 if 0
	body      func() io.ReadCloser
	sent      []string // the Authorization of each request
}

func (r *rejecting) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
		_, _ = io.Copy(io.Discard, req.Body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, req.Header.Get("Authorization"))
	if len(r.sent) > r.times {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}
	resp := &http.Response{StatusCode: r.status, Header: http.Header{"Www-Authenticate": {r.challenge}}}
	if r.status == 0 {
		resp.StatusCode = http.StatusUnauthorized
	}
	if r.body != nil {
		resp.Body = r.body()
	}
	return resp, nil
}

// counting is a source of another token each time.
func counting() oauth2.TokenSource {
	var n atomic.Int32
	return tokenSourceFunc(func() (*oauth2.Token, error) {
		return &oauth2.Token{AccessToken: fmt.Sprintf("t%d", n.Add(1))}, nil
	})
}

func newGet(ctx context.Context, t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// TestTokenThatChangesInPlaceIsSentAsItIs: a source that keeps one *oauth2.Token and changes it had its
// first access token sent for ever.
func TestTokenThatChangesInPlaceIsSentAsItIs(t *testing.T) {
	tok := new(oauth2.Token)
	base := new(rejecting)
	tr := &authtrip.Transport{Base: base, Source: tokenSourceFunc(func() (*oauth2.Token, error) { return tok, nil })}
	for _, tok.AccessToken = range []string{"first", "second"} {
		if _, err := tr.RoundTrip(newGet(t.Context(), t, "https://api.example/")); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fmt.Sprint(base.sent), "[Bearer first Bearer second]"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

// TestTokenTypesOfAThirdPartySource: x/oauth2 sends any type as the scheme; here it is those of which the
// token is all that the scheme wants.
func TestTokenTypesOfAThirdPartySource(t *testing.T) {
	for typ, want := range map[string]string{
		"": "Bearer x", "bearer": "Bearer x", "BEARER": "Bearer x", "token": "token x", "OAuth": "OAuth x", "basic": "Basic x",
		"mac": "", "hmac": "", "DPoP": "", "N_A": "", "other": "",
	} {
		base := new(rejecting)
		tr := &authtrip.Transport{Base: base, Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x", TokenType: typ})}
		_, err := tr.RoundTrip(newGet(t.Context(), t, "https://api.example/"))
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "type") || len(base.sent) > 0):
			t.Errorf("type %q: %v, and %d requests; want an error that names the type", typ, err, len(base.sent))
		case want != "" && (err != nil || base.sent[0] != want):
			t.Errorf("type %q: sent %q, %v; want %q", typ, base.sent, err, want)
		}
	}
}

// TestBasesThatAnswerWithNil: fakes of client-go and quic-go do; net/http and x/oauth2 survive.
func TestBasesThatAnswerWithNil(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		for _, source := range []oauth2.TokenSource{counting(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"})} {
			base := &rejecting{times: 1, status: status, challenge: `Bearer error="insufficient_scope"`}
			if status == http.StatusUnauthorized {
				base.challenge = authtriptest.InvalidToken
			}
			resp, err := (&authtrip.Transport{Source: source, Base: base}).RoundTrip(newGet(t.Context(), t, "https://api.example/"))
			if err != nil || resp == nil {
				t.Errorf("%d without a body: %v", status, err)
			}
		}
	}
	nothing := roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, nil })
	resp, err := (&authtrip.Transport{Source: counting(), Base: nothing}).RoundTrip(newGet(t.Context(), t, "https://api.example/"))
	if resp != nil || err == nil || !strings.Contains(err.Error(), "Transport.Base") {
		t.Errorf("nothing at all: %v, %v, want an error that names Base", resp, err)
	}
}

func TestHandWrittenAuthorizationStays(t *testing.T) {
	base := new(rejecting)
	req := newGet(t.Context(), t, "https://api.example/")
	req.Header["authorization"] = []string{"Basic bWU6bWU="}
	if _, err := (&authtrip.Transport{Source: counting(), Base: base}).RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if base.sent[0] != "" {
		t.Error("the token was sent beside the caller's own header")
	}
}

func TestCyclicChainOfRedirectsEnds(t *testing.T) {
	for name, origins := range map[string][]string{"no list": nil, "a list": {"https://api.example"}} {
		base := new(rejecting)
		req := newGet(t.Context(), t, "https://api.example/")
		req.Response = &http.Response{Request: req}
		if _, err := (&authtrip.Transport{Source: counting(), Base: base, Origins: origins}).RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if base.sent[0] != "" {
			t.Errorf("%s: a request of which the origin is not known got the token", name)
		}
	}
}

// TestContextThatEndsWhileA401IsJudgedIsTheError whoever is asked at the time, and the response is closed.
func TestContextThatEndsWhileA401IsJudgedIsTheError(t *testing.T) {
	cause := errors.New("enough")
	for name, status := range map[string]int{"a new token": http.StatusUnauthorized, "OnChallenge": http.StatusForbidden} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			body := &oneShot{Reader: strings.NewReader("why")}
			base := &rejecting{times: 1, status: status, challenge: `Bearer error="insufficient_scope"`, body: func() io.ReadCloser { return body }}
			if status == http.StatusUnauthorized {
				base.challenge = authtriptest.InvalidToken
			}
			calls := 0
			tr := &authtrip.Transport{
				Base: base,
				Source: tokenSourceFunc(func() (*oauth2.Token, error) {
					if calls++; calls == 1 {
						return &oauth2.Token{AccessToken: "x"}, nil
					}
					cancel(cause)
					return nil, errors.New("other")
				}),
				OnChallenge: func(*http.Request, authtrip.Challenge) (*oauth2.Token, error) {
					cancel(cause)
					return nil, errors.New("other")
				},
			}
			_, err := tr.RoundTrip(newGet(ctx, t, "https://api.example/"))
			if !errors.Is(err, cause) || err.Error() != cause.Error() {
				t.Errorf("error = %v, want the context's cause", err)
			}
			if body.closed.Load() == 0 {
				t.Error("the body of the response is open")
			}
		})
	}
}

// TestRedirectFromElsewhereDoesNotRegainTheToken: with Origins set, whoever is elsewhere could send a POST
// with the token to a path of its choice, by a 307 back to the API.
func TestRedirectFromElsewhereDoesNotRegainTheToken(t *testing.T) {
	const api, evil, second = "https://api.example", "https://evil.example", "https://second.example"
	for _, tt := range []struct {
		name string
		hops []string
		want string // a digit for each hop: 1 if it gets the token
	}{
		{"out and back", []string{api, evil, api}, "100"},
		{"in from elsewhere", []string{evil, api}, "00"},
		{"between two of the list", []string{api, second, api}, "111"},
		{"inside", []string{api, api}, "11"},
	} {
		for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
			t.Run(fmt.Sprintf("%s %d", tt.name, code), func(t *testing.T) {
				got, n := "", 0
				base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
					got += map[bool]string{true: "1", false: "0"}[req.Header.Get("Authorization") != ""]
					resp := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{}, Request: req}
					if n++; n < len(tt.hops) {
						resp.StatusCode = code
						resp.Header.Set("Location", tt.hops[n]+"/chosen")
					}
					return resp, nil
				})
				client := &http.Client{Transport: &authtrip.Transport{Source: new(authtriptest.Source), Base: base, Origins: []string{api, second}}}
				resp, err := client.Post(tt.hops[0]+"/", "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if got != tt.want {
					t.Errorf("hops with the token: %s, want %s", got, tt.want)
				}
			})
		}
	}
}

// TestHostFieldThatNamesAnotherHost: a proxy in front of the URL's host passes a request on by its Host.
func TestHostFieldThatNamesAnotherHost(t *testing.T) {
	for _, tt := range []struct {
		origins []string
		host    string
		want    bool
	}{
		{[]string{"https://api.example"}, "", true},
		{[]string{"https://api.example"}, "API.example:443", true},
		{[]string{"https://api.example"}, "evil.example", false},
		{[]string{"https://api.example"}, "api.example:8443", false},
		{[]string{"https://api.example", "https://inner.example"}, "inner.example", true},
		{nil, "inner.example", true},
	} {
		base := new(rejecting)
		req := newGet(t.Context(), t, "https://api.example/")
		req.Host = tt.host
		if _, err := (&authtrip.Transport{Source: counting(), Base: base, Origins: tt.origins}).RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if got := base.sent[0] != ""; got != tt.want {
			t.Errorf("Origins %q, Host %q: got the token: %v, want %v", tt.origins, tt.host, got, tt.want)
		}
	}
}

// TestURLThatGoesNowhereIsBasesError: it read "request to  over  would send the token in clear text".
func TestURLThatGoesNowhereIsBasesError(t *testing.T) {
	client := &http.Client{Transport: &authtrip.Transport{Source: counting()}}
	for url, want := range map[string]string{"/api": "unsupported protocol scheme", "https:///api": "no Host in request URL"} {
		if _, err := client.Get(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Get(%q) = %v, want %q", url, err, want)
		}
	}
}
