package main

import (
	"context"
	"net/http"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// A UserInfoPeer says who the user of a token is, whose subject is "alice".
type UserInfoPeer interface {
	Name() string
	Module() string
	// UserInfo returns a function that returns the subject. With fresh set it must
	// ask the server at each call.
	UserInfo(endpoint string, client *http.Client, tok *oauth2.Token, fresh bool) func(ctx context.Context) (string, error)
}

// userInfoPeers returns all of them in the order of the table.
func userInfoPeers() []UserInfoPeer { return []UserInfoPeer{authtripPeer{}, oidcPeer{}} }

// oidcPeer is go-oidc with x/oauth2, as its documentation shows. It has no cache.
type oidcPeer struct{}

func (oidcPeer) Name() string   { return "go-oidc" }
func (oidcPeer) Module() string { return "github.com/coreos/go-oidc/v3" }

// UserInfo implements [UserInfoPeer].
func (oidcPeer) UserInfo(endpoint string, client *http.Client, tok *oauth2.Token, _ bool) func(context.Context) (string, error) {
	provider := (&oidc.ProviderConfig{IssuerURL: "https://as.example", UserInfoURL: endpoint}).
		NewProvider(oidc.ClientContext(context.Background(), client))
	ts := oauth2.StaticTokenSource(tok)
	return func(ctx context.Context) (string, error) {
		info, err := provider.UserInfo(oidc.ClientContext(ctx, client), ts)
		if err != nil {
			return "", err
		}
		return info.Subject, nil
	}
}

// UserInfo implements [UserInfoPeer].
func (authtripPeer) UserInfo(endpoint string, client *http.Client, tok *oauth2.Token, fresh bool) func(context.Context) (string, error) {
	src := &authtrip.UserInfoSource{
		URL: endpoint, Issuer: "https://as.example", Subject: "alice", Base: client.Transport,
		Source: &authtrip.Source{Refresher: authtrip.FromTokenSource(oauth2.StaticTokenSource(tok)), Initial: tok},
	}
	if fresh {
		src.TTL = -1
	}
	return func(ctx context.Context) (string, error) {
		info, err := src.UserInfo(ctx)
		if err != nil {
			return "", err
		}
		return info.Subject, nil
	}
}
