package main

import (
	"strings"
	"testing"

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
