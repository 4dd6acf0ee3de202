package main

import (
	"net/http"

	"k8s.io/client-go/transport"
)

// clientGoPeer is what client-go does with a token that is fetched: a cached source
// that a 401 resets.
type clientGoPeer struct{}

func (clientGoPeer) Name() string   { return "client-go" }
func (clientGoPeer) Module() string { return "k8s.io/client-go" }

func (clientGoPeer) Wrap(u User) (http.RoundTripper, error) {
	ts := transport.NewCachedTokenSource(tokenSource{u})
	return transport.ResettableTokenSourceWrapTransport(ts)(u.Base), nil
}
