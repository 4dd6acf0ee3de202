// What a reader of the README has before a snippet: a server, a login at it, and
// somebody else's code.

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

var (
	ctx    = context.Background()
	srv    = &authtriptest.Server{Rotate: true, Issuer: "https://login.example", Claims: claims}
	site   = httptest.NewServer(srv)
	conf   = srv.Config(site.URL)
	token  = srv.Issue("alice")
	grant  = authtrip.RefreshToken(conf)
	store  = new(authtrip.MemoryStore)
	src    = &authtrip.Source{Refresher: authtrip.RefreshToken(conf), Initial: srv.Issue("alice")}
	ts     = src
	client = &http.Client{Transport: &authtrip.Transport{Source: src}}
	dir    = filepath.Join(temp(), "tokens")
	vendor = oauth2.StaticTokenSource(srv.Issue("alice"))

	resp, err = client.Get(site.URL + "/api")
)

func temp() string {
	dir, err := os.MkdirTemp("", "paste")
	if err != nil {
		panic(err)
	}
	return dir
}

func claims(string) map[string]any { return map[string]any{"name": "Alice"} }

func main() {
	if err := snippet(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// use puts to use what a snippet made.
func use(made ...any) error {
	client, ofMany := client, false
	for _, v := range made {
		switch v := v.(type) {
		case *http.Client:
			client = v
		case *authtrip.Sources:
			ofMany = true // its client needs a request that says whose it is
		}
	}
	for _, v := range made {
		var err error
		switch v := v.(type) {
		case nil, *authtrip.Sources, *authtrip.Users: // no error; of use together with others
		case error:
			err = v
		case *http.Client:
			if ofMany {
				continue
			}
			err = good(v.Get(site.URL + "/api"))
		case *http.Request:
			err = good(client.Do(v))
		case *http.Response:
			err = good(v, nil)
		case *SDK:
			err = good(v.client.Get(v.base + "/api"))
		case oauth2.TokenSource:
			_, err = v.Token()
		case *authtrip.UserInfoSource:
			_, err = v.UserInfo(ctx)
		case *authtrip.UserInfo:
			if v.Subject != "alice" {
				err = errors.New("this is another user")
			}
		case struct{ Name string }:
			if v.Name != "Alice" {
				err = errors.New("this is another name")
			}
		case func(string) *authtrip.Source:
			_, err = v("https://files.example").Token()
		default:
			err = fmt.Errorf("a %T is made, and there is no use for it here", v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func good(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return resp.Body.Close()
}

// SDK is somebody else's client.
type SDK struct {
	client *http.Client
	base   string
}

func NewSDK(client *http.Client, base string) *SDK { return &SDK{client, base} }
