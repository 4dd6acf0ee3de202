package authtrip_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestTokenIsStoredBeforeAnyWaiterGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{delay: 2 * time.Second}
		r := newRig(t, rotating(time.Hour), func(r *rig) { r.src.Store = store })
		r.src.Initial = expired(r.src.Initial)
		crowd(100, func(int) {
			tok, err := r.src.TokenContext(t.Context())
			if err != nil {
				t.Error(err)
			} else if !store.holds(tok.AccessToken) {
				t.Error("a waiter got a token that was not stored")
			}
		})
	})
}

// slowStore takes its time for every Save, and fails while it is down.
type slowStore struct {
	authtrip.MemoryStore
	delay time.Duration
	down  atomic.Bool
}

func (s *slowStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	if s.down.Load() {
		return nil, "", errStoreDown
	}
	return s.MemoryStore.Load(ctx, key)
}

func (s *slowStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	wait(s.delay)
	if s.down.Load() {
		return "", errStoreDown
	}
	return s.MemoryStore.Save(ctx, key, value, version)
}

func (s *slowStore) holds(token string) bool {
	b, _, err := s.MemoryStore.Load(context.Background(), "alice")
	return err == nil && strings.Contains(string(b), token)
}

var errStoreDown = errors.New("connection refused")

func TestRotatedTokenThatCannotBeSavedIsKeptAndSavedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		r := newRig(t, rotating(time.Hour), func(r *rig) { r.src.Store = store })
		r.mustGet(t)
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Until: closedAfter(func() { store.down.Store(true) })})
		_, err := r.src.Token()
		wantIs(t, err, authtrip.ErrNotSaved)
		r.wantTokenRequests(t, 1)
		store.down.Store(false)
		wait(time.Minute)
		r.mustGet(t)
		r.wantTokenRequests(t, 1)
		tok, err := r.src.Token()
		if err != nil || !store.holds(tok.RefreshToken) {
			t.Errorf("the rotated refresh token is not in the store: %v", err)
		}
	})
}

// closedAfter returns a closed channel, after f.
func closedAfter(f func()) <-chan struct{} {
	c := make(chan struct{})
	f2 := func() { f(); close(c) }
	time.AfterFunc(time.Second, f2)
	return c
}

func TestStoreDownServesTheValidTokenAndSpendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		r := newRig(t, rotating(time.Hour), func(r *rig) { r.src.Store = store })
		r.mustGet(t)
		store.down.Store(true)
		wait(57 * time.Minute)
		r.mustGet(t)
		wait(4 * time.Minute)
		_, err := r.src.Token()
		wantIs(t, err, errStoreDown)
		r.wantTokenRequests(t, 0)
		store.down.Store(false)
		wait(time.Minute)
		r.mustGet(t)
	})
}

func TestStoreDownDoesNotStopClientCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowStore)
		store.down.Store(true)
		r := newRig(t, rotating(time.Hour), func(r *rig) {
			grant := authtrip.ClientCredentials(r.srv.ClientCredentials(asURL))
			grant.HTTPClient = &http.Client{Transport: r.net}
			r.src.Refresher, r.src.Initial, r.src.Store = grant, nil, store
		})
		r.mustGet(t)
		expire(r)
		r.mustGet(t)
	})
}
