// GraphQL shows github.com/Khan/genqlient, whose clients take an http.Client.
//
// Some servers reject a token with a 401, which is the Transport's business. Others answer
// 200 and put the rejection among the errors, where only the caller sees it, so that the
// program has to tell the Source.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/Khan/genqlient/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: http.HandlerFunc(api), Refuse: refuse})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)
	client := &http.Client{Transport: &authtrip.Transport{Source: src, Origins: []string{s.URL}}}

	fmt.Fprintln(w, "a server that answers 401")
	plain := graphql.NewClient(s.URL+strictPath, client)
	err := s.Play(ctx, w, func(ctx context.Context) error { return viewer(ctx, w, plain) })
	if err != nil {
		return err
	}

	fmt.Fprintln(w, "a server that answers 200")
	lenient := again{graphql.NewClient(s.URL+lenientPath, client), src}
	return s.Play(ctx, w, func(ctx context.Context) error { return viewer(ctx, w, lenient) })
}

// again is a client that sends a request once more, with another token, if the
// errors in the answer say that the token was rejected. That is for servers that look
// at the token first: others may have done a part of a mutation.
type again struct {
	graphql.Client
	src *authtrip.Source
}

func (a again) MakeRequest(ctx context.Context, req *graphql.Request, resp *graphql.Response) error {
	data := resp.Data // "data": null takes it away
	return authtrip.Retry(ctx, a.src, func(*oauth2.Token) (bool, error) {
		*resp = graphql.Response{Data: data}
		err := a.Client.MakeRequest(ctx, req, resp)
		return unauthenticated(err), err
	})
}

// unauthenticated looks for the code that Apollo Server has made customary.
func unauthenticated(err error) bool {
	var list gqlerror.List
	if !errors.As(err, &list) {
		return false
	}
	for _, e := range list {
		if e.Extensions["code"] == "UNAUTHENTICATED" {
			return true
		}
	}
	return false
}
