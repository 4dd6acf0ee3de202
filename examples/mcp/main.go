// Mcp is a program that is given the URL of an MCP server which it has never seen. It finds
// out where the server's users log in, logs its user in there, and calls tools. One of
// them needs more scope than the login got. Started again, it asks nobody.
//
// Without arguments it plays this with a server and an OpenID provider in the same
// process. With a URL it does it there, with the browser of whoever sits in front of it.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/authtrip/examples/internal/scene"
	"example.com/authtrip/filestore"
	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

func main() {
	if len(os.Args) < 2 {
		scene.Main(demo)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.UserConfigDir()
	if err == nil {
		a := &agent{url: os.Args[1], dir: filepath.Join(dir, "authtrip-mcp"), browser: new(mcp.Browser)}
		a.identity.Metadata = &login.ClientMetadata{ClientName: "authtrip example"}
		err = a.run(ctx, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mcp:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

// agent is the program.
type agent struct {
	url, dir string
	browser  *mcp.Browser
	identity login.Identity
	tools    []string // to be called; nil: none
}

// run connects, lists the tools, and calls some.
func (a *agent) run(ctx context.Context, w io.Writer) error {
	t := &mcp.Transport{URL: a.url, Login: a.browser, Identity: &a.identity, Store: &filestore.Store{Dir: a.dir}}
	defer func() { _ = t.Close() }()
	session, err := sdk.NewClient(&sdk.Implementation{Name: "example", Version: "v0.1.0"}, nil).Connect(ctx,
		&sdk.StreamableClientTransport{Endpoint: a.url, HTTPClient: &http.Client{Transport: t}}, nil)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	all, err := session.ListTools(ctx, nil)
	if err != nil {
		return err
	}
	for _, tool := range all.Tools {
		fmt.Fprintf(w, "tool %s: %s\n", tool.Name, tool.Description)
	}
	for _, name := range a.tools {
		result, err := session.CallTool(ctx, &sdk.CallToolParams{Name: name, Arguments: map[string]any{}})
		if err != nil {
			return err
		}
		text, _ := result.Content[0].(*sdk.TextContent)
		fmt.Fprintf(w, "%s: %s\n", name, text.Text)
	}
	return nil
}
