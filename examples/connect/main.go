// Connect shows connectrpc.com/connect, whose clients take an http.Client.
//
// A call that is refused is sent again if it has one message, which can be had
// again. The messages of a stream cannot: if that is refused, there is an error
// with the code Unauthenticated, and the stream that is opened next has another
// token.
//
// This holds where the server judges tokens before it looks at the call, as with
// connectrpc.com/authn, and answers 401. For one that does so with the gRPC
// protocol, where every answer is a 200, see the program grpc.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

// text is a message. A program has its own, and a client that was generated.
type text = wrapperspb.StringValue

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: api(), TLS: true})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	client := &http.Client{Transport: &authtrip.Transport{
		Source:  src,
		Base:    s.Server.Client().Transport, // it trusts the certificate of this example
		Origins: []string{s.URL},
	}}

	fmt.Fprintln(w, "unary")
	greet := connect.NewClient[text, text](client, s.URL+greetPath)
	err := s.Play(ctx, w, func(ctx context.Context) error {
		answer, err := greet.CallUnary(ctx, connect.NewRequest(wrapperspb.String("Ada")))
		if err != nil {
			return err
		}
		fmt.Fprintln(w, answer.Msg.GetValue())
		return nil
	})
	if err != nil {
		return err
	}

	fmt.Fprintln(w, "stream")
	join := connect.NewClient[text, text](client, s.URL+joinPath)
	return s.Play(ctx, w, func(ctx context.Context) error {
		answer, err := send(ctx, join, "one", "two", "three")
		if connect.CodeOf(err) == connect.CodeUnauthenticated {
			answer, err = send(ctx, join, "one", "two", "three")
		}
		fmt.Fprintln(w, answer)
		return err
	})
}
