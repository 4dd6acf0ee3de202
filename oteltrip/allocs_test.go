//go:build !race

package oteltrip_test

import (
	"testing"
	"time"

	"example.com/authtrip"
)

// A hit is what a hot path consists of. Under the race detector allocations are
// not the program's own.
func TestUserInfoHitAllocatesNothing(t *testing.T) {
	b := newBench()
	e := authtrip.Event{Kind: authtrip.EventUserInfoHit, Age: time.Minute}
	b.Event(e)
	if n := testing.AllocsPerRun(1000, func() { b.Event(e) }); n != 0 {
		t.Errorf("a hit costs %v allocations, want 0", n)
	}
}

func BenchmarkEvent(b *testing.B) {
	for _, e := range []authtrip.Event{
		{Kind: authtrip.EventUserInfoHit, Age: time.Minute},
		{Kind: authtrip.EventTokenRefreshed, Duration: time.Second, Requests: 1},
	} {
		b.Run(string(e.Kind), func(b *testing.B) {
			bench := newBench()
			bench.TracerProvider = nil
			b.ReportAllocs()
			for b.Loop() {
				bench.Event(e)
			}
		})
	}
}
