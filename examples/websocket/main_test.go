package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run, "just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	if n := strings.Count(out, "HELLO\n"); n != 3 {
		t.Errorf("%d answers, want 3:\n%s", n, out)
	}
}

// TestServerThatRefusesEveryToken: the answer is in the error, and there is no
// connection.
func TestServerThatRefusesEveryToken(t *testing.T) {
	t.Parallel()
	srv := &authtriptest.Server{}
	srv.FailAlways(authtriptest.APIPath, authtriptest.Fault{Challenge: authtriptest.InvalidToken})
	site := authtriptest.Start(t, srv)
	client := &http.Client{Transport: &authtrip.Transport{Source: new(authtriptest.Source), Base: site.Client.Transport}}
	_, err := ask(t.Context(), site.URL+authtriptest.APIPath, &websocket.DialOptions{HTTPClient: client}, "hello")
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("ask() = %v, want the status", err)
	}
	if n := srv.Counts().API; n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}
