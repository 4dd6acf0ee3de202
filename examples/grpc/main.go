// GRPC shows a Source as the per-RPC credentials of google.golang.org/grpc. It
// renews the token before it ends; of a refused one gRPC tells only the caller,
// with the code Unauthenticated, so an interceptor tells the Source. A stream that is
// refused is for the program to open again, as in the program connect.
package main

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: api(), Refuse: refuse, TLS: true})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	conn, err := grpc.NewClient(s.Server.Listener.Addr().String(),
		grpc.WithTransportCredentials(credentials.NewTLS(trust(s))), // gRPC insists on TLS
		grpc.WithPerRPCCredentials(oauth.TokenSource{TokenSource: src}),
		grpc.WithUnaryInterceptor(again(src)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()

	return s.Play(ctx, w, func(ctx context.Context) error {
		var answer wrapperspb.StringValue // of a program's own, with a generated client
		err := conn.Invoke(ctx, greetMethod, wrapperspb.String("Ada"), &answer)
		fmt.Fprintln(w, answer.GetValue())
		return err
	})
}

// again makes a call that was refused once more, with another token. The server
// has not done anything yet.
func again(src *authtrip.Source) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		// The credentials wait for a token without a context. Here it is waited for
		// with that of the call, and they find it.
		tok, err := src.TokenContext(ctx)
		if err != nil {
			return err
		}
		err = invoke(ctx, method, req, reply, cc, opts...)
		if status.Code(err) != codes.Unauthenticated {
			return err
		}
		src.Invalidate(tok) // unless somebody else was faster
		if next, e := src.TokenContext(ctx); e != nil || next.AccessToken == tok.AccessToken {
			return err // as the server said it
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}
