package login_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authtrip/login"
)

// One server that does not answer its registration kept every other login of the program
// waiting, also those whose registration was there, and whose callers had left.
func TestIdentityDoesNotWaitForAnotherServer(t *testing.T) {
	t.Parallel()
	id := &login.Identity{Metadata: &login.ClientMetadata{}}
	asked, release := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(release) })
	at := func(issuer string, answer func()) *login.Provider {
		network := roundTripper(func(r *http.Request) (*http.Response, error) {
			answer()
			return response(r, http.StatusCreated, `{"client_id":"dynamic"}`), nil
		})
		return &login.Provider{
			Issuer: issuer, HTTPClient: &http.Client{Transport: network},
			Static: &login.Metadata{RegistrationEndpoint: issuer + "/register"},
		}
	}
	slow := at("https://slow.example", func() {
		close(asked)
		<-release
	})
	go func() { _, _, _ = id.Client(t.Context(), slow, nil, false) }()
	<-asked
	done := make(chan error, 1)
	go func() {
		_, _, err := id.Client(t.Context(), at("https://quick.example", func() {}), nil, false)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a server waits for another one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	go func() {
		_, _, err := id.Client(ctx, slow, nil, false)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want context.Canceled", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a caller that has left waits")
	}
}

// Logins that many requests begin at once share one registration.
func TestIdentityRegistersOnceForLoginsAtOnce(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	id := &login.Identity{Metadata: &login.ClientMetadata{}}
	network := roundTripper(func(r *http.Request) (*http.Response, error) {
		n.Add(1)
		return response(r, http.StatusCreated, `{"client_id":"dynamic"}`), nil
	})
	p := &login.Provider{
		Issuer: "https://as.example", HTTPClient: &http.Client{Transport: network},
		Static: &login.Metadata{RegistrationEndpoint: "https://as.example/register"},
	}
	done := make(chan error, 20)
	for range cap(done) {
		go func() {
			_, _, err := id.Client(t.Context(), p, nil, false)
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := n.Load(); got != 1 {
		t.Errorf("%d registrations, want 1", got)
	}
}

func response(r *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}
