// Mcpstream shows the client of github.com/modelcontextprotocol/go-sdk, which talks to a
// server of the Model Context Protocol over HTTP. To the SDK a rejected token is the
// end of a session; with the Transport it lives on.
//
// So does the stream on which the server tells of changes. It has the token with
// which it was opened, and if it is opened again, the token of that time.
//
// The SDK's OAuthHandler stays unset, as its header would stay on the requests. It
// finds the authorization server and has the user log in; what a Source wants of
// that, the configuration and the token, its NewTokenSource gets.
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

	changed := make(chan struct{}, 1)
	client := &http.Client{ // no Timeout: it would end the stream
		Transport: &authtrip.Transport{Source: src, Origins: []string{s.URL}},
	}
	session, err := connect(ctx, s.URL, client, changed, "")
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()

	n := 0
	return s.Play(ctx, w, func(ctx context.Context) error {
		n++
		answer, err := learn(ctx, session, fmt.Sprint("word", n))
		if err != nil {
			return err
		}
		fmt.Fprintln(w, answer)
		select {
		case <-changed:
			fmt.Fprintln(w, "there are other tools")
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

// connect opens a session, in which changed gets a value when the tools have changed.
func connect(ctx context.Context, url string, client *http.Client, changed chan<- struct{}, version string) (*mcp.ClientSession, error) {
	c := mcp.NewClient(&mcp.Implementation{Name: "example", Version: "v0.1.0"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
	})
	return c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: client},
		&mcp.ClientSessionOptions{ProtocolVersion: version}) // "" is the newest
}
