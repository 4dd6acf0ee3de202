// GRPC shows a Source as the per-RPC credentials of google.golang.org/grpc. It refreshes the
// token before it expires. Of a rejected token gRPC tells only the caller, with the code
// Unauthenticated, so an interceptor tells the Source. A stream that is rejected is for the
// program to open again, as in the program connect.
package main

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/oauth2"
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

// again makes a call that was rejected once more, with another token. The server
// has not done anything yet.
func again(src *authtrip.Source) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return authtrip.Retry(ctx, src, func(*oauth2.Token) (bool, error) {
			// The credentials take the token without a context. Retry has waited for it with
			// that of the call, and they find it.
			err := invoke(ctx, method, req, reply, cc, opts...)
			return status.Code(err) == codes.Unauthenticated, err
		})
	}
}
