// GitHub shows github.com/google/go-github with a token that expires, as the user
// access tokens of a GitHub App do after eight hours, with a refresh token that
// can be spent once.
//
// GitHub refuses a token with a 401 that has no challenge, which counts as
// invalid_token. A body that go-github has made can be sent again; that of
// UploadReleaseAsset is a file and cannot, beyond Transport.MaxReplayBody.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-github/v92/github"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: api(), Refuse: refuse})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	// Archives and release assets are on other hosts, to which GitHub redirects:
	// those do not get the token.
	base := s.URL + "/" // https://api.github.com/ if it is not set
	client, err := github.NewClient(
		github.WithTransport(&authtrip.Transport{Source: src, Origins: []string{s.URL}}),
		github.WithURLs(&base, nil),
	)
	if err != nil {
		return err
	}
	return s.Play(ctx, w, func(ctx context.Context) error {
		issue, resp, err := client.Issues.Create(ctx, "ada", "engine", github.CreateIssueRequest{
			Title: "The mill jams",
		})
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusCreated {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		fmt.Fprintf(w, "#%d %s\n", issue.GetNumber(), issue.GetTitle())
		return nil
	})
}
