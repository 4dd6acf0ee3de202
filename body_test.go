package authtrip_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// TestStalled401DoesNotHangTheRequest: the body of a 401 was read to its end, however long that took.
func TestStalled401DoesNotHangTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, pipe := io.Pipe()
		defer pipe.Close()
		go func() { _, _ = io.WriteString(pipe, "begun") }()
		base := &rejecting{times: 1, body: func() io.ReadCloser { return body }}
		start := time.Now()
		resp, err := (&authtrip.Transport{Source: counting(), Base: base}).RoundTrip(newGet(t.Context(), t, "https://api.example/"))
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
		resp, err := (&authtrip.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"}), Base: base}).RoundTrip(newGet(t.Context(), t, "https://api.example/"))
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
