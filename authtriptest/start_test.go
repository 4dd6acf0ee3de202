package authtriptest_test

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"example.com/authtrip/authtriptest"
)

func TestSiteSpeaksItsProtocol(t *testing.T) {
	t.Parallel()
	var protos []string
	authtriptest.EachProtocol(t, func(t *testing.T, start func(http.Handler) *authtriptest.Site) {
		site := start(say("x"))
		for range 5 {
			resp := get(t, site.Client, site.URL, "")
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if len(protos) == 0 || protos[len(protos)-1] != resp.Proto {
				protos = append(protos, resp.Proto)
			}
		}
		if got := site.Connections(); got != 1 {
			t.Errorf("Connections = %d, want 1", got)
		}
	})
	if len(protos) != 2 || protos[0] != "HTTP/1.1" || protos[1] != "HTTP/2.0" {
		t.Errorf("protocols = %q", protos)
	}
}

// The end of a test must not wait for a handler that waits for its client.
func TestSiteEndsWhileARequestIsServed(t *testing.T) {
	t.Parallel()
	var answered sync.WaitGroup
	authtriptest.EachProtocol(t, func(t *testing.T, start func(http.Handler) *authtriptest.Site) {
		arrived := make(chan struct{})
		srv := &authtriptest.Server{OnRequest: func(*http.Request) { close(arrived) }}
		srv.Fail(authtriptest.APIPath, authtriptest.Fault{Until: make(chan struct{})})
		site := start(srv)
		answered.Go(func() {
			if resp, err := site.Client.Get(site.URL + authtriptest.APIPath); err == nil {
				resp.Body.Close()
			}
		})
		<-arrived
	})
	answered.Wait()
}
