package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go/auth/bearer"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// smithyPeer is a token cache and the signer that puts its token into a request,
// called one after the other as the middleware of a service client calls them.
type smithyPeer struct{}

func (smithyPeer) Name() string   { return "smithy" }
func (smithyPeer) Module() string { return "github.com/aws/smithy-go" }

func (smithyPeer) Wrap(u User) (http.RoundTripper, error) {
	provider := bearer.TokenProviderFunc(func(ctx context.Context) (bearer.Token, error) {
		tok, err := u.Token(ctx)
		if err != nil {
			return bearer.Token{}, err
		}
		return bearer.Token{Value: tok.AccessToken, CanExpire: true, Expires: tok.Expiry}, nil
	})
	cache := bearer.NewTokenCache(provider, func(o *bearer.TokenCacheOptions) { o.RefreshBeforeExpires = u.Margin })
	return &smithyTransport{cache: cache, signer: bearer.NewSignHTTPSMessage(), base: u.Base}, nil
}

type smithyTransport struct {
	cache  *bearer.TokenCache
	signer *bearer.SignHTTPSMessage
	base   http.RoundTripper
}

func (t *smithyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := t.cache.RetrieveBearerToken(req.Context())
	if err != nil {
		return nil, err
	}
	signed, err := t.signer.SignWithBearerToken(req.Context(), token, &smithyhttp.Request{Request: req})
	if err != nil {
		return nil, err
	}
	out, ok := signed.(*smithyhttp.Request)
	if !ok {
		return nil, fmt.Errorf("the signer returned a %T", signed)
	}
	return t.base.RoundTrip(out.Build(req.Context()))
}
