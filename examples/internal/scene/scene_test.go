package scene

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/authtrip"
)

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })

func TestPlay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		api  API
	}{
		{"challenge", API{Handler: hello}},
		{"no challenge", API{Handler: hello, Refuse: func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "bad credentials", http.StatusUnauthorized)
		}}},
		{"TLS", API{Handler: hello, TLS: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			Check(t, func(ctx context.Context, w io.Writer) error {
				s := Start(test.api)
				src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
				defer s.End(src)
				client := s.Server.Client()
				client.Transport = &authtrip.Transport{Source: src, Base: client.Transport}
				return s.Play(ctx, w, func(ctx context.Context) error {
					_, err := Get(ctx, client, s.URL)
					return err
				})
			}, "just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
		})
	}
}

func TestPlayWithoutAuthtrip(t *testing.T) {
	t.Parallel()
	s := Start(API{Handler: hello})
	defer s.End()
	client := s.Config.Client(t.Context(), s.Login)
	err := s.Play(t.Context(), io.Discard, func(ctx context.Context) error {
		_, err := Get(ctx, client, s.URL)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "token revoked: GET") {
		t.Errorf("Play() = %v, want that the revoked token is refused", err)
	}
}

func TestPlayIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	s := Start(API{Handler: hello})
	defer s.End()
	interrupt := errors.New("interrupted")
	cancel(interrupt)
	if err := s.Play(ctx, io.Discard, func(context.Context) error { return nil }); !errors.Is(err, interrupt) {
		t.Errorf("Play() = %v, want %v", err, interrupt)
	}
}
