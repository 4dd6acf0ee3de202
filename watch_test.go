package authtrip_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// TestLookThatTheStoreDoesNotAnswerIsMadeAgain: a Store that failed over had lost its
// last write, and was down when it said so. The watchers looked in vain, and did not
// look again: the record stayed the old one until another replica had sent its refresh
// token, which was used up.
func TestLookThatTheStoreDoesNotAnswerIsMadeAgain(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		var down atomic.Bool
		store.before = func(context.Context, string) error {
			if down.Load() {
				return errStoreDown
			}
			return nil
		}
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		before, _, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = src.Watch(ctx) }()
		if _, err := src.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()

		down.Store(true)
		_, version, _ := store.MemoryStore.Load(t.Context(), "alice")
		if _, err := store.MemoryStore.Save(t.Context(), "alice", before, version); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			wait(time.Second)
			// One that comes too soon after the look asks no Store, and made nobody look again.
			if _, err := src.Refresh(t.Context()); !errors.Is(err, errStoreDown) {
				t.Errorf("Refresh() error = %v, want that of the Store", err)
			}
		}
		down.Store(false)
		wait(5 * time.Second)
		wantLive(t, r, store)
	})
}

// TestLoginWhileALogoutIsNoticedIsNotToldThatTheSessionIsOver: a round had read the
// tombstone, and waited for a slow Store to take its lease back. A login came meanwhile;
// the round then told that the session had ended, and held the new one back for that.
func TestLoginWhileALogoutIsNoticedIsNotToldThatTheSessionIsOver(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		all := replicas(r, 2, store)
		var armed atomic.Bool
		store.before = func(_ context.Context, op string) error {
			switch {
			case op == "lease" && armed.Swap(false): // the logout comes just before it is there
				wait(time.Second) // so that the record is read again
				_, _ = all[1].Forget(context.WithoutCancel(t.Context()))
			case op == "release":
				wait(2 * time.Second)
			}
			return nil
		}
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		expire(r)
		armed.Store(true)
		time.AfterFunc(2*time.Second, func() { _ = all[0].SetToken(context.Background(), r.srv.Issue("bob")) })
		if _, err := all[0].Token(); err != nil {
			t.Errorf("Token() error = %v, but somebody has logged in", err)
		}
	})
}

// TestRefreshByHandThatJoinsALookIsNoEmptyToken: it joined the round of a watcher, which
// had found the record that another Variant has refreshed, without an access token of
// its own; that was the answer, without an error.
func TestRefreshByHandThatJoinsALookIsNoEmptyToken(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		all := replicas(r, 2, store)
		all[1].Variant = "reports"
		var slow atomic.Bool
		store.before = func(_ context.Context, op string) error {
			if slow.Load() && op == "load" {
				wait(time.Second)
			}
			return nil
		}
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = all[1].Watch(ctx) }()
		expire(r)
		slow.Store(true)
		if _, err := all[0].Token(); err != nil {
			t.Fatal(err)
		}
		wait(100 * time.Millisecond) // the watcher reads what was saved
		tok, err := all[1].Refresh(t.Context())
		if err != nil || tok.AccessToken == "" {
			t.Errorf("Refresh() = an empty token %v, error %v", tok != nil && tok.AccessToken == "", err)
		}
	})
}

var _ authtrip.Watcher = (*steps)(nil)

// TestLostRecordThatCouldNotBePutBackIsPutBackLater: the watcher had found that the
// record was gone, and the Store hung when it was to be saved; nobody tried again.
func TestLostRecordThatCouldNotBePutBackIsPutBackLater(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		var down atomic.Bool
		store.before = func(_ context.Context, op string) error {
			if down.Load() && op == "save" {
				return errStoreDown
			}
			return nil
		}
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = src.Watch(ctx) }()
		synctest.Wait()
		down.Store(true)
		_, version, _ := store.Load(t.Context(), "alice")
		if err := store.Delete(t.Context(), "alice", version); err != nil {
			t.Fatal(err)
		}
		wait(5 * time.Second)
		down.Store(false)
		wait(5 * time.Second)
		wantLive(t, r, store)
	})
}

// A look that the Store had not answered stayed the reason of the status, though the next one was answered.
func TestStatusForgetsALookThatFailed(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = src.Watch(ctx) }()
		synctest.Wait()
		var down atomic.Bool
		store.before = func(context.Context, string) error {
			if down.Load() {
				return errStoreDown
			}
			return nil
		}
		down.Store(true)
		doc, version, _ := store.MemoryStore.Load(t.Context(), "alice")
		if _, err := store.MemoryStore.Save(t.Context(), "alice", doc, version); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		wantIs(t, src.Status().Err, errStoreDown)
		down.Store(false)
		wait(time.Minute)
		if err := src.Status().Err; err != nil {
			t.Errorf("Status().Err = %v, but the Store has answered since", err)
		}
	})
}

// A watch went on after Close, and its goroutine with it.
func TestWatchEndsWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Pointer[error]
		users := &authtrip.Sources{Each: authtrip.Source{Store: new(authtrip.MemoryStore), Refresher: counted(&fail)}}
		src := &authtrip.Source{Store: new(authtrip.MemoryStore), Key: "alice", Refresher: counted(&fail)}
		ended := make(chan error, 3)
		go func() { ended <- src.Watch(t.Context()) }()
		go func() { ended <- users.Watch(t.Context()) }()
		go func() { ended <- users.Source("alice").Watch(t.Context()) }()
		synctest.Wait()
		_, _ = src.Close(), users.Close()
		for range 3 {
			select {
			case err := <-ended:
				wantIs(t, err, authtrip.ErrClosed)
			case <-time.After(time.Minute):
				t.Fatal("Watch does not end")
			}
		}
	})
}

// The second watch took the place of the first, which heard no more of sessions that came later.
func TestTwoWatchesOfSourcesHearOfAllSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Pointer[error]
		store := new(authtrip.MemoryStore)
		users := &authtrip.Sources{Each: authtrip.Source{Store: store, Refresher: counted(&fail)}}
		defer users.Close()
		elsewhere := &authtrip.Sources{Each: authtrip.Source{Store: store, Refresher: counted(&fail)}}
		defer elsewhere.Close()
		for range 2 {
			go func() { _ = users.Watch(t.Context()) }()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = users.Watch(ctx) }()
		synctest.Wait()
		cancel() // the others go on
		synctest.Wait()
		if err := users.Source("alice").SetToken(t.Context(), &oauth2.Token{AccessToken: "a", Expiry: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if _, err := elsewhere.Source("alice").Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, err := users.Source("alice").Token()
		wantIs(t, err, authtrip.ErrLoggedOut)
	})
}

// watchedStore tells of every change.
type watchedStore struct {
	authtrip.MemoryStore
	changed chan struct{}
}

func (s *watchedStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	version, err := s.MemoryStore.Save(ctx, key, value, version)
	s.changed <- struct{}{}
	return version, err
}

func (s *watchedStore) Delete(ctx context.Context, key, version string) error {
	err := s.MemoryStore.Delete(ctx, key, version)
	s.changed <- struct{}{}
	return err
}

func (s *watchedStore) Watch(ctx context.Context, _ string) (<-chan struct{}, error) {
	out := make(chan struct{})
	go func() {
		defer close(out)
		for {
			select {
			case <-s.changed:
				select {
				case out <- struct{}{}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func TestWatchHearsOfALogoutAndALoginElsewhere(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &watchedStore{changed: make(chan struct{}, 10)}
		all := replicas(r, 2, store)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- all[0].Watch(ctx) }()
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		bob := r.srv.Issue("bob")
		if err := all[1].SetToken(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if tok, err := all[0].Token(); err != nil || tok.AccessToken != bob.AccessToken {
			t.Errorf("after a login elsewhere the old token is served (%v)", err)
		}
		if _, err := all[1].Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, err := all[0].Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		cancel()
		wantIs(t, <-ended, context.Canceled)
		wantIs(t, r.src.Watch(t.Context()), errors.ErrUnsupported)
	})
}
