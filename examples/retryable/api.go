package main

import (
	"io"
	"net/http"
	"sync/atomic"
)

// moody is the API. It is busy each time it is asked for the first time.
type moody struct{ requests atomic.Int64 }

func (m *moody) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if m.requests.Add(1)%2 == 1 {
		w.Header().Set("Retry-After", "0")
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "well, if you must") // or the caller has gone
}
