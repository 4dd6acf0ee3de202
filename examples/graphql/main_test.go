package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2/gqlerror"

	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run,
		"just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1",
		"just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	if n := strings.Count(out, "you are Ada\n"); n != 6 {
		t.Errorf("%d answers, want 6:\n%s", n, out)
	}
}

func TestUnauthenticated(t *testing.T) {
	t.Parallel()
	code := func(code any) error {
		return gqlerror.List{{Message: "x"}, {Message: "y", Extensions: map[string]any{"code": code}}}
	}
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"no error", nil, false},
		{"another error", errors.New("connection reset"), false},
		{"refused", code("UNAUTHENTICATED"), true},
		{"not allowed", code("FORBIDDEN"), false},
		{"odd code", code(7), false},
	} {
		if got := unauthenticated(test.err); got != test.want {
			t.Errorf("%s: unauthenticated() = %v, want %v", test.name, got, test.want)
		}
	}
}
