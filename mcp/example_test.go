package mcp_test

import (
	"context"
	"log"
	"net/http"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/authtrip/filestore"
	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

func Example() {
	ctx, serverURL, dir := context.Background(), "https://mcp.example/", "sessions"
	client := sdk.NewClient(&sdk.Implementation{Name: "agent", Version: "v1.0.0"}, nil)

	t := &mcp.Transport{
		URL:      serverURL,
		Login:    &mcp.Browser{},
		Identity: &login.Identity{Metadata: &login.ClientMetadata{ClientName: "My agent"}},
		Store:    &filestore.Store{Dir: dir}, // nobody logs in twice
	}
	defer t.Close()
	session, err := client.Connect(ctx, &sdk.StreamableClientTransport{
		Endpoint: serverURL, HTTPClient: &http.Client{Transport: t},
	}, nil)
	if err != nil {
		log.Print(err)
		return
	}
	defer session.Close()
}
