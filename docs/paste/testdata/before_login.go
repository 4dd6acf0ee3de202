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
	other   = "https://other.example"
	browser func(context.Context, string) error
	mux     = http.NewServeMux()
	app     = &httptest.Server{URL: "https://app.example"}
	h       = &login.Handlers{}
	client  = &login.Client{}
	store   = new(authtrip.MemoryStore)
	r       *http.Request
	s       *login.Session
	user    string
	users   *authtrip.Sources
	server  = &httptest.Server{URL: issuer}
	file    string

	loggedInAt string
	remember   func(key, sid, subject string) error
	keysOf     func(sid, subject string) []string
)

func main() {
	use(ctx, issuer, other, browser, mux, app, h, client, store, r, s, user, users, server, file, loggedInAt, remember, keysOf, snippet)
}

func use(...any) error { return nil }
