package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// api is an HTTP API that wants an access token. It asks the provider about every
// token that it gets (RFC 7662), so a revoked one is refused at once.
type api struct {
	url    string
	server *http.Server

	introspectionURL, secret string
	provider                 *http.Client

	requests, refused atomic.Int64
}

func startAPI(introspectionURL, secret string) (*api, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	a := &api{
		url:              "http://" + listener.Addr().String(),
		introspectionURL: introspectionURL,
		secret:           secret,
		provider:         &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: 10 * time.Second},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", a.hello)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = a.server.Serve(listener) }() // until Close
	return a, nil
}

// Close stops the API.
func (a *api) Close() error {
	a.provider.CloseIdleConnections()
	return a.server.Close()
}

func (a *api) hello(w http.ResponseWriter, r *http.Request) {
	a.requests.Add(1)
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		a.refuse(w, "Bearer")
		return
	}
	subject, err := a.introspect(r.Context(), token)
	switch {
	case err != nil:
		http.Error(w, "the provider does not answer", http.StatusServiceUnavailable)
	case subject == "":
		a.refuse(w, `Bearer error="invalid_token"`)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"hello": subject}) // or the caller has gone
	}
}

func (a *api) refuse(w http.ResponseWriter, challenge string) {
	a.refused.Add(1)
	w.Header().Set("WWW-Authenticate", challenge)
	http.Error(w, "unauthorized", http.StatusUnauthorized)
}

// introspect returns who a token speaks for, "" if it is not good.
func (a *api) introspect(ctx context.Context, token string) (subject string, err error) {
	form := url.Values{"token": {token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.introspectionURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(apiID, a.secret)
	resp, err := a.provider.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("introspection: status %d", resp.StatusCode)
	}
	var answer struct {
		Active  bool   `json:"active"`
		Subject string `json:"sub"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("introspection: %w", err)
	}
	if !answer.Active {
		return "", nil
	}
	return answer.Subject, nil
}
