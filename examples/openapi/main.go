// Openapi shows a client that github.com/oapi-codegen/oapi-codegen has generated
// from an OpenAPI description. It knows nothing of the securitySchemes in there, and
// takes an http.Client.
//
// It takes request editors, too, which are often used to set an Authorization header. There
// must be none that does: the header stays, and nothing is refreshed.
//
// A body that the client has made from a value can be sent again. One that is given to a
// WithBody function as an io.Reader of unknown length cannot: if the token is rejected, the
// answer is the 401, and the next call has another token.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
	"example.com/authtrip/examples/openapi/notes"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: notes.Handler(new(book))})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	client, err := newClient(s, src)
	if err != nil {
		return err
	}
	return s.Play(ctx, w, func(ctx context.Context) error {
		answer, err := client.AddNoteWithResponse(ctx, notes.NewNote{Text: "The mill jams"})
		if err != nil {
			return err
		}
		if answer.JSON201 == nil { // a status is no error here
			return fmt.Errorf("status %d", answer.StatusCode())
		}
		fmt.Fprintf(w, "#%d %s\n", answer.JSON201.Id, answer.JSON201.Text)
		return nil
	})
}

func newClient(s *scene.Scene, src *authtrip.Source) (*notes.ClientWithResponses, error) {
	client := &http.Client{Transport: &authtrip.Transport{Source: src, Origins: []string{s.URL}}}
	return notes.NewClientWithResponses(s.URL, notes.WithHTTPClient(client))
}
