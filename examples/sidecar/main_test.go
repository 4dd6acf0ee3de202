package main

import (
	"strings"
	"testing"

	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run, "just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	if n := strings.Count(out, `POST /notes: "a body that arrives whole"`); n != 3 {
		t.Errorf("%d of 3 bodies arrived:\n%s", n, out)
	}
}
