package authtrip_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// wantBack holds that f comes back within a minute.
func wantBack(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s does not come back", what)
	}
}

// TestHookMayAskForATokenWhileOneIsUnsaved: it waited for the refresh that waited for it.
func TestHookMayAskForATokenWhileOneIsUnsaved(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := &flakyStore{}
		var src *authtrip.Source
		var called atomic.Bool
		unsaved(t, r, store, func(s *authtrip.Source) {
			src = s
			s.OnEvent = func(e authtrip.Event) {
				if e.Kind == authtrip.EventTokenNotSaved && !called.Swap(true) {
					_, _ = src.TokenContext(context.Background())
				}
			}
		})
		wantBack(t, "Token", func() { _, _ = src.Token() })
		if !called.Load() {
			t.Error("there was no token_not_saved")
		}
	})
}

// TestHookMayCloseTheSourceWhenTheSessionHasEnded: Close waited for the refresh that
// waited for the hook.
func TestHookMayCloseTheSourceWhenTheSessionHasEnded(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		r.src.OnEvent = func(e authtrip.Event) {
			if e.Kind == authtrip.EventReauthRequired {
				_ = r.src.Close()
			}
		}
		expire(r)
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
		wantBack(t, "Token", func() {
			if _, err := r.src.Token(); !errors.Is(err, authtrip.ErrReauthRequired) {
				t.Errorf("Token() error = %v", err)
			}
		})
	})
}
