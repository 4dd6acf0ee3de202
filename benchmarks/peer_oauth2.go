package main

import (
	"context"
	"net/http"

	"golang.org/x/oauth2"
)

// oauth2Peer is what Config.Client builds: a Transport and a source that keeps its
// token.
type oauth2Peer struct{}

func (oauth2Peer) Name() string   { return "x/oauth2" }
func (oauth2Peer) Module() string { return "golang.org/x/oauth2" }

func (oauth2Peer) Wrap(u User) (http.RoundTripper, error) {
	var ts oauth2.TokenSource
	switch {
	case u.Margin != 0:
		ts = oauth2.ReuseTokenSourceWithExpiry(nil, tokenSource{u}, u.Margin)
	case u.Fetch != nil:
		ts = oauth2.ReuseTokenSource(nil, tokenSource{u})
	default:
		ctx := context.WithValue(context.Background(), oauth2.HTTPClient, u.Endpoint.Client)
		if u.Endpoint.RefreshToken != "" {
			ts = u.Endpoint.user().TokenSource(ctx, &oauth2.Token{RefreshToken: u.Endpoint.RefreshToken})
		} else {
			ts = u.Endpoint.program().TokenSource(ctx)
		}
	}
	return &oauth2.Transport{Source: ts, Base: u.Base}, nil
}
