package authtrip_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// answering is a token endpoint that answers each request in the same way.
func answering(t *testing.T, status int, contentType, body string, look func(url.Values)) *oauth2.Config {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := req.ParseForm(); err != nil {
			t.Error(err)
		}
		if look != nil {
			look(req.PostForm)
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: server.URL}}
}

// TestGrantReadsWhatServersSend: LinkedIn and Slack send no token_type, some servers a form, or status
// 201; a user was asked to log in again for it.
func TestGrantReadsWhatServersSend(t *testing.T) {
	for _, tt := range []struct {
		name              string
		status            int
		contentType, body string
	}{
		{"no token_type", 200, "application/json", `{"access_token":"new","expires_in":60}`},
		{"status 201", 201, "application/json", `{"access_token":"new","token_type":"bearer"}`},
		{"a form", 200, "application/x-www-form-urlencoded", `access_token=new&token_type=bearer`},
		{"a form as plain text", 200, "text/plain", `access_token=new`},
		{"a lifetime in words", 200, "application/json", `{"access_token":"new","token_type":"bearer","expires_in":"1 hour"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conf := answering(t, tt.status, tt.contentType, tt.body, nil)
			tok, err := authtrip.RefreshToken(conf).Refresh(t.Context(), &oauth2.Token{RefreshToken: "r"})
			if err != nil || tok.AccessToken != "new" || tok.Type() != "Bearer" {
				t.Errorf("Refresh() = %v, want the token", err)
			}
		})
	}
}

func TestAnAnswerThatCannotBeReadEndsNoSession(t *testing.T) {
	for contentType, body := range map[string]string{
		"text/html": "<html>", "text/plain": "busy", "application/x-www-form-urlencoded": "a=%zz",
		"application/json": `{"access_token":"a","access_token":"b"}`,
	} {
		t.Run(contentType, func(t *testing.T) {
			conf := answering(t, 200, contentType, body, nil)
			_, err := authtrip.RefreshToken(conf).Refresh(t.Context(), &oauth2.Token{RefreshToken: "r"})
			if errors.Is(err, authtrip.ErrReauthRequired) || err == nil || !strings.Contains(err.Error(), "token response") {
				t.Errorf("Refresh() = %v, want an error that names the answer and ends nothing", err)
			}
		})
	}
}

func TestProvidersOwnWordsEndASession(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		ends   bool
	}{
		{"the standard", 400, `{"error":"invalid_grant"}`, true},
		{"GitHub", 200, `{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired.","error_uri":"https://docs.github.com"}`, true},
		{"Slack", 200, `{"ok":false,"error":"invalid_refresh_token"}`, true},
		{"dex, before 2.31", 400, `{"error":"invalid_request","error_description":"Refresh token is invalid or has already been claimed by another client."}`, true},
		{"dex", 400, `{"error":"invalid_request","error_description":"clientID c refresh token (ID chl2rm6gfjbx7) is invalid or has already been claimed by another client."}`, true},
		{"dex, expired", 400, `{"error":"invalid_request","error_description":"Refresh token expired."}`, true},
		{"dex, a mistake in the request", 400, `{"error":"invalid_request","error_description":"No refresh token is found in request."}`, false},
		{"dex, a failure", 500, `{"error":"invalid_request","error_description":"Refresh token expired."}`, false},
		{"GitHub's word from a server that failed", 503, `{"error":"bad_refresh_token"}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conf := answering(t, tt.status, "application/json", tt.body, nil)
			_, err := authtrip.RefreshToken(conf).Refresh(t.Context(), &oauth2.Token{RefreshToken: "r"})
			if got := errors.Is(err, authtrip.ErrReauthRequired); got != tt.ends {
				t.Errorf("Refresh() = %v: ends the session: %v, want %v", err, got, tt.ends)
			}
		})
	}
}

// TestEndpointParamsMayNameAnotherGrantType as in x/oauth2; it was overwritten without a word.
func TestEndpointParamsMayNameAnotherGrantType(t *testing.T) {
	var sent url.Values
	conf := answering(t, 200, "application/json", `{"access_token":"new"}`, func(f url.Values) { sent = f })
	_, err := authtrip.ClientCredentials(&clientcredentials.Config{
		ClientID: "client", TokenURL: conf.Endpoint.TokenURL, EndpointParams: url.Values{"grant_type": {"urn:own"}, "audience": {"a"}},
	}).Refresh(t.Context(), nil)
	if err != nil || sent.Get("grant_type") != "urn:own" || sent.Get("audience") != "a" {
		t.Errorf("Refresh() = %v, sent grant_type %q", err, sent["grant_type"])
	}
}

func TestParamsThatWouldBeLostAreErrorsThatNameTheField(t *testing.T) {
	for name, g := range map[string]*authtrip.Grant{
		"scope":         {Type: "client_credentials", Scopes: []string{"a"}, Params: url.Values{"scope": {"b"}}},
		"grant_type":    {Params: url.Values{"grant_type": {"b"}}},
		"refresh_token": {Params: url.Values{"refresh_token": {"b"}}},
	} {
		g.TokenURL, g.ClientID = "https://as.example/token", "client"
		_, err := g.Refresh(t.Context(), &oauth2.Token{RefreshToken: "r"})
		if err == nil || !strings.Contains(err.Error(), "Grant.Params has "+name) {
			t.Errorf("%s: error = %v, want one that names it", name, err)
		}
	}
}

// TestRequestsDoNotShareParams: slices of Params with spare capacity mixed what Form appended for
// two callers, and one got a token for the other's audience.
func TestRequestsDoNotShareParams(t *testing.T) {
	var other atomic.Int32
	conf := answering(t, 200, "application/json", `{"access_token":"new"}`, func(f url.Values) {
		if f["audience"][1] != f.Get("me") {
			other.Add(1)
		}
	})
	type caller struct{}
	g := authtrip.ClientCredentials(&clientcredentials.Config{ClientID: "client", TokenURL: conf.Endpoint.TokenURL})
	g.Params = url.Values{"audience": append(make([]string, 0, 8), "all")}
	g.Form = func(ctx context.Context, _ *oauth2.Token, form url.Values) error {
		me := ctx.Value(caller{}).(string)
		form["audience"] = append(form["audience"], me)
		form.Set("me", me)
		return nil
	}
	crowd(50, func(i int) {
		ctx := context.WithValue(t.Context(), caller{}, string(rune('a'+i)))
		if _, err := g.Refresh(ctx, nil); err != nil {
			t.Error(err)
		}
	})
	if n := other.Load(); n != 0 {
		t.Errorf("%d requests carried another one's audience", n)
	}
}

// TestTraceOfARequestDoesNotSeeTheTokenEndpoint: an httptrace in an API request's context was shown
// the header fields of the token request, Basic credentials included.
func TestTraceOfARequestDoesNotSeeTheTokenEndpoint(t *testing.T) {
	conf := answering(t, 200, "application/json", `{"access_token":"new"}`, nil)
	conf.ClientSecret = "secret"
	var seen atomic.Int32
	see := func() { seen.Add(1) }
	type key struct{}
	ctx := httptrace.WithClientTrace(context.WithValue(t.Context(), key{}, "kept"), &httptrace.ClientTrace{
		GetConn:          func(string) { see() },
		ConnectStart:     func(string, string) { see() },
		WroteHeaderField: func(string, []string) { see() },
		WroteRequest:     func(httptrace.WroteRequestInfo) { see() },
	})
	g := authtrip.RefreshToken(conf)
	g.HTTPClient = &http.Client{Transport: roundTripFunc(func(req *http.Request) (*http.Response, error) {
		if req.Context().Value(key{}) != "kept" {
			t.Error("a value of the context is gone")
		}
		return http.DefaultTransport.RoundTrip(req)
	})}
	if _, err := g.Refresh(ctx, &oauth2.Token{RefreshToken: "r"}); err != nil {
		t.Fatal(err)
	}
	if n := seen.Load(); n != 0 {
		t.Errorf("the trace was called %d times", n)
	}
}

// TestManyRefreshesShareConnections: with two idle connections a host, two thirds of many parallel
// refreshes dialled anew.
func TestManyRefreshesShareConnections(t *testing.T) {
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"new"}`))
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	conf := &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: server.URL}}
	for range 5 {
		crowd(20, func(int) {
			if _, err := authtrip.RefreshToken(conf).Refresh(t.Context(), &oauth2.Token{RefreshToken: "r"}); err != nil {
				t.Error(err)
			}
		})
	}
	if n := conns.Load(); n > 25 {
		t.Errorf("100 refreshes, 20 at a time, made %d connections, want about 20", n)
	}
}

func TestOnlyARefreshTokenIsNotRepeatable(t *testing.T) {
	conf := new(oauth2.Config)
	for name, tt := range map[string]struct {
		r    authtrip.Refresher
		want bool
	}{
		"RefreshToken":      {authtrip.RefreshToken(conf), false},
		"zero Grant":        {new(authtrip.Grant), false},
		"ClientCredentials": {authtrip.ClientCredentials(new(clientcredentials.Config)), true},
		"JWTBearer":         {authtrip.JWTBearer(conf, nil), true},
		"TokenExchange":     {authtrip.TokenExchange(conf, nil), true},
		"FromTokenSource":   {authtrip.FromTokenSource(new(authtriptest.Source)), true},
	} {
		if got := tt.r.(interface{ Repeatable() bool }).Repeatable(); got != tt.want {
			t.Errorf("%s: Repeatable() = %v, want %v", name, got, tt.want)
		}
	}
}

// TestThirdPartySourceIsAskedOnceAtA401: it was asked twice.
func TestThirdPartySourceIsAskedOnceAtA401(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		vendor := tokenSourceFunc(func() (*oauth2.Token, error) {
			return &oauth2.Token{AccessToken: "t" + string('0'+calls.Add(1)), Expiry: time.Now().Add(time.Hour)}, nil
		})
		src := &authtrip.Source{Refresher: authtrip.FromTokenSource(vendor)}
		defer src.Close()
		var sent []string
		client := &http.Client{Transport: &authtrip.Transport{Source: src, Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
			sent = append(sent, strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "))
			status := http.StatusOK
			if len(sent) == 1 {
				status = http.StatusUnauthorized
			}
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		})}}
		if _, err := client.Get("https://api.example/"); err != nil {
			t.Fatal(err)
		}
		if want := []string{"t1", "t2"}; !slices.Equal(sent, want) || calls.Load() != 2 {
			t.Errorf("sent %q after %d calls, want %q after 2", sent, calls.Load(), want)
		}
	})
}
