package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run, "just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	if n := strings.Count(out, "Hello, Ada\n"); n != 3 {
		t.Errorf("%d answers, want 3:\n%s", n, out)
	}
}

func TestAgain(t *testing.T) {
	t.Parallel()
	unauthenticated := status.Error(codes.Unauthenticated, "token rejected")
	for _, test := range []struct {
		name    string
		results []error // of the calls
		renew   bool    // the token of the source can be replaced
		calls   int
		want    error
	}{
		{"good", []error{nil}, true, 1, nil},
		{"refused once", []error{unauthenticated, nil}, true, 2, nil},
		{"refused twice", []error{unauthenticated, unauthenticated}, true, 2, unauthenticated},
		{"no other token", []error{unauthenticated}, false, 1, unauthenticated},
		{"not allowed", []error{status.Error(codes.PermissionDenied, "")}, true, 1, status.Error(codes.PermissionDenied, "")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := new(authtriptest.Server)
			site := authtriptest.Start(t, srv)
			src := &authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Initial: srv.Issue("ada")}
			t.Cleanup(func() { _ = src.Close() })
			if !test.renew {
				srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
			}
			calls := 0
			err := again(src)(t.Context(), greetMethod, nil, nil, nil,
				func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
					calls++
					return test.results[calls-1]
				})
			if !errors.Is(err, test.want) || calls != test.calls {
				t.Errorf("%v after %d calls, want %v after %d", err, calls, test.want, test.calls)
			}
		})
	}
}

func TestCallThatHasNoTimeForAToken(t *testing.T) {
	t.Parallel()
	srv := new(authtriptest.Server)
	site := authtriptest.Start(t, srv)
	until := make(chan struct{})
	t.Cleanup(func() { close(until) })
	srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Until: until})
	src := &authtrip.Source{Refresher: authtrip.ClientCredentials(srv.ClientCredentials(site.URL))}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := again(src)(ctx, greetMethod, nil, nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want %v", err, context.Canceled)
	}
}
