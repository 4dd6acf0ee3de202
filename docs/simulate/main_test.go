package main

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestScalePageQuotesTheOutput(t *testing.T) {
	var out strings.Builder
	if err := report(&out); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../scale.md")
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(strings.TrimSpace(out.String()), "\n\n") {
		if !strings.Contains(string(page), block) {
			t.Errorf("scale.md does not have\n%s", block)
		}
	}
}

// TestModelAsksTheStoreAsTheLibraryDoes counts what one attempt asks of a Store.
func TestModelAsksTheStoreAsTheLibraryDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const as = "https://as.example"
		srv := &authtriptest.Server{Rotate: true}
		network := authtriptest.NewNetwork(t)
		network.Handle(as, srv)
		client := &http.Client{Transport: network}
		user := authtrip.RefreshToken(srv.Config(as))
		user.HTTPClient = client
		app := authtrip.ClientCredentials(&clientcredentials.Config{ClientID: "client", ClientSecret: "client-secret", TokenURL: as + authtriptest.TokenPath})
		app.HTTPClient = client

		store := new(countingStore)
		replica := func(g *authtrip.Grant, key string) *authtrip.Source {
			return &authtrip.Source{Refresher: g, Store: store, Key: key}
		}
		first, second := replica(user, "alice"), replica(user, "alice")
		if err := first.SetToken(t.Context(), srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		for _, c := range []struct {
			name string
			src  *authtrip.Source
			want int64
		}{
			{"a refresh", first, callsRefresh},
			{"an adoption", second, callsAdopt},
			{"a usable token", second, 0},
			{"an application's token", replica(app, "app"), callsApplication},
			{"an application's token from the Store", replica(app, "app"), callsApplicationAdopt},
		} {
			store.calls.Store(0)
			if _, err := c.src.Token(); err != nil {
				t.Fatal(err)
			}
			if got := store.calls.Load(); got != c.want {
				t.Errorf("%s asks the Store %d times, want %d", c.name, got, c.want)
			}
		}
	})
}

// countingStore counts all calls, the release of a lease included.
type countingStore struct {
	authtrip.MemoryStore

	calls atomic.Int64
}

func (s *countingStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	s.calls.Add(1)
	return s.MemoryStore.Load(ctx, key)
}

func (s *countingStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	s.calls.Add(1)
	return s.MemoryStore.Save(ctx, key, value, version)
}

func (s *countingStore) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	s.calls.Add(1)
	release, err := s.MemoryStore.Lease(ctx, key, ttl)
	return func(ctx context.Context) error {
		s.calls.Add(1)
		return release(ctx)
	}, err
}
