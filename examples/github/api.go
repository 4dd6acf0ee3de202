package main

import (
	"encoding/json"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/google/go-github/v92/github"
)

// api is what this program uses of GitHub's REST API.
func api() http.Handler {
	var issues atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /repos/{owner}/{repo}/issues", func(w http.ResponseWriter, r *http.Request) {
		var issue github.Issue
		if err := json.NewDecoder(r.Body).Decode(&issue); err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"message": "Problems parsing JSON"})
			return
		}
		issue.Number = new(int(issues.Add(1)))
		answer(w, http.StatusCreated, issue)
	})
	mux.HandleFunc("POST /repos/{owner}/{repo}/releases/{id}/assets", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body) // what has arrived
		answer(w, http.StatusCreated, github.ReleaseAsset{Size: new(int(n))})
	})
	return mux
}

// refuse is how GitHub refuses a token.
func refuse(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusUnauthorized, map[string]string{"message": "Bad credentials"})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // or the caller has gone
}
