// Connect shows connectrpc.com/connect, whose clients take an http.Client.
//
// A unary call of the Connect protocol that is rejected is a 401, which is the Transport's
// business: its message can be had again. A stream that is rejected is a 200 with the code
// Unauthenticated in it, and so is every call of the gRPC protocol. Only the caller sees
// that, so that the program has to tell the Source.
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
	s := scene.Start(scene.API{Handler: api(), Refuse: refuse, TLS: true})
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
		var answer string
		err := again(ctx, src, func() (err error) {
			answer, err = send(ctx, join, "one", "two", "three")
			return err
		})
		fmt.Fprintln(w, answer)
		return err
	})
}
