package authtrip

import (
	"context"
	"errors"

	"golang.org/x/oauth2"
)

// Retry calls f with a token, and once more with another one if f reports that the API
// rejected the first. It is for protocols that reject a token inside of an answer of
// status 200, which a [Transport] does not read: gRPC, Connect, GraphQL.
//
//	err := authtrip.Retry(ctx, src, func(tok *oauth2.Token) (rejected bool, err error) {
//		err = call(ctx)
//		return status.Code(err) == codes.Unauthenticated, err
//	})
//
// f may send tok itself. It may also leave that to a Transport or credentials with the
// same src: they send the same token. Report a call as rejected only if the API has not
// done anything yet, as f is called again. The token must not be modified.
//
// Retry returns the error of the last call of f. If there is no other token, it returns
// the error of the first call, which then wraps the error of src too. It blocks as f and
// src do.
func Retry(ctx context.Context, src ContextTokenSource, f func(tok *oauth2.Token) (rejected bool, err error)) error {
	if src == nil {
		return errors.New("authtrip: Retry: src is nil")
	}
	from := tokensOf(src)
	snap, err := from.snapshot(ctx)
	if err != nil {
		return err
	}
	rejected, err := f(snap.token())
	if !rejected {
		return err
	}
	from.rejected(snap)
	next, noToken := from.snapshot(ctx)
	switch {
	case noToken != nil && err == nil:
		return noToken
	case noToken != nil:
		return &rejectedError{err, noToken}
	case next.access() == snap.access():
		return err
	}
	rejected, err = f(next.token())
	if rejected {
		from.rejected(next)
	} else {
		from.accepted(next)
	}
	return err
}

// rejectedError is the error of an API, and why there is no other token.
type rejectedError struct{ api, token error }

func (e *rejectedError) Error() string   { return e.api.Error() }
func (e *rejectedError) Unwrap() []error { return []error{e.api, e.token} }
