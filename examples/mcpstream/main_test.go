package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run, "just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	for _, want := range []string{"I know word1\n", "I know word2\n", "I know word3\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	if n := strings.Count(out, "there are other tools\n"); n != 3 {
		t.Errorf("%d notifications, want 3:\n%s", n, out)
	}
}

// TestStreamIsOpenedAgain: until 2025-11-25 the stream is a GET, which the SDK
// repeats when it has lost the connection.
func TestStreamIsOpenedAgain(t *testing.T) {
	t.Parallel()
	opened, server := make(chan struct{}, 10), api()
	s := scene.Start(scene.API{Refuse: refuse, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			opened <- struct{}{}
		}
		server.ServeHTTP(w, r)
	})})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)
	client, changed := &http.Client{Transport: &authtrip.Transport{Source: src}}, make(chan struct{}, 100)
	session, err := connect(t.Context(), s.URL, client, changed, "2025-11-25")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for stream := 1; stream <= 2; stream++ {
		<-opened
		s.RevokeToken()
		for heard, n := false, 1; !heard; n++ { // the server may be quicker than the stream
			if _, err := learn(t.Context(), session, fmt.Sprintf("word%d.%d", stream, n)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-changed:
				heard = true
			case <-time.After(time.Second):
			}
		}
		s.RevokeToken()
		s.Server.CloseClientConnections()
	}
}

// TestSessionEndsWithItsToken is what the SDK does by itself: another token is of
// no use to the session any more.
func TestSessionEndsWithItsToken(t *testing.T) {
	t.Parallel()
	s := scene.Start(scene.API{Handler: api(), Refuse: refuse})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)
	client := &http.Client{Transport: &oauth2.Transport{Source: src}}
	session, err := connect(t.Context(), s.URL, client, make(chan struct{}, 100), "")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	s.RevokeToken()
	for range 2 {
		if _, err := learn(t.Context(), session, "word"); err == nil {
			t.Error("the session goes on")
		}
		src.Invalidate(s.Login)
	}
	if _, err := scene.Get(t.Context(), client, s.URL); err == nil || strings.Contains(err.Error(), "401") {
		t.Errorf("Get() = %v, want that the token is not refused any more", err)
	}
}
