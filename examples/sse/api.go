package main

import (
	"fmt"
	"net/http"
	"strconv"
)

// events is the API. It sends two events and ends the stream.
func events(w http.ResponseWriter, r *http.Request) {
	last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID")) // 0 if there was none
	w.Header().Set("Content-Type", "text/event-stream")
	for id := last + 1; id <= last+2; id++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: it is %d o'clock\n\n", id, id%12); err != nil {
			return // the client has gone
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
	}
}
