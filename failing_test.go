package authtrip_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authtrip"
)

// The Store fails, before and after it has done what it was asked; the server never
// does.
func TestStoresThatFailAtEveryStepCostNoLogin(t *testing.T) {
	for _, leases := range []bool{true, false} {
		for seed := range uint64(8) {
			inBubble(t, rotating(time.Minute), nil, func(t *testing.T, r *rig) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				var mu sync.Mutex
				n := func(k int) int { mu.Lock(); defer mu.Unlock(); return rnd.IntN(k) }
				inner := new(authtrip.MemoryStore)
				var off atomic.Bool
				mk := func() authtrip.Store {
					s := &chaos{MemoryStore: inner, n: n, off: &off}
					if !leases {
						return leaseless{s}
					}
					return s
				}
				all := make([]*authtrip.Source, 6)
				for i := range all {
					all[i] = &authtrip.Source{Refresher: r.src.Refresher, Initial: r.src.Initial, Key: "alice", Store: mk(), GracePeriod: authtrip.GraceForever}
				}
				for i := range 3 { // variants
					all[3+i].Variant = []string{"", "a", "b"}[i]
				}
				for i := range all {
					defer all[i].Close()
				}
				crowd(len(all)*4, func(i int) {
					src := all[i%len(all)]
					for range 200 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+n(20))*time.Second)
						start := time.Now()
						tok, err := src.TokenContext(ctx)
						if d := time.Since(start); d > 21*time.Second {
							t.Errorf("blocked %v", d)
						}
						cancel()
						if err == nil {
							if !r.srv.Valid(tok.AccessToken) {
								t.Errorf("seed %d: not valid", seed)
							} else if n(20) == 0 {
								src.Invalidate(tok)
							}
						} else if errors.Is(err, authtrip.ErrReauthRequired) {
							t.Errorf("seed %d leases %v: %v", seed, leases, err)
							return
						}
						wait(time.Duration(n(3000)) * time.Millisecond)
					}
				})
				off.Store(true)
				wait(2 * time.Minute)
				for i, src := range all {
					if _, err := src.Token(); err != nil {
						t.Errorf("seed %d leases %v: source %d at the end: %v", seed, leases, i, err)
					}
				}
				if c := r.srv.Counts(); c.Reuses != 0 || c.Overlaps != 0 || c.FamiliesRevoked != 0 {
					t.Errorf("seed %d leases %v: %+v", seed, leases, c)
				}
			})
		}
	}
}

type chaos struct {
	*authtrip.MemoryStore
	n   func(int) int
	off *atomic.Bool
}

func (s *chaos) fail() bool {
	wait(time.Duration(s.n(50)) * time.Millisecond)
	return !s.off.Load() && s.n(8) == 0
}

func (s *chaos) Load(ctx context.Context, key string) ([]byte, string, error) {
	if s.fail() {
		return nil, "", errStoreDown
	}
	return s.MemoryStore.Load(ctx, key)
}

func (s *chaos) Save(ctx context.Context, key string, v []byte, ver string) (string, error) {
	if s.fail() {
		return "", errStoreDown
	}
	ver, err := s.MemoryStore.Save(ctx, key, v, ver)
	if err == nil && s.fail() {
		return "", errStoreDown
	}
	return ver, err
}

func (s *chaos) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	if s.fail() {
		return nil, errStoreDown
	}
	give, err := s.MemoryStore.Lease(ctx, key, ttl)
	if err == nil && s.fail() {
		return func(context.Context) error { return nil }, nil // never released
	}
	return give, err
}
