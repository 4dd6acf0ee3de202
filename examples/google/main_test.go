package main

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/api/tasks/v1"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run,
		"just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1",
		"just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	if n := strings.Count(out, "- engines\n"); n != 6 {
		t.Errorf("%d lists, want 6:\n%s", n, out)
	}
}

// TestPlainSourceKeepsARefusedToken is why run has a fleeting one: told of the
// refusal, the Source has another token, and the library does not ask for it.
func TestPlainSourceKeepsARefusedToken(t *testing.T) {
	t.Parallel()
	s := scene.Start(scene.API{Handler: http.HandlerFunc(taskLists)})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)
	service, err := tasks.NewService(t.Context(), option.WithEndpoint(s.URL), option.WithTokenSource(src))
	if err != nil {
		t.Fatal(err)
	}
	if err := list(t.Context(), io.Discard, service); err != nil {
		t.Fatal(err)
	}
	s.RevokeToken()
	for range 2 {
		err = list(t.Context(), io.Discard, service)
		var refused *googleapi.Error
		if !errors.As(err, &refused) || refused.Code != http.StatusUnauthorized {
			t.Errorf("list() = %v, want a 401", err)
		}
		src.Invalidate(s.Login)
	}
	if tok, err := src.Token(); err != nil || tok.AccessToken == s.Login.AccessToken {
		t.Errorf("Token() = the refused one or %v, want another one", err)
	}
}
