package main

import (
	"context"
	"net/http"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/httptransport"
)

// googlePeer is cloud.google.com/go/auth: a cached token provider, and the
// middleware that puts its token into the requests of a client.
type googlePeer struct{}

func (googlePeer) Name() string   { return "cloud auth" }
func (googlePeer) Module() string { return "cloud.google.com/go/auth" }

func (googlePeer) Wrap(u User) (http.RoundTripper, error) {
	cached := auth.NewCachedTokenProvider(googleProvider{u}, &auth.CachedTokenProviderOptions{ExpireEarly: u.Margin})
	client := &http.Client{Transport: u.Base}
	err := httptransport.AddAuthorizationMiddleware(client, auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: cached}))
	return client.Transport, err
}

type googleProvider struct{ user User }

func (p googleProvider) Token(ctx context.Context) (*auth.Token, error) {
	tok, err := p.user.Token(ctx)
	if err != nil {
		return nil, err
	}
	return &auth.Token{Value: tok.AccessToken, Type: tok.TokenType, Expiry: tok.Expiry}, nil
}
