package lifecycle

import (
	"fmt"
	"testing"
	"time"
)

type budget map[fault]uint8

func (b budget) of() (a [numFaults]uint8) {
	for f, n := range b {
		a[f] = n
	}
	return a
}

func explorations() []config {
	return []config{
		{name: "two processes, strict, leases", procs: 2, generations: 2, server: strict, leases: true,
			budget: budget{crash: 1, lostMessage: 1, lateAnswer: 1}.of()},
	}
}

func TestEveryInvariantHoldsInEveryState(t *testing.T) {
	for _, cfg := range explorations() {
		t.Run(cfg.name, func(t *testing.T) {
			began := time.Now()
			s := newSearch(&cfg)
			s.run(nil)
			if s.bad != "" {
				t.Fatalf("after %d states:\n%s", len(s.marks), s.story())
			}
			line := fmt.Sprintf("%s: %d states, %d deep, %.1fs", cfg.name, len(s.marks), s.depth, time.Since(began).Seconds())
			t.Log(line)
			fmt.Println(line)
		})
	}
}
