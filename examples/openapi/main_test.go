package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
	"example.com/authtrip/examples/openapi/notes"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run, "just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	for _, want := range []string{"#1 The mill jams", "#2 The mill jams", "#3 The mill jams"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
}

// TestRevoked makes two calls after the token was revoked.
func TestRevoked(t *testing.T) {
	t.Parallel()
	const text = `{"text": "The mill jams"}`
	known := func() io.Reader { return strings.NewReader(text) }
	unknown := func() io.Reader { return io.MultiReader(strings.NewReader(text)) }
	stale := func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", "Bearer stale")
		return nil
	}
	for _, test := range []struct {
		name    string
		body    func() io.Reader
		editors []notes.RequestEditorFn
		want    [2]int
	}{
		{"length known", known, nil, [2]int{201, 201}},
		{"length unknown", unknown, nil, [2]int{401, 201}},
		{"header set", known, []notes.RequestEditorFn{stale}, [2]int{401, 401}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := scene.Start(scene.API{Handler: notes.Handler(new(book))})
			src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
			defer s.End(src)
			client, err := newClient(s, src)
			if err != nil {
				t.Fatal(err)
			}
			s.RevokeToken()
			for i, want := range test.want {
				answer, err := client.AddNoteWithBodyWithResponse(t.Context(), "application/json", test.body(), test.editors...)
				if err != nil {
					t.Fatal(err)
				}
				if got := answer.StatusCode(); got != want {
					t.Errorf("call %d: status %d, want %d", i+1, got, want)
				}
			}
		})
	}
}
