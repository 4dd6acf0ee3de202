package main

import (
	"context"

	"connectrpc.com/connect"

	"example.com/authtrip"
)

// again calls call once more, with another token, if it was refused. The server has
// not done anything yet.
func again(ctx context.Context, src *authtrip.Source, call func() error) error {
	tok, err := src.TokenContext(ctx) // the one that the call will carry
	if err != nil {
		return err
	}
	if err = call(); connect.CodeOf(err) != connect.CodeUnauthenticated {
		return err
	}
	src.Invalidate(tok) // unless somebody else was faster
	if next, e := src.TokenContext(ctx); e != nil || next.AccessToken == tok.AccessToken {
		return err // as the server said it
	}
	return call()
}
