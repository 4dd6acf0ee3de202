package mcp_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/authtrip/mcp"
)

// tools is a server of the SDK with two tools: say, and one whose stream breaks in the
// middle, after it has called broken.
func tools(broken func()) http.Handler {
	server := sdk.NewServer(&sdk.Implementation{Name: "test", Version: "v0.1.0"}, nil)
	answer := func(text string) (*sdk.CallToolResult, any, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, nil, nil
	}
	sdk.AddTool(server, &sdk.Tool{Name: "say"}, func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
		return answer("hello")
	})
	sdk.AddTool(server, &sdk.Tool{Name: "break"}, func(ctx context.Context, req *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, any, error) {
		progress := &sdk.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1}
		if err := req.Session.NotifyProgress(ctx, progress); err != nil {
			return nil, nil, err
		}
		broken()
		req.Extra.CloseSSEStream(sdk.CloseSSEStreamArgs{RetryAfter: 10 * time.Millisecond})
		return answer("the end")
	})
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{EventStore: sdk.NewMemoryEventStore(nil)})
}

func connect(t *testing.T, st *sdk.StreamableClientTransport) *sdk.ClientSession {
	t.Helper()
	session, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "v0.1.0"}, nil).Connect(t.Context(), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// TestA401InTheMiddleOfAStream: a tool's stream breaks, its token is revoked, and the
// request that resumes it is rejected. The SDK takes such a 401 for the end of the session.
func TestA401InTheMiddleOfAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.next = tools(w.revoke)
	tr := w.transport(t, &mcp.Transport{Login: browser()})
	session := connect(t, &sdk.StreamableClientTransport{Endpoint: w.url(), HTTPClient: &http.Client{Transport: tr}, DisableStandaloneSSE: true})
	w.mu.Lock()
	w.rejects = nil
	w.mu.Unlock()
	params := &sdk.CallToolParams{Name: "break"}
	params.SetProgressToken("p")
	result, err := session.CallTool(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := result.Content[0].(*sdk.TextContent); !ok || text.Text != "the end" {
		t.Errorf("the result is %v", result.Content)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.rejects, []string{http.MethodGet}) {
		t.Errorf("rejected were %q, want the GET that resumes the stream", w.rejects)
	}
	if n, m := len(w.as[0].tokens), len(w.as[0].asked); n != 2 || m != 1 {
		t.Errorf("%d token requests and %d logins, want 2 and 1", n, m)
	}
}
