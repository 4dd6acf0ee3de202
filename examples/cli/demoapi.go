package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/authtrip/login"
)

const demoAPIClient = "api"

func newSecret() string { return rand.Text() }

// demoAPI is an HTTP API that wants an access token, and asks the provider about
// each one that it gets.
type demoAPI struct {
	url    string
	server *http.Server
	client *login.Client
}

func startDemoAPI(issuer, secret string) (*demoAPI, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &demoAPI{
		url:    "http://" + listener.Addr().String(),
		client: &login.Client{Provider: &login.Provider{Issuer: issuer}, ID: demoAPIClient, Secret: secret},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"hello": subject(r)})
	})
	mux.HandleFunc("POST /notes", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, "the body ends too early", http.StatusBadRequest)
			return
		}
		answer(w, map[string]any{"of": subject(r), "bytes": n})
	})
	a.server = &http.Server{Handler: a.guard(mux), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = a.server.Serve(listener) }() // until Close
	return a, nil
}

// Close stops the API.
func (a *demoAPI) Close() error { return a.server.Close() }

// guard lets requests through that have a good token (RFC 6750).
func (a *demoAPI) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			refuse(w, "Bearer")
			return
		}
		switch said, err := a.client.Introspect(r.Context(), token); {
		case err != nil:
			http.Error(w, "the provider does not answer", http.StatusServiceUnavailable)
		case !said.Active:
			refuse(w, `Bearer error="invalid_token"`)
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), subjectKey{}, said.Subject)))
		}
	})
}

func refuse(w http.ResponseWriter, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	http.Error(w, "unauthorized", http.StatusUnauthorized)
}

type subjectKey struct{}

// subject returns whose token a request carried.
func subject(r *http.Request) string {
	s, _ := r.Context().Value(subjectKey{}).(string)
	return s
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // or the caller has gone
}
