// SSE shows server-sent events: a stream that is read while it is open, and that
// is opened again, after the last event that has arrived, when the server ends it.
//
// A stream has the token with which it was opened. A server ends it when that one
// ends, and the next request brings the token of that time.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: http.HandlerFunc(events)})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	// No Timeout: it would end a stream. The context does that.
	client := &http.Client{Transport: &authtrip.Transport{Source: src, Origins: []string{s.URL}}}
	stream := &stream{client: client, url: s.URL}
	return s.Play(ctx, w, func(ctx context.Context) error {
		n := 0 // the server ends a stream after two events, so three take two streams
		return stream.follow(ctx, func(data string) bool {
			fmt.Fprintf(w, "event %s: %s\n", stream.lastID, data)
			n++
			return n < 3
		})
	})
}
