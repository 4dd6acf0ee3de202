package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run, "just logged in 2 0 0", "token revoked 3 1 1", "token expired 2 0 1")
	for id := 1; id <= 9; id++ {
		if n := strings.Count(out, fmt.Sprintf("event %d: ", id)); n != 1 {
			t.Errorf("event %d came %d times:\n%s", id, n, out)
		}
	}
}

// TestEventsAreReadWhileTheStreamIsOpen: the server waits for each event to be seen
// before it sends the next one.
func TestEventsAreReadWhileTheStreamIsOpen(t *testing.T) {
	t.Parallel()
	seen := make(chan bool)
	site := authtriptest.Start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, "data: x\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
				return
			}
		}
	}))
	client := &http.Client{Transport: &authtrip.Transport{Source: &authtriptest.Source{}}}
	n := 0
	more, err := (&stream{client: client, url: site.URL}).open(t.Context(), func(string) bool {
		seen <- true
		n++
		return true
	})
	if err != nil || !more || n != 3 {
		t.Errorf("open() = %v, %v after %d events, want true and no error after 3", more, err, n)
	}
}

func TestStreamThatIsNone(t *testing.T) {
	t.Parallel()
	site := authtriptest.Start(t, http.NotFoundHandler())
	s := &stream{client: site.Client, url: site.URL}
	if err := s.follow(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "status 404") {
		t.Errorf("follow() = %v, want the status", err)
	}
}
