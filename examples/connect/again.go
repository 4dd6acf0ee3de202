package main

import (
	"context"

	"connectrpc.com/connect"
	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// again calls call once more, with another token, if it was refused. The server has
// not done anything yet.
func again(ctx context.Context, src *authtrip.Source, call func() error) error {
	return authtrip.Retry(ctx, src, func(*oauth2.Token) (bool, error) {
		err := call()
		return connect.CodeOf(err) == connect.CodeUnauthenticated, err
	})
}
