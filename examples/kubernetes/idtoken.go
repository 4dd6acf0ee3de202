package main

import (
	"context"
	"errors"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// idTokens is for a cluster that checks ID tokens, as one does that was started
// with --oidc-issuer-url and --oidc-client-id. The Initial of such a Source goes
// through idToken too.
func idTokens(r authtrip.Refresher) authtrip.Refresher {
	return authtrip.RefresherFunc(func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
		tok, err := r.Refresh(ctx, old)
		if err != nil {
			return nil, err
		}
		next, err := idToken(tok)
		if err != nil && old != nil {
			// Not an error, which would lose the refresh token that came with it: the
			// cluster will refuse the old ID token.
			kept := *tok
			kept.AccessToken = old.AccessToken
			return &kept, nil
		}
		return next, err
	})
}

// idToken returns tok with its ID token as what is sent. An ID token that ends
// before the access token is refused then, and replaced.
func idToken(tok *oauth2.Token) (*oauth2.Token, error) {
	id, ok := tok.Extra("id_token").(string)
	if !ok {
		return nil, errors.New("there is no ID token: is openid among the scopes?")
	}
	sent := *tok
	sent.AccessToken = id
	return &sent, nil
}
