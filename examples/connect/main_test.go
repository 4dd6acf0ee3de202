package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run,
		"just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1",
		"just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	if n := strings.Count(out, "Hello, Ada\n"); n != 3 {
		t.Errorf("%d answers, want 3:\n%s", n, out)
	}
	if n := strings.Count(out, "one, two, three\n"); n != 3 {
		t.Errorf("%d answers to streams, want 3:\n%s", n, out)
	}
}

// TestWhoSendsAgain makes one call with a token that was revoked.
func TestWhoSendsAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		option    connect.ClientOption
		transport bool // it does, without again
	}{
		{"Connect", connect.WithProtoJSON(), true},
		{"gRPC", connect.WithGRPC(), false},
		{"gRPC-Web", connect.WithGRPCWeb(), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := scene.Start(scene.API{Handler: api(), Refuse: refuse, TLS: true})
			src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
			defer s.End(src)
			client := &http.Client{Transport: &authtrip.Transport{Source: src, Base: s.Server.Client().Transport}}
			greet := connect.NewClient[text, text](client, s.URL+greetPath, test.option)
			call := func() error {
				_, err := greet.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("Ada")))
				return err
			}
			s.RevokeToken()
			if err := call(); (err == nil) != test.transport {
				t.Errorf("CallUnary() = %v, want success %v", err, test.transport)
			}
			if err := again(t.Context(), src, call); err != nil {
				t.Errorf("again() = %v", err)
			}
		})
	}
}

func TestAgain(t *testing.T) {
	t.Parallel()
	refused := connect.NewError(connect.CodeUnauthenticated, errors.New("token rejected"))
	denied := connect.NewError(connect.CodePermissionDenied, errors.New("not allowed"))
	for _, test := range []struct {
		name    string
		results []error // of the calls
		renew   bool    // the token of the source can be replaced
		want    error
	}{
		{"good", []error{nil}, true, nil},
		{"refused once", []error{refused, nil}, true, nil},
		{"refused twice", []error{refused, refused}, true, refused},
		{"no other token", []error{refused}, false, refused},
		{"not allowed", []error{denied}, true, denied},
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
			err := again(t.Context(), src, func() error {
				calls++
				return test.results[calls-1]
			})
			if !errors.Is(err, test.want) || calls != len(test.results) {
				t.Errorf("%v after %d calls, want %v after %d", err, calls, test.want, len(test.results))
			}
		})
	}
}
