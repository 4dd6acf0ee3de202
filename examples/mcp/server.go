package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/authtrip/login"
)

// server is an MCP server with two tools, whose users log in at the provider of client.
type server struct {
	*httptest.Server
	client *login.Client
}

func startServer(client *login.Client) *server {
	s := &server{client: client}
	tools := sdk.NewServer(&sdk.Implementation{Name: "notes", Version: "v0.1.0"}, nil)
	add(tools, "read", "reads the notes", "there are no notes")
	add(tools, "write", "writes a note", "it is written")
	mux := http.NewServeMux()
	mux.Handle("/mcp", s.guard(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return tools }, nil)))
	mux.HandleFunc("GET /.well-known/oauth-protected-resource/mcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{ // or the caller has gone
			"resource": s.URL + "/mcp", "authorization_servers": []string{client.Provider.Issuer},
		})
	})
	s.Server = httptest.NewServer(mux)
	return s
}

func add(s *sdk.Server, name, description, says string) {
	sdk.AddTool(s, &sdk.Tool{Name: name, Description: description},
		func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: says}}}, nil, nil
		})
}

// guard lets requests through whose token has the scope that they need.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token == "" {
			s.refuse(w, http.StatusUnauthorized, `scope="openid notes:read"`)
			return
		}
		said, err := s.client.Introspect(r.Context(), token)
		body, rerr := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		r.Body = io.NopCloser(bytes.NewReader(body))
		need := needs(body)
		switch {
		case err != nil || rerr != nil:
			http.Error(w, "the provider does not answer", http.StatusServiceUnavailable)
		case !said.Active:
			s.refuse(w, http.StatusUnauthorized, `error="invalid_token", scope="openid notes:read"`)
		case !slices.Contains(said.Scopes, need):
			s.refuse(w, http.StatusForbidden, fmt.Sprintf(`error="insufficient_scope", scope="%s"`, need))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// needs returns the scope of a request: one tool needs more.
func needs(body []byte) string {
	var call struct {
		Method string
		Params struct{ Name string }
	}
	if json.Unmarshal(body, &call) == nil && call.Method == "tools/call" && call.Params.Name == "write" {
		return "notes:write"
	}
	return "notes:read"
}

func (s *server) refuse(w http.ResponseWriter, status int, params string) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer resource_metadata="%s/.well-known/oauth-protected-resource/mcp", %s`, s.URL, params))
	http.Error(w, http.StatusText(status), status)
}
