package authtriptest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/authtriptest"
)

func TestSourceReplacesWhatWasRefused(t *testing.T) {
	t.Parallel()
	var src authtriptest.Source
	first, _ := src.Token()
	again, _ := src.Token()
	if first.AccessToken != "token-1" || again.AccessToken != "token-1" || !first.Expiry.IsZero() {
		t.Errorf("tokens = %q, %q", first.AccessToken, again.AccessToken)
	}
	src.Invalidate(first)
	second, _ := src.Token()
	src.Invalidate(first) // late
	third, _ := src.Token()
	src.Invalidate(nil)
	if second.AccessToken != "token-2" || third.AccessToken != "token-2" {
		t.Errorf("tokens = %q, %q, want token-2 twice", second.AccessToken, third.AccessToken)
	}
	want := authtriptest.SourceCounts{Calls: 4, Tokens: 2, Invalidations: 3, Invalidated: 1}
	if got := src.Counts(); got != want {
		t.Errorf("counts = %+v, want %+v", got, want)
	}
}

func TestSourceFails(t *testing.T) {
	t.Parallel()
	var src authtriptest.Source
	broken := errors.New("broken")
	src.SetError(broken)
	if _, err := src.Token(); !errors.Is(err, broken) {
		t.Errorf("Token: %v, want the error that was set", err)
	}
	src.SetError(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := src.TokenContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("TokenContext: %v, want the context's error", err)
	}
	if _, err := src.Token(); err != nil {
		t.Error(err)
	}
	if got := src.Counts(); got.Calls != 3 || got.Errors != 2 {
		t.Errorf("counts = %+v", got)
	}
}

func TestSourceOwnsItsToken(t *testing.T) {
	t.Parallel()
	var src authtriptest.Source
	mine := &oauth2.Token{AccessToken: "mine"}
	src.SetToken(mine)
	mine.AccessToken = "changed"
	got, _ := src.Token()
	got.AccessToken = "changed"
	if got, _ = src.Token(); got.AccessToken != "mine" {
		t.Errorf("token = %q, want mine", got.AccessToken)
	}
	src.SetToken(nil)
	if got, _ = src.Token(); got.AccessToken != "token-1" {
		t.Errorf("token = %q, want token-1", got.AccessToken)
	}
}

func TestSourceTokensExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := authtriptest.Source{Lifetime: time.Minute}
		first, _ := src.Token()
		<-time.After(time.Minute - 1)
		same, _ := src.Token()
		<-time.After(1)
		second, _ := src.Token()
		if same.AccessToken != first.AccessToken || second.AccessToken != "token-2" {
			t.Errorf("tokens = %q, %q, %q", first.AccessToken, same.AccessToken, second.AccessToken)
		}
	})
}

func TestSourceIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	var src authtriptest.Source
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			tok, _ := src.Token()
			src.Invalidate(tok)
		})
	}
	wg.Wait()
	got := src.Counts()
	if got.Calls != 1000 || got.Invalidations != 1000 || got.Invalidated != got.Tokens {
		t.Errorf("counts = %+v", got)
	}
}
