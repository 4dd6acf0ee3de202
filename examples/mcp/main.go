// MCP shows the client of github.com/modelcontextprotocol/go-sdk, which talks to a
// server of the Model Context Protocol over HTTP. The session is kept while the
// tokens of its requests change.
//
// The SDK's own OAuthHandler finds the authorization server and has the user log
// in. What comes of that is a token for a Source, which takes over from there and
// can keep it in a Store, so that the next start needs no login.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: api(), Refuse: refuse})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	client := mcp.NewClient(&mcp.Implementation{Name: "example", Version: "v0.1.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: s.URL,
		HTTPClient: &http.Client{
			Transport: &authtrip.Transport{Source: src, Origins: []string{s.URL}},
		},
		DisableStandaloneSSE: true, // this program listens to no notifications
	}, nil)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()

	return s.Play(ctx, w, func(ctx context.Context) error {
		result, err := session.CallTool(ctx, &mcp.CallToolParams{
			Name:      "greet",
			Arguments: map[string]any{"name": "Ada"},
		})
		if err != nil {
			return err
		}
		for _, c := range result.Content {
			if text, ok := c.(*mcp.TextContent); ok {
				fmt.Fprintln(w, text.Text)
			}
		}
		return nil
	})
}
