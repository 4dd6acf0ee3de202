package backoff_test

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/internal/backoff"
)

func TestDoubledGrowsUpToTheMost(t *testing.T) {
	for _, tt := range []struct {
		n    int
		want time.Duration
	}{
		{-1, time.Second},
		{0, time.Second},
		{1, time.Second},
		{2, 2 * time.Second},
		{3, 4 * time.Second},
		{4, 5 * time.Second},
		{1000, 5 * time.Second},
		{math.MaxInt, 5 * time.Second},
	} {
		if got := backoff.Doubled(tt.n, time.Second, 5*time.Second); got != tt.want {
			t.Errorf("Doubled(%d) = %v, want %v", tt.n, got, tt.want)
		}
	}
	if got := backoff.Doubled(1, time.Minute, time.Second); got != time.Second {
		t.Errorf("a first wait above the most: %v, want 1s", got)
	}
	if got := backoff.Doubled(math.MaxInt, 1, math.MaxInt64); got <= 0 {
		t.Errorf("it overflows: %v", got)
	}
}

func TestSetbackWaitsUntilItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none *backoff.Setback
		if none.Waiting() || none.Cause() != nil {
			t.Error("a nil Setback holds up")
		}
		oops := errors.New("oops")
		wait := func(n int) time.Duration { return backoff.Doubled(n, time.Second, time.Hour) }
		s := backoff.After(nil, oops, wait)
		if !s.Waiting() || !errors.Is(s.Cause(), oops) || s.Attempts != 1 {
			t.Errorf("the first: waiting %v, %d attempts", s.Waiting(), s.Attempts)
		}
		<-time.After(time.Second)
		if s.Waiting() {
			t.Error("it waits when it is due")
		}
		s = backoff.After(backoff.After(s, oops, wait), oops, wait)
		if s.Attempts != 3 || time.Until(s.Again) != 4*time.Second {
			t.Errorf("the third: %d attempts, due in %v, want 3 and 4s", s.Attempts, time.Until(s.Again))
		}
	})
}
