package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	greetPath = "/example.v1.Example/Greet"
	joinPath  = "/example.v1.Example/Join"
)

// send sends words on a stream and returns the answer to all of them.
func send(ctx context.Context, client *connect.Client[text, text], words ...string) (string, error) {
	stream := client.CallClientStream(ctx)
	for _, word := range words {
		if err := stream.Send(wrapperspb.String(word)); err != nil {
			break // the answer says why
		}
	}
	answer, err := stream.CloseAndReceive()
	if err != nil {
		return "", err
	}
	return answer.Msg.GetValue(), nil
}

// api is the API.
func api() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(greetPath, connect.NewUnaryHandler(greetPath,
		func(_ context.Context, req *connect.Request[text]) (*connect.Response[text], error) {
			return connect.NewResponse(wrapperspb.String("Hello, " + req.Msg.GetValue())), nil
		}))
	mux.Handle(joinPath, connect.NewClientStreamHandler(joinPath,
		func(_ context.Context, stream *connect.ClientStream[text]) (*connect.Response[text], error) {
			var words []string
			for stream.Receive() {
				words = append(words, stream.Msg().GetValue())
			}
			return connect.NewResponse(wrapperspb.String(strings.Join(words, ", "))), stream.Err()
		}))
	return mux
}

// refuse is how connectrpc.com/authn refuses a token.
func refuse(w http.ResponseWriter, r *http.Request) {
	err := connect.NewError(connect.CodeUnauthenticated, errors.New("token rejected"))
	_ = connect.NewErrorWriter().Write(w, r, err) // or the caller has gone
}
