package authtrip_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

func newGet(t *testing.T, ctx context.Context, url string) *http.Request {
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
		if _, err := tr.RoundTrip(newGet(t, t.Context(), "https://api.example/")); err != nil {
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
		_, err := tr.RoundTrip(newGet(t, t.Context(), "https://api.example/"))
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "type") || len(base.sent) > 0):
			t.Errorf("type %q: %v, and %d requests; want an error that names the type", typ, err, len(base.sent))
		case want != "" && (err != nil || base.sent[0] != want):
			t.Errorf("type %q: sent %q, %v; want %q", typ, base.sent, err, want)
		}
	}
}

// TestStalled401DoesNotHangTheRequest: the body of a 401 was read to its end, however long that took.
func TestStalled401DoesNotHangTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, pipe := io.Pipe()
		defer pipe.Close()
		go func() { _, _ = io.WriteString(pipe, "begun") }()
		base := &rejecting{times: 1, body: func() io.ReadCloser { return body }}
		start := time.Now()
		resp, err := (&authtrip.Transport{Source: counting(), Base: base}).RoundTrip(newGet(t, t.Context(), "https://api.example/"))
		if err != nil || resp.StatusCode != http.StatusOK || time.Since(start) > time.Second {
			t.Errorf("%v after %v, want 200 within a second", err, time.Since(start))
		}
		if _, err := io.WriteString(pipe, "more"); err == nil {
			t.Error("the body of the 401 is still open")
		}
	})
}

// TestStalled401IsReturnedAsItIs where there is no other token: what has come and what still comes.
func TestStalled401IsReturnedAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, pipe := io.Pipe()
		returned := make(chan struct{})
		go func() {
			_, _ = io.WriteString(pipe, "begun, ")
			<-returned
			_, _ = io.WriteString(pipe, strings.Repeat("and more", 20_000))
			_ = pipe.Close()
		}()
		base := &rejecting{times: 9, body: func() io.ReadCloser { return body }}
		resp, err := (&authtrip.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"}), Base: base}).RoundTrip(newGet(t, t.Context(), "https://api.example/"))
		if err != nil {
			t.Fatal(err)
		}
		close(returned)
		all, err := io.ReadAll(resp.Body)
		if err != nil || len(all) != len("begun, ")+8*20_000 {
			t.Errorf("read %d bytes, %v", len(all), err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
			t.Error("a closed body can be read")
		}
	})
}

// TestRefreshDoesNotStarveBehindTheUnread401: API and token endpoint on one pool of one connection.
func TestRefreshDoesNotStarveBehindTheUnread401(t *testing.T) {
	srv := rotating(time.Hour)
	server := httptest.NewServer(srv)
	defer server.Close()
	one := &http.Transport{MaxConnsPerHost: 1}
	defer one.CloseIdleConnections()
	grant := authtrip.RefreshToken(srv.Config(server.URL))
	grant.HTTPClient = &http.Client{Transport: one}
	src := &authtrip.Source{Refresher: grant, Initial: srv.Issue("alice"), RefreshTimeout: 5 * time.Second}
	defer src.Close()
	client := &http.Client{Transport: &authtrip.Transport{Source: src, Base: one}}
	srv.RevokeAll()
	srv.Fail(authtriptest.APIPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken, Body: strings.Repeat("why ", 5000)})
	start := time.Now()
	resp, err := client.Get(server.URL + authtriptest.APIPath)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || time.Since(start) > 4*time.Second {
		t.Errorf("status %d after %v, want 200 at once", resp.StatusCode, time.Since(start))
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
			resp, err := (&authtrip.Transport{Source: source, Base: base}).RoundTrip(newGet(t, t.Context(), "https://api.example/"))
			if err != nil || resp == nil {
				t.Errorf("%d without a body: %v", status, err)
			}
		}
	}
	nothing := roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, nil })
	resp, err := (&authtrip.Transport{Source: counting(), Base: nothing}).RoundTrip(newGet(t, t.Context(), "https://api.example/"))
	if resp != nil || err == nil || !strings.Contains(err.Error(), "Transport.Base") {
		t.Errorf("nothing at all: %v, %v, want an error that names Base", resp, err)
	}
}

func TestHandWrittenAuthorizationStays(t *testing.T) {
	base := new(rejecting)
	req := newGet(t, t.Context(), "https://api.example/")
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
		req := newGet(t, t.Context(), "https://api.example/")
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
			_, err := tr.RoundTrip(newGet(t, ctx, "https://api.example/"))
			if err != cause {
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
					resp := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{}}
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
		req := newGet(t, t.Context(), "https://api.example/")
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

// TestBodyThatDependsOnTheAnswer: a body of known length was read whole before the request was sent, and
// one that waits for the response's header never ended.
func TestBodyThatDependsOnTheAnswer(t *testing.T) {
	authtriptest.EachProtocol(t, func(t *testing.T, start func(http.Handler) *authtriptest.Site) {
		site := start(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			control := http.NewResponseController(w)
			_ = control.EnableFullDuplex()
			w.WriteHeader(http.StatusOK)
			_ = control.Flush()
			_, _ = io.Copy(w, req.Body)
		}))
		body, pipe := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 5
		resp, err := (&authtrip.Transport{Source: counting(), Base: site.Client.Transport}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(pipe, "hello"); _ = pipe.Close() }()
		if all, err := io.ReadAll(resp.Body); string(all) != "hello" || err != nil {
			t.Errorf("echo = %q, %v", all, err)
		}
		_ = resp.Body.Close()
	})
}

// TestBodyThatTheServerDoesNotWantIsNotRead: Expect: 100-continue, and an answer without it.
func TestBodyThatTheServerDoesNotWantIsNotRead(t *testing.T) {
	for _, status := range []int{http.StatusExpectationFailed, http.StatusUnauthorized} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			n := 0
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if n++; n == 1 {
					w.WriteHeader(status)
					return
				}
				all, _ := io.ReadAll(req.Body)
				got = string(all)
			}))
			defer server.Close()
			body := &oneShot{Reader: strings.NewReader("hello")}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = 5
			req.Header.Set("Expect", "100-continue")
			base := &http.Transport{ExpectContinueTimeout: time.Minute}
			defer base.CloseIdleConnections()
			resp, err := (&authtrip.Transport{Source: counting(), Base: base}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			rest, _ := io.ReadAll(body)
			switch status {
			case http.StatusExpectationFailed:
				if string(rest) != "hello" {
					t.Errorf("the body was read up to %q", rest)
				}
			default: // and what was not read can still be sent
				if resp.StatusCode != http.StatusOK || got != "hello" {
					t.Errorf("the retry got %d with %q", resp.StatusCode, got)
				}
			}
			for range 500 { // net/http may close it later
				if body.closed.Load() > 0 {
					break
				}
				wait(10 * time.Millisecond)
			}
			if n := body.closed.Load(); n != 1 {
				t.Errorf("the body was closed %d times, want once", n)
			}
		})
	}
}

// TestRetryAfterAnEarly401SendsTheWholeBody: what Base has read of it, and what it has not.
func TestRetryAfterAnEarly401SendsTheWholeBody(t *testing.T) {
	whole := bytes.Repeat([]byte("0123456789"), 1000)
	for _, read := range []int{0, 1, 5000, 10_000} {
		for _, closes := range []bool{true, false} {
			body := &oneShot{Reader: bytes.NewReader(whole)}
			var got []byte
			n := 0
			base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
				if n++; n > 1 {
					got, _ = io.ReadAll(req.Body)
					_ = req.Body.Close()
					return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
				}
				_, _ = io.ReadFull(req.Body, make([]byte, read))
				if closes {
					_ = req.Body.Close()
				}
				return &http.Response{StatusCode: http.StatusUnauthorized}, nil
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.example/", body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = int64(len(whole))
			if _, err := (&authtrip.Transport{Source: counting(), Base: base}).RoundTrip(req); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, whole) || body.closed.Load() != 1 {
				t.Errorf("%d bytes read, closed %v: the retry sent %d bytes, and the body was closed %d times", read, closes, len(got), body.closed.Load())
			}
		}
	}
}

// TestStepUpLasts: the token of OnChallenge served one request, and the next was rejected again.
func TestStepUpLasts(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true, APIScope: "admin"}
	var asked atomic.Int32
	inBubble(t, srv, func(r *rig) {
		r.transport.OnChallenge = func(req *http.Request, _ authtrip.Challenge) (*oauth2.Token, error) {
			asked.Add(1)
			select {
			case <-time.After(time.Second):
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
			return r.srv.Issue("alice", "admin"), nil
		}
	}, func(t *testing.T, r *rig) {
		crowd(10, func(int) { r.mustGet(t) })
		if n := asked.Load(); n != 1 {
			t.Errorf("ten concurrent challenges asked %d times, want once", n)
		}
		before := r.srv.Counts().API
		r.mustGet(t)
		if n := r.srv.Counts().API - before; n != 1 || asked.Load() != 1 {
			t.Errorf("the request after it took %d API requests and asked %d times, want 1 and 0", n, asked.Load()-1)
		}
		r.srv.RevokeAll() // the one of OnChallenge too: the next answer is a 401
		if status, err := r.get(t.Context()); err != nil {
			t.Errorf("GET = %d, %v", status, err)
		}
		r.mustGet(t)
		if asked.Load() != 2 {
			t.Errorf("asked %d times, want again after the token was rejected", asked.Load())
		}
	})
}

// TestStepUpIsOfOneSessionAndOneOrigin holds that nobody is served another one's token.
func TestStepUpIsOfOneSessionAndOneOrigin(t *testing.T) {
	type user struct{}
	var sent string
	base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
		sent = req.Header.Get("Authorization")
		if strings.HasSuffix(sent, "+") {
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Header: http.Header{"Www-Authenticate": {`Bearer error="insufficient_scope"`}}}, nil
	})
	asked := 0
	tr := &authtrip.Transport{
		Base:   base,
		Source: contextSource(func(ctx context.Context) string { return ctx.Value(user{}).(string) }),
		OnChallenge: func(req *http.Request, _ authtrip.Challenge) (*oauth2.Token, error) {
			asked++
			return &oauth2.Token{AccessToken: req.Context().Value(user{}).(string) + req.URL.Host + "+"}, nil
		},
	}
	for range 2 {
		for _, name := range []string{"alice", "bob"} {
			for _, host := range []string{"a.example", "b.example"} {
				ctx := context.WithValue(t.Context(), user{}, name)
				if _, err := tr.RoundTrip(newGet(t, ctx, "https://"+host+"/")); err != nil {
					t.Fatal(err)
				}
				if want := "Bearer " + name + host + "+"; sent != want {
					t.Errorf("%s at %s was sent as %q", name, host, sent)
				}
			}
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times for two users at two origins, want 4", asked)
	}
}

// contextSource is a ContextTokenSource whose token is in the context.
type contextSource func(context.Context) string

func (f contextSource) Token() (*oauth2.Token, error) { return f.TokenContext(context.Background()) }

func (f contextSource) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	return &oauth2.Token{AccessToken: f(ctx)}, nil
}

func (contextSource) Invalidate(*oauth2.Token) {}

// TestCallerWhoLeavesDoesNotFailTheOthersStepUp: those who wait for its call make one of their own.
func TestCallerWhoLeavesDoesNotFailTheOthersStepUp(t *testing.T) {
	srv := &authtriptest.Server{APIScope: "admin"}
	var asked atomic.Int32
	inBubble(t, srv, func(r *rig) {
		r.transport.OnChallenge = func(req *http.Request, _ authtrip.Challenge) (*oauth2.Token, error) {
			asked.Add(1)
			select {
			case <-time.After(10 * time.Second):
				return r.srv.Issue("alice", "admin"), nil
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		}
	}, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := r.get(ctx)
			wantIs(t, err, context.DeadlineExceeded)
		})
		synctest.Wait()
		wg.Go(func() { r.mustGet(t) })
		wg.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times, want twice", n)
		}
	})
}
