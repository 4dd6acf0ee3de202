package authtrip_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// unsaved leaves a Source with a token that its Store has not taken.
func unsaved(t *testing.T, r *rig, store *flakyStore, configure func(*authtrip.Source)) *authtrip.Source {
	t.Helper()
	src := replicas(r, 1, store)[0]
	if configure != nil {
		configure(src)
	}
	if _, err := src.Token(); err != nil {
		t.Fatal(err)
	}
	expire(r)
	store.fail(errors.New("full"))
	if _, err := src.Token(); !src.AllowRefreshWithoutStore && !errors.Is(err, authtrip.ErrNotSaved) {
		t.Fatalf("Token() error = %v, want ErrNotSaved", err)
	}
	return src
}

// wantLive holds that the record's refresh token is the one that the server would take.
func wantLive(t *testing.T, r *rig, store authtrip.Store) {
	t.Helper()
	doc, _, err := store.Load(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), `"refresh_token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	if !r.srv.Valid(token) {
		t.Error("the refresh token in the Store is one that was used up")
	}
}

// TestUnsavedTokenIsSavedByItself: it was only when a request came to this replica, and
// with AllowRefreshWithoutStore not before the token aged.
func TestUnsavedTokenIsSavedByItself(t *testing.T) {
	for name, allow := range map[string]bool{"default": false, "allowed": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
				store := &flakyStore{}
				unsaved(t, r, store, func(s *authtrip.Source) { s.AllowRefreshWithoutStore = allow })
				wait(time.Minute)
				store.fail(nil)
				wait(3 * time.Second)
				wantLive(t, r, store)
				r.wantTokenRequests(t, 1)
			})
		})
	}
}

// TestCloseSavesWhatIsUnsaved: it did not try.
func TestCloseSavesWhatIsUnsaved(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &flakyStore{}
		src := unsaved(t, r, store, nil)
		store.fail(nil)
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
		wantLive(t, r, store)
	})
}

// TestUnsavedTokenGivesWayToALogin: alice's was kept in memory, and went over bob's login
// when the Store was back.
func TestUnsavedTokenGivesWayToALogin(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &flakyStore{}
		src := unsaved(t, r, store, nil)
		store.fail(nil)
		bob := r.srv.Issue("bob")
		other := replicas(r, 1, store)[0]
		if err := other.SetToken(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			wait(time.Second)
			for _, s := range []*authtrip.Source{src, other} {
				if tok, err := s.Token(); err != nil || tok.AccessToken != bob.AccessToken {
					t.Fatalf("Token() is another than bob's, error %v", err)
				}
			}
		}
	})
}

// TestSuccessorGoesOverTheTokenThatWasSpentForIt: the Store lost its last write, or another
// replica wrote its marker, and the save of the successor was a conflict: the record
// counted as the winner, although it held the token that was spent, and was sent again.
func TestSuccessorGoesOverTheTokenThatWasSpentForIt(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &flakyStore{}
		src := replicas(r, 1, store)[0]
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		before, _, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Delay: 2 * time.Second})
		time.AfterFunc(time.Second, func() { // the marker is lost
			_, version, _ := store.Load(t.Context(), "alice")
			_, _ = store.Save(t.Context(), "alice", before, version)
		})
		if tok, err := src.Token(); err != nil || !r.srv.Valid(tok.AccessToken) {
			t.Errorf("Token() error = %v", err)
		}
		wait(time.Minute)
		wantLive(t, r, store)
		r.wantTokenRequests(t, 1)
	})
}

// Close held the session's lock while the Store hung: Status hung with it.
func TestStatusDoesNotWaitForClose(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		src := replicas(r, 1, store)[0]
		src.AllowRefreshWithoutStore = true
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		expire(r)
		store.before = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
		if _, err := src.Token(); err != nil {
			t.Fatal(err)
		}
		wait(15 * time.Second)
		go func() { _ = src.Close() }()
		wait(100 * time.Millisecond)
		began := time.Now()
		src.Status()
		if d := time.Since(began); d != 0 {
			t.Errorf("Status() took %v", d)
		}
	})
}
