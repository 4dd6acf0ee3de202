package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/authtrip/examples/internal/scene"
)

const greetMethod = "/example.v1.Example/Greet"

// api is the API, with what would be generated from its description.
func api() http.Handler {
	srv := grpc.NewServer()
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "example.v1.Example",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Greet", Handler: greet}},
	}, nil)
	return srv
}

func greet(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the order is that of grpc
	var name wrapperspb.StringValue
	if err := decode(&name); err != nil {
		return nil, err
	}
	return wrapperspb.String("Hello, " + name.GetValue()), nil
}

// refuse is how a gRPC server refuses a token: in a good answer.
func refuse(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", strconv.Itoa(int(codes.Unauthenticated)))
	w.Header().Set("Grpc-Message", "token rejected")
}

// trust accepts the certificate of the example's API.
func trust(s *scene.Scene) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.Server.Certificate())
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
