package main

import (
	"bytes"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if is, err := child(); is {
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	os.Exit(m.Run())
}

// TestScenarios runs every scenario small: all of them work, and check what the
// base sees. What they measure here means nothing.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			rows, err := s.run(scale{quick: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) == 0 {
				t.Fatal("no rows")
			}
			for _, r := range rows {
				if r.cells["authtrip"] == "" {
					t.Errorf("row %q says nothing of authtrip", r.title)
				}
			}
			var table bytes.Buffer
			if err := writeReport(&table, rows, time.Now()); err != nil {
				t.Fatal(err)
			}
			columns := -1
			for line := range strings.Lines(table.String()) {
				if n := strings.Count(line, "|"); n > 0 && columns >= 0 && n != columns {
					t.Errorf("a line of %d columns among those of %d: %s", n-1, columns-1, line)
				} else if n > 0 {
					columns = n
				}
			}
		})
	}
}

// TestEveryPeerSendsItsToken holds every peer to the same workload: the base gets
// a token that was issued.
func TestEveryPeerSendsItsToken(t *testing.T) {
	t.Parallel()
	for _, p := range libraries() {
		for _, grant := range []string{"", "refresh"} {
			t.Run(p.Name()+"/"+grant, func(t *testing.T) {
				t.Parallel()
				w := newWorld()
				defer w.close()
				endpoint := w.endpoint()
				endpoint.RefreshToken = grant
				rt, err := p.Wrap(User{Base: w, Endpoint: endpoint})
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					if err := mustCall(p, rt, stubURL); err != nil {
						t.Fatal(err)
					}
				}
				if n := w.requests.Load(); n != 1 {
					t.Errorf("token requests = %d, want 1", n)
				}
			})
		}
	}
}

// TestGoals holds the goals that are counts, so that no clock decides.
func TestGoals(t *testing.T) {
	t.Parallel()
	p := authtripPeer{}
	t.Run("stampede", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		defer w.close()
		got, err := stampede(w, apart(t), []Peer{p}, 200)
		if err != nil {
			t.Fatal(err)
		}
		wantAllServed(t, got[0], 200, 1)
	})
	t.Run("storm", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		defer w.close()
		got, err := storm(w, apart(t), p, 200)
		if err != nil {
			t.Fatal(err)
		}
		wantAllServed(t, got, 200, 1)
	})
	t.Run("late", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		defer w.close()
		got, err := late(w, apart(t), p, 100)
		if err != nil {
			t.Fatal(err)
		}
		wantAllServed(t, got, 100, 0)
	})
	t.Run("down", func(t *testing.T) {
		t.Parallel()
		got, err := sieged(p, "", func(w *world) { w.answer(http.StatusServiceUnavailable, "", nil) }, 2*time.Second, 10*time.Second, false)
		if err != nil {
			t.Fatal(err)
		}
		if got.requests > 6 || got.recovered == 0 {
			t.Errorf("token requests = %d, recovered = %v; want at most 6, and within the limit", got.requests, got.recovered)
		}
	})
	t.Run("invalid_grant", func(t *testing.T) {
		t.Parallel()
		got, err := sieged(p, "refresh", func(w *world) { w.answer(http.StatusBadRequest, "invalid_grant", nil) }, time.Second, 0, true)
		if err != nil {
			t.Fatal(err)
		}
		if got.requests != 1 {
			t.Errorf("token requests = %d, want 1", got.requests)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		got, err := hung(p, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got.stuck > 0 {
			t.Errorf("%d callers are not back after their deadline", got.stuck)
		}
	})
	t.Run("processes", func(t *testing.T) {
		t.Parallel()
		const lifetimes = 3
		got, login, err := together(p, 8, lifetimes*sharedLifetime*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		// The first token, and one each time before the end of the one before.
		if most := 1 + lifetimes*sharedLifetime*time.Second/(sharedLifetime*time.Second-sharedMargin); login.requests > int(most) {
			t.Errorf("token requests = %d, want at most %d", login.requests, most)
		}
		if login.ended || login.reuses > 0 || len(got.Failures) > 0 {
			t.Errorf("ended: %v; %d refresh tokens came again; failures: %v of %d", login.ended, login.reuses, got.Failures, got.Requests)
		}
	})
	t.Run("userinfo", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		defer w.close()
		w.delay.Store(int64(tokenDelay))
		requests, _, err := infoStampede(w, p, 200)
		if err != nil || requests != 1 {
			t.Errorf("user info requests = %d, %v, want 1", requests, err)
		}
	})
}

// apart starts a token endpoint.
func apart(t *testing.T) *tokens {
	t.Helper()
	at, err := startTokens()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = at.process.end() })
	return at
}

func wantAllServed(t *testing.T, b burst, n, requests int) {
	t.Helper()
	if b.requests != requests || b.statuses["200"] != n {
		t.Errorf("token requests = %d, outcome %v, want %d, and %d × 200", b.requests, b.statuses, requests, n)
	}
}
