// GitHub shows github.com/google/go-github with a token that expires, as the user access
// tokens of a GitHub App do after eight hours, with a refresh token that can be used once.
//
// GitHub rejects a token with a 401 that has no challenge, which counts as invalid_token.
// The bodies that go-github makes can be sent again, and so can the file of
// UploadReleaseAsset, however large it is.
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

	client, err := newClient(src, s.URL)
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

// newClient returns a client of the API at origin. With that of GitHub there is no
// WithURLs, and there are two origins: https://api.github.com and, to upload,
// https://uploads.github.com. Archives and release assets are on other hosts, to
// which GitHub redirects: those do not get the token.
func newClient(src *authtrip.Source, origin string) (*github.Client, error) {
	url := origin + "/"
	return github.NewClient(
		github.WithTransport(&authtrip.Transport{Source: src, Origins: []string{origin}}),
		github.WithURLs(&url, &url),
	)
}
