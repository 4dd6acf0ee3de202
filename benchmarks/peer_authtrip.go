package main

import (
	"context"
	"net/http"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// authtripPeer is this library, with default settings but for Margin.
type authtripPeer struct{}

func (authtripPeer) Name() string   { return "authtrip" }
func (authtripPeer) Module() string { return "example.com/authtrip" }

func (authtripPeer) Wrap(u User) (http.RoundTripper, error) {
	return &authtrip.Transport{Source: authtripSource(u), Base: u.Base}, nil
}

func authtripSource(u User) *authtrip.Source {
	src := &authtrip.Source{EarlyRefresh: u.Margin, Store: u.Store}
	if u.Store != nil {
		src.Key = "alice"
	}
	switch {
	case u.Fetch != nil:
		src.Refresher = authtrip.RefresherFunc(func(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) { return u.Fetch(ctx) })
	case u.Endpoint.RefreshToken != "":
		grant := authtrip.RefreshToken(u.Endpoint.user())
		grant.HTTPClient = u.Endpoint.Client
		src.Refresher, src.Initial = grant, &oauth2.Token{RefreshToken: u.Endpoint.RefreshToken}
	default:
		grant := authtrip.ClientCredentials(u.Endpoint.program())
		grant.HTTPClient = u.Endpoint.Client
		src.Refresher = grant
	}
	return src
}

// WrapCrowd implements [CrowdPeer] with Sources, whose Store is elsewhere.
func (authtripPeer) WrapCrowd(base http.RoundTripper, fetch func(context.Context, string) (*oauth2.Token, error), max int) (http.RoundTripper, func()) {
	return authtripCrowd(base, fetch, max, storeElsewhere{})
}

func authtripCrowd(base http.RoundTripper, fetch func(context.Context, string) (*oauth2.Token, error), max int, store authtrip.Store) (http.RoundTripper, func()) {
	all := &authtrip.Sources{
		MaxSources: 2 * max,
		Key:        func(ctx context.Context) (string, error) { return userOf(ctx), nil },
		Each: authtrip.Source{
			Store:     store,
			Refresher: authtrip.RefresherFunc(func(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) { return fetch(ctx, userOf(ctx)) }),
		},
	}
	return &authtrip.Transport{Base: base, Source: all}, func() { _ = all.Close() }
}

// storeElsewhere stands for a database: what it holds is not in this process. It
// is empty whenever it is asked, and takes everything.
type storeElsewhere struct{}

func (storeElsewhere) Load(context.Context, string) ([]byte, string, error) {
	return nil, "", authtrip.ErrNotFound
}

func (storeElsewhere) Save(context.Context, string, []byte, string) (string, error) { return "1", nil }

func (storeElsewhere) Delete(context.Context, string, string) error { return nil }
