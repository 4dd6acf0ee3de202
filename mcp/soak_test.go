package mcp_test

import (
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"

	"example.com/authtrip/mcp"
)

var _ auth.OAuthHandler = (*mcp.Transport)(nil)

// TestSoakLeavesNothingBehind sends AUTHTRIP_SOAK requests, 4,000 if it is not set, over two
// sessions through one client, whose tokens are revoked all the time.
func TestSoakLeavesNothingBehind(t *testing.T) {
	total := 4000
	if s := os.Getenv("AUTHTRIP_SOAK"); s != "" {
		total, _ = strconv.Atoi(s)
	}
	base := new(http.Transport)
	worlds := [2]*world{newWorld(t), newWorld(t)}
	byHost := hosts{}
	for _, w := range worlds {
		tr := &mcp.Transport{URL: w.url(), Login: browser(), Identity: identity(), Base: base}
		byHost[strings.TrimPrefix(w.api.URL, "http://")] = tr
		want200(t, tr, w.url(), "")
	}
	client := &http.Client{Transport: byHost}
	goroutines, heap := 0, uint64(0)
	for i := range total {
		w := worlds[i%2]
		switch i {
		case total / 10: // everything is warm
			goroutines, heap = runtime.NumGoroutine(), heapSize()
		case total - 1:
			if n := runtime.NumGoroutine(); n > goroutines+10 {
				t.Errorf("%d goroutines, %d when it was warm", n, goroutines)
			}
			if n := heapSize(); n > heap+4<<20 {
				t.Errorf("%d bytes on the heap, %d when it was warm", n, heap)
			}
		}
		if i%2000 < 2 { // one of each
			w.revoke()
			w.mu.Lock()
			w.bodies, w.as[0].codes = nil, map[string]string{}
			w.mu.Unlock()
		}
		resp, err := client.Post(w.url(), "text/plain", strings.NewReader("x"))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("request %d: %v", i, err)
		}
		_ = resp.Body.Close()
	}
	for _, tr := range byHost {
		_ = tr.Close()
	}
	base.CloseIdleConnections()
	logins := len(worlds[0].as[0].asked) + len(worlds[1].as[0].asked)
	if logins != 2 {
		t.Errorf("%d logins, want 2", logins)
	}
	t.Logf("%d requests, %d token requests", total, len(worlds[0].as[0].tokens)+len(worlds[1].as[0].tokens))
}

func heapSize() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
		<-time.After(10 * time.Millisecond) // finalizers
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// hosts is one client for several servers.
type hosts map[string]*mcp.Transport

func (h hosts) RoundTrip(req *http.Request) (*http.Response, error) {
	return h[req.URL.Host].RoundTrip(req)
}
