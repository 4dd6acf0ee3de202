package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type word struct {
	Word string `json:"word" jsonschema:"what is to be learned"`
}

// api is an MCP server with a tool that makes more tools, which the server tells
// its clients of.
func api() http.Handler {
	server := mcp.NewServer(&mcp.Implementation{Name: "pupil", Version: "v0.1.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "learn", Description: "learns a word"},
		func(_ context.Context, _ *mcp.CallToolRequest, in word) (*mcp.CallToolResult, any, error) {
			mcp.AddTool(server, &mcp.Tool{Name: in.Word, Description: "says a word"}, say(in.Word))
			return says("I know " + in.Word), nil, nil
		})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
}

func say(text string) mcp.ToolHandlerFor[struct{}, any] {
	return func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return says(text), nil, nil
	}
}

func says(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

// learn calls the tool and returns what it says.
func learn(ctx context.Context, session *mcp.ClientSession, text string) (string, error) {
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "learn", Arguments: word{text}})
	if err != nil {
		return "", err
	}
	for _, c := range result.Content {
		if answer, ok := c.(*mcp.TextContent); ok && !result.IsError {
			return answer.Text, nil
		}
	}
	return "", errors.New("the tool says nothing")
}

// refuse is how an MCP server refuses a token: it says where to ask for another
// one (RFC 9728), too.
func refuse(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", resource_metadata="https://mcp.example/.well-known/oauth-protected-resource"`)
	http.Error(w, "unauthorized", http.StatusUnauthorized)
}
