// Google shows google.golang.org/api, whose clients take tokens in two ways.
//
// option.WithHTTPClient takes the client that has the Transport, which does all
// there is to do. It goes without what the library would add to a client of its
// own, such as mutual TLS.
//
// option.WithTokenSource takes the Source, for clients that speak gRPC too. The library then
// keeps each token until its end, and nobody hears of a 401: a rejected token is the
// program's business.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/api/tasks/v1"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: http.HandlerFunc(taskLists)})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)
	endpoint := option.WithEndpoint(s.URL) // for this example only

	fmt.Fprintln(w, "option.WithHTTPClient")
	client := &http.Client{Transport: &authtrip.Transport{Source: src, Origins: []string{s.URL}}}
	service, err := tasks.NewService(ctx, endpoint, option.WithHTTPClient(client))
	if err != nil {
		return err
	}
	err = s.Play(ctx, w, func(ctx context.Context) error { return list(ctx, w, service) })
	if err != nil {
		return err
	}

	fmt.Fprintln(w, "option.WithTokenSource")
	service, err = tasks.NewService(ctx, endpoint, option.WithTokenSource(fleeting{src}))
	if err != nil {
		return err
	}
	return s.Play(ctx, w, func(ctx context.Context) error {
		tok, err := src.TokenContext(ctx)
		if err != nil {
			return err
		}
		err = list(ctx, w, service)
		if refused := (*googleapi.Error)(nil); errors.As(err, &refused) && refused.Code == http.StatusUnauthorized {
			src.Invalidate(tok)
			err = list(ctx, w, service)
		}
		return err
	})
}

// fleeting is a Source for a library that keeps a token until its end: as this has
// passed, it asks again for each request, which costs next to nothing.
type fleeting struct{ *authtrip.Source }

func (f fleeting) Token() (*oauth2.Token, error) {
	tok, err := f.Source.Token()
	if err != nil {
		return nil, err
	}
	ended := *tok
	ended.Expiry = time.Unix(0, 0)
	return &ended, nil
}
