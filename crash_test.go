package authtrip_test

import (
	"context"
	"testing"
	"time"

	"example.com/authtrip"
)

// TestCrashBetweenAnswerAndSave: a process is killed after the server has
// answered and before the answer is stored. The next one sees the mark.
func TestCrashBetweenAnswerAndSave(t *testing.T) {
	for _, tt := range []struct {
		name  string
		grace time.Duration
		after time.Duration
		login bool // is still there
	}{
		{"restarted inside the server's grace", 30 * time.Second, time.Second, true},
		{"restarted after the window", 30 * time.Second, time.Minute, false},
		{"server without grace", 0, time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := rotating(time.Hour)
			srv.ReuseGrace = tt.grace
			inBubble(t, srv, nil, func(t *testing.T, r *rig) {
				store := &killedStore{after: 2} // Initial, the mark, and no more
				first := replicas(r, 1, store)[0]
				r.mustGet(t)
				if _, err := first.Token(); err != nil {
					t.Fatal(err)
				}
				expire(r)
				_, err := first.Token()
				wantIs(t, err, authtrip.ErrNotSaved)

				wait(tt.after)
				second := replicas(r, 1, &store.MemoryStore)[0]
				_, err = second.Token()
				if tt.login && err != nil {
					t.Errorf("restarted: %v, want a token", err)
				}
				if !tt.login {
					wantIs(t, err, authtrip.ErrReauthRequired)
				}
			})
		})
	}
}

// killedStore takes a number of saves, and none after it.
type killedStore struct {
	authtrip.MemoryStore
	after int
}

func (s *killedStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if s.after == 0 {
		return "", errStoreDown
	}
	s.after--
	return s.MemoryStore.Save(ctx, key, value, version)
}

// TestLeaseOfTheDeadEndsInsideTheGracePeriod: with default settings, a process that
// dies in a refresh does not take the login along.
func TestLeaseOfTheDeadEndsInsideTheGracePeriod(t *testing.T) {
	srv := rotating(time.Hour)
	srv.ReuseGrace = 30 * time.Second
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		shared := new(authtrip.MemoryStore)
		dying := replicas(r, 1, &dyingStore{MemoryStore: shared, saves: 2})[0]
		if _, err := dying.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := dying.Token(); err == nil {
			t.Fatal("the dead process got a token")
		}
		start := time.Now()
		if _, err := replicas(r, 1, shared)[0].Token(); err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		r.wantTokenRequests(t, 2)
	})
}

// dyingStore saves a few times, and never gives its lease back.
type dyingStore struct {
	*authtrip.MemoryStore
	saves int
}

func (s *dyingStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if s.saves == 0 {
		return "", errStoreDown
	}
	s.saves--
	return s.MemoryStore.Save(ctx, key, value, version)
}

func (s *dyingStore) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	_, err := s.MemoryStore.Lease(ctx, key, ttl)
	return func(context.Context) error { return nil }, err
}

// TestStoreThatLostItsLastWriteGetsItBack: a failover brings back the record of the
// refresh before, whose refresh token is spent.
func TestStoreThatLostItsLastWriteGetsItBack(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		older, _, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		_, version, _ := store.Load(t.Context(), "alice")
		if _, err := store.Save(t.Context(), "alice", older, version); err != nil {
			t.Fatal(err)
		}
		expire(r)
		if _, err := src.Token(); err != nil {
			t.Errorf("after the failover: %v", err)
		}
		if c := r.srv.Counts(); c.Reuses != 0 || c.FamiliesRevoked != 0 {
			t.Errorf("reuses %d, families revoked %d, want none", c.Reuses, c.FamiliesRevoked)
		}
	})
}

// TestMarkThatWasSavedAfterAllIsNotASend: the store fails while it takes the mark,
// and nothing is sent. Long after it, the refresh token is as good as it was.
func TestMarkThatWasSavedAfterAllIsNotASend(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &gaspingStore{}
		r.src.Store = store
		r.mustGet(t)
		expire(r)
		store.gasp = true
		if _, err := r.src.Token(); err == nil {
			t.Fatal("no error")
		}
		store.gasp = false
		wait(time.Hour)
		if _, err := r.src.Token(); err != nil {
			t.Errorf("an hour later: %v", err)
		}
		r.wantTokenRequests(t, 1)
	})
}

// gaspingStore does what it is told, and says that it could not.
type gaspingStore struct {
	authtrip.MemoryStore
	gasp bool
}

func (s *gaspingStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	version, err := s.MemoryStore.Save(ctx, key, value, version)
	if s.gasp {
		return "", errStoreDown
	}
	return version, err
}
