// WebSocket shows github.com/coder/websocket: the request that opens a connection is an HTTP
// request like others, so it carries a token, and a rejected one is sent again with another
// token.
//
// After that the connection is the caller's and sees no token any more. A server that ends
// it when the token expires gets the token of that time from the next Dial.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/coder/websocket"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: http.HandlerFunc(shout)})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	options := &websocket.DialOptions{HTTPClient: &http.Client{
		Transport: &authtrip.Transport{Source: src, Origins: []string{s.URL}},
	}}
	return s.Play(ctx, w, func(ctx context.Context) error {
		answer, err := ask(ctx, s.URL, options, "hello")
		fmt.Fprintln(w, answer)
		return err
	})
}

// ask opens a connection, sends a message and returns the answer.
func ask(ctx context.Context, url string, options *websocket.DialOptions, message string) (answer string, err error) {
	conn, _, err := websocket.Dial(ctx, url, options)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(websocket.StatusNormalClosure, "")) }()
	if err = conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
		return "", err
	}
	_, b, err := conn.Read(ctx)
	return string(b), err
}
