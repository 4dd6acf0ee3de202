// What a reader of login/README.md has before a snippet.

package main

import (
	"context"
	"net/http"
	"net/http/httptest"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

var (
	ctx     = context.Background()
	issuer  = "https://login.example"
	browser func(context.Context, string) error
	mux     = http.NewServeMux()
	h       = &login.Handlers{}
	client  = &login.Client{}
	store   = new(authtrip.MemoryStore)
	r       *http.Request
	s       *login.Session
	user    string
	users   *authtrip.Sources
	server  = &httptest.Server{URL: issuer}
	file    string
)

func main() {
	use(ctx, issuer, browser, mux, h, client, store, r, s, user, users, server, file, snippet)
}

func use(...any) error { return nil }
