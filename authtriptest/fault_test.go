package authtriptest_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"example.com/authtrip/authtriptest"
)

var credentials = url.Values{"grant_type": {"client_credentials"}}

func TestFaultsActInOrder(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "slow_down"})
		srv.Fail(authtriptest.TokenPath,
			authtriptest.Fault{Status: 503, Body: "{}", Header: http.Header{"retry-after": {"7"}}},
			authtriptest.Fault{},
			authtriptest.Fault{Error: "invalid_client", Status: 401})
		if got := srv.Waiting(authtriptest.TokenPath); got != 3 {
			t.Errorf("Waiting = %d, want 3", got)
		}
		for i, want := range []struct {
			status int
			error  string
		}{{503, ""}, {200, ""}, {401, "invalid_client"}, {400, "slow_down"}, {400, "slow_down"}} {
			r := post(t, c, authtriptest.TokenPath, credentials)
			if r.status != want.status || r.Error != want.error {
				t.Errorf("request %d: %d %q, want %d %q", i, r.status, r.Error, want.status, want.error)
			}
			if got := r.header.Get("Retry-After"); (got == "7") != (i == 0) {
				t.Errorf("request %d: Retry-After = %q", i, got)
			}
		}
		srv.Heal(authtriptest.TokenPath)
		if r := post(t, c, authtriptest.TokenPath, credentials); r.status != 200 {
			t.Errorf("after Heal: %d, want 200", r.status)
		}
		if n := srv.Counts(); n.Token != 6 || n.Faults != 5 || n.Grants["client_credentials"] != 2 {
			t.Errorf("counts = %+v", n)
		}
	})
}

func TestFaultsBelongToOneEndpoint(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		srv.Fail(authtriptest.APIPath, authtriptest.Fault{Status: 500})
		if r := post(t, c, authtriptest.TokenPath, credentials); r.status != 200 {
			t.Errorf("token endpoint = %d, want 200", r.status)
		}
		resp := get(t, c, origin+authtriptest.APIPath+"/below", "")
		resp.Body.Close()
		if resp.StatusCode != 500 {
			t.Errorf("API = %d, want 500", resp.StatusCode)
		}
	})
}

func TestFaultReplacesTheAnswerAndSparesTheToken(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]authtriptest.Fault{
		"status": {Status: 502, Body: "{}"},
		"error":  {Error: "temporarily_unavailable"},
		"body":   {Body: "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := &authtriptest.Server{Rotate: true}
			bubble(t, srv, func(t *testing.T, c *http.Client) {
				token := srv.Issue("alice").RefreshToken
				srv.Fail(authtriptest.TokenPath, f)
				if r := post(t, c, authtriptest.TokenPath, refreshForm(token)); r.AccessToken != "" {
					t.Error("the fault let the answer pass")
				}
				if n := srv.Counts(); !srv.Valid(token) || len(n.Grants) != 0 {
					t.Errorf("the token was spent; counts = %+v", n)
				}
			})
		})
	}
}

func TestLostAnswerRotates(t *testing.T) {
	t.Parallel()
	authtriptest.EachProtocol(t, func(t *testing.T, start func(http.Handler) *authtriptest.Site) {
		t.Parallel()
		srv := &authtriptest.Server{Rotate: true}
		site := start(srv)
		tok := srv.Issue("alice")
		srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Reset: true})
		form := refreshForm(tok.RefreshToken, "client_id", "client", "client_secret", "client-secret")
		resp, err := site.Client.PostForm(site.URL+authtriptest.TokenPath, form)
		if err == nil {
			resp.Body.Close()
			t.Fatalf("status = %d, want no answer", resp.StatusCode)
		}
		if resp, err = site.Client.PostForm(site.URL+authtriptest.TokenPath, form); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if n := srv.Counts(); resp.StatusCode != 400 || n.Grants["refresh_token"] != 1 || n.FamiliesRevoked != 1 {
			t.Errorf("replay = %d, counts = %+v, want a spent token", resp.StatusCode, n)
		}
	})
}

func TestLostAnswerIsRecoveredInTheGrace(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true, ReuseGrace: time.Minute}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		token := srv.Issue("alice").RefreshToken
		srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Status: 504, Body: "{}"})
		if r := post(t, c, authtriptest.TokenPath, refreshForm(token)); r.status != 504 || r.RefreshToken != "" {
			t.Errorf("refresh = %d, want 504 without a token", r.status)
		}
		if r := post(t, c, authtriptest.TokenPath, refreshForm(token)); r.status != 200 || !srv.Valid(r.RefreshToken) {
			t.Errorf("replay = %d, want 200 with a token", r.status)
		}
	})
}

func TestResetLooksLikeOne(t *testing.T) {
	t.Parallel()
	authtriptest.EachProtocol(t, func(t *testing.T, start func(http.Handler) *authtriptest.Site) {
		t.Parallel()
		srv := &authtriptest.Server{}
		site := start(srv)
		srv.Fail(authtriptest.APIPath, authtriptest.Fault{Reset: true})
		resp, err := tryGet(t, site.Client, site.URL+authtriptest.APIPath, "x")
		if err == nil {
			resp.Body.Close()
			t.Fatal("there was an answer")
		}
		// Over HTTP/2 the stream is reset, not the connection.
		if strings.HasPrefix(site.URL, "http:") && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("error = %v, want a reset connection", err)
		}
	})
}

// Over HTTP/1.1 with TLS, what is reset is the connection below.
func TestResetBelowTLS(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	site := authtriptest.StartTLS(t, srv)
	roots := site.Client.Transport.(*http.Transport).TLSClientConfig.RootCAs
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}} // no HTTP/2
	defer tr.CloseIdleConnections()
	srv.Fail(authtriptest.APIPath, authtriptest.Fault{}, authtriptest.Fault{Reset: true})
	for i := range 2 {
		resp, err := (&http.Client{Transport: tr}).Post(site.URL+authtriptest.APIPath, "", nil)
		switch {
		case err == nil:
			resp.Body.Close()
			if i != 0 || resp.Proto != "HTTP/1.1" {
				t.Errorf("request %d: %s over %s", i, resp.Status, resp.Proto)
			}
		case i != 1 || !errors.Is(err, syscall.ECONNRESET):
			t.Errorf("request %d: %v", i, err)
		}
	}
}

// A request that ends in its middle must not be taken for a shorter one.
func TestBrokenRequestIsNotAnswered(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		broken := errors.New("broken")
		body := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))
		if resp, err := c.Post(origin+authtriptest.APIPath, "", body); !errors.Is(err, broken) {
			if err == nil {
				resp.Body.Close()
			}
			t.Errorf("error = %v, want the body's", err)
		}
		synctest.Wait()
		if n := srv.Counts().API; n != 0 {
			t.Errorf("%d requests were counted, want 0", n)
		}
	})
}

func TestDelayPassesAtOnce(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Hour})
		began := time.Now()
		if r := post(t, c, authtriptest.TokenPath, credentials); r.status != 200 {
			t.Errorf("status = %d, want 200", r.status)
		}
		if got := time.Since(began); got != time.Hour {
			t.Errorf("the answer took %v, want 1h", got)
		}
	})
}

func TestDelayEndsWithTheClient(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Hour})
		token := srv.Issue("alice").RefreshToken
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := tryPost(t, c, authtriptest.TokenPath, refreshForm(token), func(r *http.Request) { *r = *r.WithContext(ctx) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error = %v, want the deadline", err)
		}
		synctest.Wait()
		if !srv.Valid(token) || len(srv.Counts().Grants) != 0 {
			t.Error("the token was spent for a client that had left")
		}
		if r := post(t, c, authtriptest.TokenPath, refreshForm(token)); r.status != 200 || srv.Counts().Overlaps != 0 {
			t.Errorf("next refresh = %d, overlaps = %d", r.status, srv.Counts().Overlaps)
		}
	})
}

func TestUntilHoldsTheRequest(t *testing.T) {
	t.Parallel()
	gate, arrived := make(chan struct{}), make(chan struct{})
	srv := &authtriptest.Server{OnRequest: func(*http.Request) { close(arrived) }}
	site := authtriptest.Start(t, srv)
	srv.Fail(authtriptest.APIPath, authtriptest.Fault{Until: gate})
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		resp, err := site.Client.Get(site.URL + authtriptest.APIPath)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	}()
	<-arrived
	select {
	case <-answered:
		t.Error("answered while the gate was closed")
	default:
	}
	close(gate)
	<-answered
}

func TestJSONChangesMembers(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		token := srv.Issue("alice").RefreshToken
		srv.Fail(authtriptest.TokenPath, authtriptest.Fault{
			JSON:   map[string]any{"token_type": "mac", "refresh_token": nil, "expires_in": json.Number("12.5")},
			Header: http.Header{"Cache-Control": nil, "Pragma": nil},
		})
		r := post(t, c, authtriptest.TokenPath, refreshForm(token))
		if r.TokenType != "mac" || r.RefreshToken != "" || r.ExpiresIn != "12.5" || !srv.Valid(r.AccessToken) {
			t.Errorf("type = %q, expires_in = %q, refresh token %t", r.TokenType, r.ExpiresIn, r.RefreshToken != "")
		}
		if got := r.header.Values("Cache-Control"); len(got) != 0 {
			t.Errorf("Cache-Control = %q, want none", got)
		}
		if srv.Valid(token) {
			t.Error("the refresh token was not rotated")
		}
	})
}

func TestChallengeRefusesGoodTokens(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		srv.FailAlways(authtriptest.APIPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
		for range 3 {
			resp := get(t, c, origin+authtriptest.APIPath, srv.Issue("alice").AccessToken)
			resp.Body.Close()
			if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || got != authtriptest.InvalidToken {
				t.Errorf("API = %d %q", resp.StatusCode, got)
			}
		}
		if n := srv.Counts(); n.APIRefused != 3 {
			t.Errorf("counts = %+v", n)
		}
	})
}

func TestBodySizeStreams(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		const size = 20<<20 + 1
		srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{
			Body: "ab", BodySize: size, Header: http.Header{"Content-Type": {"application/json"}},
		})
		resp := get(t, c, origin+authtriptest.UserInfoPath, "")
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if n != size || err != nil || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("body of %d bytes, %v, want %d", n, err, size)
		}
	})
}

// A client that stops reading a huge body must not hold up the server.
func TestBodySizeEndsWithTheClient(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{BodySize: 1 << 40})
		resp := get(t, c, origin+authtriptest.UserInfoPath, "")
		resp.Body.Close()
		synctest.Wait()
	})
}

func TestStallAndTruncate(t *testing.T) {
	t.Parallel()
	authtriptest.EachProtocol(t, func(t *testing.T, start func(http.Handler) *authtriptest.Site) {
		t.Parallel()
		srv := &authtriptest.Server{}
		site := start(srv)
		srv.Fail(authtriptest.UserInfoPath,
			authtriptest.Fault{Body: "12345678", Stall: time.Millisecond},
			authtriptest.Fault{Body: "12345678", Truncate: true})
		for i, want := range []string{"12345678", "1234"} {
			resp := get(t, site.Client, site.URL+authtriptest.UserInfoPath, "")
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 || string(body) != want || (err != nil) != (i == 1) {
				t.Errorf("answer %d = %d %q, %v, want %q", i, resp.StatusCode, body, err, want)
			}
		}
	})
}

func TestStallPassesAtOnce(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Lifetime: 2 * time.Hour}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Stall: time.Hour})
		began := time.Now()
		if r := post(t, c, authtriptest.TokenPath, credentials); !srv.Valid(r.AccessToken) {
			t.Errorf("status = %d, want a valid token", r.status)
		}
		if got := time.Since(began); got != time.Hour {
			t.Errorf("the answer took %v, want 1h", got)
		}
	})
}

func TestHandlerAnswers(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{Rotate: true}
	bubble(t, srv, func(t *testing.T, c *http.Client) {
		token := srv.Issue("alice").RefreshToken
		srv.Fail(authtriptest.TokenPath, authtriptest.Fault{
			Commit: true,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
			}),
		})
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := c.PostForm(origin+authtriptest.TokenPath, refreshForm(token, "client_id", "client", "client_secret", "client-secret"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 307 || srv.Valid(token) {
			t.Errorf("status = %d, want 307 and a spent token", resp.StatusCode)
		}
	})
}

// An early answer to a long request must not block either side.
func TestEarlyAnswerToALongRequest(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			srv := &authtriptest.Server{}
			srv.Fail(authtriptest.APIPath, authtriptest.Fault{Early: true, Challenge: authtriptest.InvalidToken})
			network := &authtriptest.Network{HTTP2: h2}
			defer network.Close()
			network.Handle(origin, srv)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, origin+authtriptest.APIPath,
				io.LimitReader(endless{}, 8<<20))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := network.RoundTrip(req)
			if err != nil {
				t.Fatalf("HTTP/2 %t: %v", h2, err)
			}
			resp.Body.Close()
			if resp.StatusCode != 401 {
				t.Errorf("HTTP/2 %t: status = %d, want 401", h2, resp.StatusCode)
			}
		})
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
