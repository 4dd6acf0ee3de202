package main

import (
	"fmt"
	"io"
	"net/http"
)

// echo is the API.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		_, _ = fmt.Fprintf(w, "%s %s: %q", r.Method, r.URL.Path, b) // or the caller has gone
	}
}
