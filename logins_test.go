package authtrip_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// TestLoginAndLogoutGiveUpOnAStoreThatAlwaysConflicts: they saved 84,000 times in 200 ms.
func TestLoginAndLogoutGiveUpOnAStoreThatAlwaysConflicts(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(steps)
		var saves atomic.Int32
		store.before = func(_ context.Context, op string) error {
			if op == "save" {
				saves.Add(1)
				return authtrip.ErrConflict
			}
			return nil
		}
		src := replicas(r, 1, store)[0]
		if err := src.SetToken(t.Context(), r.srv.Issue("bob")); !errors.Is(err, authtrip.ErrConflict) {
			t.Errorf("SetToken() error = %v, want ErrConflict", err)
		}
		if _, err := src.Forget(t.Context()); !errors.Is(err, authtrip.ErrConflict) {
			t.Errorf("Forget() error = %v, want ErrConflict", err)
		}
		if n := saves.Load(); n > 40 {
			t.Errorf("saved %d times", n)
		}
	})
}

// TestForgetReturnsTheTokenThatIsLive: after ErrNotSaved it returned the one that was
// spent, and the live one was never revoked.
func TestForgetReturnsTheTokenThatIsLive(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &flakyStore{}
		src := unsaved(t, r, store, nil)
		store.fail(nil)
		tok, err := src.Forget(t.Context())
		if err != nil || tok == nil || !r.srv.Valid(tok.RefreshToken) {
			t.Errorf("Forget() returns no live refresh token, error %v", err)
		}
	})
}

// TestForgetReturnsTheTokenThatIsOnItsWay: it returned the one before, and its successor
// came after the logout, was dropped, and stayed good at the server.
func TestForgetReturnsTheTokenThatIsOnItsWay(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Delay: time.Second})
		refreshed := make(chan error, 1)
		go func() {
			_, err := r.src.Token()
			refreshed <- err
		}()
		wait(100 * time.Millisecond)
		tok, err := r.src.Forget(t.Context())
		if err != nil || tok == nil || !r.srv.Valid(tok.RefreshToken) {
			t.Errorf("Forget() returns no live refresh token, error %v", err)
		}
		if err := <-refreshed; err != nil && !errors.Is(err, authtrip.ErrLoggedOut) {
			t.Errorf("Token() = %v", err)
		}
		_, err = r.src.Token()
		wantIs(t, err, authtrip.ErrLoggedOut)
	})
}

// TestForgetDoesNotWaitForAServerThatHangs longer than a save may take.
func TestForgetDoesNotWaitForAServerThatHangs(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Hour})
		go func() { _, _ = r.src.Token() }()
		wait(100 * time.Millisecond)
		began := time.Now()
		if _, err := r.src.Forget(t.Context()); err != nil || time.Since(began) > 3*time.Second {
			t.Errorf("Forget() = %v after %v", err, time.Since(began))
		}
	})
}

// TestLoginOnOneVariantIsNoticedByItsSiblings: they served the user before, and sent a
// refresh token that another had spent.
func TestLoginOnOneVariantIsNoticedByItsSiblings(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		all := replicas(r, 2, store)
		all[1].Variant = "reports"
		grant := *all[1].Refresher.(*authtrip.Grant)
		grant.Params = url.Values{"resource": {"https://reports.example"}}
		all[1].Refresher = &grant
		for _, src := range all {
			if _, err := src.Token(); err != nil {
				t.Fatal(err)
			}
		}
		bob := r.srv.Issue("bob")
		if err := all[0].SetToken(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		expire(r)
		for range 3 {
			for _, src := range all {
				tok, err := src.Refresh(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if user := subjectOf(t, r, tok.AccessToken); user != "bob" {
					t.Fatalf("the token is %s's, want bob's", user)
				}
			}
		}
		if c := r.srv.Counts(); c.Reuses != 0 || c.FamiliesRevoked != 0 {
			t.Errorf("reuses %d, families revoked %d, want none", c.Reuses, c.FamiliesRevoked)
		}
	})
}

// subjectOf asks the server whose an access token is.
func subjectOf(t *testing.T, r *rig, token string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, asURL+authtriptest.UserInfoPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := r.net.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var claims struct {
		Subject string `json:"sub"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&claims); err != nil {
		t.Fatal(err)
	}
	return claims.Subject
}
