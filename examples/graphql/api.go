package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/Khan/genqlient/graphql"

	"example.com/authtrip/authtriptest"
)

const (
	strictPath  = "/strict"
	lenientPath = "/lenient"
)

// viewer asks who the user is, as a function that genqlient has generated does.
func viewer(ctx context.Context, w io.Writer, client graphql.Client) error {
	var data struct{ Viewer struct{ Name string } }
	req := &graphql.Request{OpName: "viewer", Query: "query viewer { viewer { name } }"}
	if err := client.MakeRequest(ctx, req, &graphql.Response{Data: &data}); err != nil {
		return err
	}
	fmt.Fprintln(w, "you are", data.Viewer.Name)
	return nil
}

// api is the API. It knows the answer to one question.
func api(w http.ResponseWriter, r *http.Request) {
	var req struct{ Query string }
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || !strings.Contains(req.Query, "viewer") {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, `{"data": {"viewer": {"name": "Ada"}}}`) // or the caller has gone
}

// refuse is how either server refuses a token.
func refuse(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == strictPath {
		w.Header().Set("WWW-Authenticate", authtriptest.InvalidToken)
		w.WriteHeader(http.StatusUnauthorized)
	}
	_, _ = io.WriteString(w, `{"data": null, "errors": [{"message": "log in", "extensions": {"code": "UNAUTHENTICATED"}}]}`)
}
