package authtrip_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// A replying Refresher counts its calls, and answers as it is told.
type replying struct {
	mu    sync.Mutex
	calls int
	fail  error // nil: there is a token
}

func (a *replying) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.fail != nil {
		return nil, a.fail
	}
	return &oauth2.Token{AccessToken: "new", RefreshToken: "next", Expiry: time.Now().Add(time.Hour)}, nil
}

func (a *replying) say(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = err
}

// Symptom: one replica got a 502, and for fifteen seconds the other one asked nobody, though
// the token endpoint was back and the answer had come.
func TestAnAnswerThatSaysNothingKeepsNoOtherProcessWaiting(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		wait time.Duration // of the other one, at most
	}{
		{"an answer", status(http.StatusBadGateway), time.Second},
		{"a gateway that has given up", status(http.StatusGatewayTimeout), 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store authtrip.MemoryStore
				server := &replying{fail: tt.err}
				expired := &oauth2.Token{AccessToken: "old", RefreshToken: "first", Expiry: time.Now().Add(-time.Hour)}
				one := &authtrip.Source{Refresher: server, Store: &store, Key: "k"}
				two := &authtrip.Source{Refresher: server, Store: &store, Key: "k"}
				defer func() { _, _ = one.Close(), two.Close() }()
				if err := one.SetToken(t.Context(), expired); err != nil {
					t.Fatal(err)
				}
				brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if _, err := one.TokenContext(brief); err == nil {
					t.Fatal("a token came from a failing server")
				}
				doc, _, err := store.Load(t.Context(), "k")
				if err != nil {
					t.Fatal(err)
				}
				if over := strings.Contains(string(doc), `"over":true`); over != (tt.wait == time.Second) {
					t.Errorf("the marker is over: %v", over)
				}
				_ = one.Close()
				server.say(nil)
				began := time.Now()
				tok, err := two.TokenContext(t.Context())
				if err != nil || tok.AccessToken != "new" {
					t.Fatal("no token:", err)
				}
				if took := time.Since(began); took > tt.wait {
					t.Errorf("the other process waited for %v, want at most %v", took, tt.wait)
				}
			})
		})
	}
}

func status(code int) error {
	return &oauth2.RetrieveError{Response: &http.Response{StatusCode: code}}
}

// What was certainly not processed leaves the doubt of the send before, and no marker.
func TestARefusedConnectionAfterADoubtKeepsTheDoubtAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store authtrip.MemoryStore
		server := &replying{fail: status(http.StatusBadGateway)}
		src := &authtrip.Source{Refresher: server, Store: &store, Key: "k"}
		defer func() { _ = src.Close() }()
		expired := &oauth2.Token{AccessToken: "old", RefreshToken: "first", Expiry: time.Now().Add(-time.Hour)}
		if err := src.SetToken(t.Context(), expired); err != nil {
			t.Fatal(err)
		}
		brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, _ = src.TokenContext(brief)
		server.say(&authtrip.RefreshError{StatusCode: http.StatusTooManyRequests, RetryAfter: time.Hour})
		for range 20 {
			<-time.After(time.Second)
			synctest.Wait()
		}
		doc, _, err := store.Load(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		if text := string(doc); !strings.Contains(text, `"refresh_marker":{"outcome_unknown":true,"over":true}`) {
			t.Error("the record does not say that the outcome is unknown, and nothing on its way")
		}
		if _, err := src.TokenContext(t.Context()); errors.Is(err, authtrip.ErrReauthRequired) || err == nil {
			t.Errorf("got %v, want an error that is no end of the session", err)
		}
	})
}
