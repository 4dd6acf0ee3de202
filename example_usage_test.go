package authtrip_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/filestore"
)

// At a logout the token is removed, and what was removed is for the server to end.
func ExampleSource_Forget() {
	srv := &authtriptest.Server{Rotate: true}
	site, done := server(srv)
	defer done()
	ctx := context.Background()
	src := &authtrip.Source{
		Refresher: authtrip.RefreshToken(srv.Config(site.URL)),
		Initial:   srv.Issue("alice"),
	}

	removed, err := src.Forget(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	// login.Client.Revoke does this for every provider.
	resp, err := http.PostForm(site.URL+authtriptest.RevokePath, url.Values{
		"token": {removed.RefreshToken}, "client_id": {"client"}, "client_secret": {"client-secret"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = src.Token()
	fmt.Println(resp.StatusCode, errors.Is(err, authtrip.ErrReauthRequired))
	// Output: 200 true
}

// An API may want more than the token has. OnChallenge gets another one, as from a
// second login; this request and those after it are sent with it.
func ExampleTransport_onChallenge() {
	srv := &authtriptest.Server{APIScope: "files.write"}
	site, done := server(srv)
	defer done()
	conf := srv.Config(site.URL)
	client := &http.Client{Transport: &authtrip.Transport{
		Source: &authtrip.Source{Refresher: authtrip.RefreshToken(conf), Initial: srv.Issue("alice")},
		OnChallenge: func(_ *http.Request, ch authtrip.Challenge) (*oauth2.Token, error) {
			fmt.Println("wanted:", ch.Scope)
			return srv.Issue("alice", ch.Scope), nil
		},
	}}
	for range 2 {
		resp, err := client.Get(site.URL + "/api")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(resp.Status)
		_ = resp.Body.Close()
	}
	// Output:
	// wanted: files.write
	// 200 OK
	// 200 OK
}

// Tokens in files that are encrypted, for what the file system's permissions do not
// protect against.
func ExampleSealed() {
	srv := &authtriptest.Server{Rotate: true}
	site, done := server(srv)
	defer done()
	dir, err := os.MkdirTemp("", "sealed")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	key := bytes.Repeat([]byte{7}, 32) // from a secret manager, and random

	source := func() *authtrip.Source {
		return &authtrip.Source{
			Refresher: authtrip.RefreshToken(srv.Config(site.URL)),
			Store:     &authtrip.Sealed{Store: &filestore.Store{Dir: dir}, Keys: [][]byte{key}},
			Key:       "alice",
		}
	}
	if err := source().SetToken(context.Background(), srv.Issue("alice")); err != nil {
		fmt.Println(err)
		return
	}
	// The program starts again:
	token, err := source().Token()
	fmt.Println(token.Valid(), err)
	// Output: true <nil>
}

// A service calls another one in the name of the user whose request it serves.
func ExampleTokenExchange() {
	srv := new(authtriptest.Server)
	site, done := server(srv)
	defer done()
	incoming := srv.Issue("alice").AccessToken // of the request

	grant := authtrip.TokenExchange(srv.Config(site.URL), func(context.Context) (string, string, error) {
		return incoming, "urn:ietf:params:oauth:token-type:access_token", nil
	})
	grant.Params = url.Values{"audience": {"https://inner.example"}}
	token, err := (&authtrip.Source{Refresher: grant}).Token()
	fmt.Println(token.AccessToken != incoming, err)
	// Output: true <nil>
}

// A signed statement of who the program is, in place of a secret.
func ExampleJWTBearer() {
	srv := new(authtriptest.Server)
	site, done := server(srv)
	defer done()
	sign := func(context.Context) (string, error) { return "header.claims.signature", nil }

	client := &http.Client{Transport: &authtrip.Transport{
		Source: &authtrip.Source{Refresher: authtrip.JWTBearer(srv.Config(site.URL), sign)},
	}}
	resp, err := client.Get(site.URL + "/api")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// Logins, refreshes and logouts of other processes are noticed at once, over one connection
// to the Store, for as long as the program runs.
func ExampleSources_Watch() {
	ctx, stop := context.WithCancel(context.Background())
	var store authtrip.MemoryStore // or redisstore's, which processes share
	users := &authtrip.Sources{Each: authtrip.Source{
		Refresher: authtrip.RefreshToken(&oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://login.example/token"}}),
		Store:     &store,
	}}
	ended := make(chan error, 1)
	go func() { ended <- users.Watch(ctx) }()

	stop() // when the program ends
	fmt.Println(errors.Is(<-ended, context.Canceled))
	// Output: true
}
