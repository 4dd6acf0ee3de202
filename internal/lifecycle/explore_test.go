package lifecycle

import (
	"fmt"
	"os"
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

// explorations are what CI explores: about four million states. The long form adds
// to each budget, and explores longExplorations.
func explorations() []config {
	return []config{
		{
			name: "strict, leases: a crash; lost, late and refused messages", procs: 2, generations: 2, server: strict, leases: true,
			budget: budget{crash: 1, lostMessage: 1, lateAnswer: 1, notTaken: 1}.of(),
		},
		{
			name: "strict, no leases: the Store fails", procs: 2, generations: 1, server: strict,
			budget: budget{crash: 1, lostMessage: 1, storeFails: 2, stall: 1}.of(),
		},
		{
			name: "strict, leases: the Store loses its last write", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{crash: 1, lostMessage: 1, lostWrite: 1, stall: 1}.of(),
		},
		{
			name: "strict, leases: the Store loses the record", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{crash: 1, lostMessage: 1, lostRecord: 1}.of(),
		},
		{
			name: "strict, no leases: the Store loses the record", procs: 2, generations: 2, server: strict,
			budget: budget{crash: 1, lostMessage: 1, lostRecord: 1}.of(),
		},
		{
			name: "strict, leases: an old record is restored", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{crash: 1, lostMessage: 1, restored: 1}.of(),
		},
		{
			name: "logins and logouts", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{newLogin: 1, logout: 1, storeFails: 1}.of(),
		},
		{
			name: "logins and logouts, late answers: the Store loses its last write", procs: 2, generations: 1, server: strict,
			leases: true, budget: budget{newLogin: 1, logout: 1, lostWrite: 1, lateAnswer: 1}.of(),
		},
		{
			name: "the server ends the session", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{serverEnds: 1, newLogin: 1, storeFails: 1}.of(),
		},
		{
			name: "grace, the same successor", procs: 2, generations: 1, server: graceSame, leases: true,
			budget: budget{crash: 1, lostMessage: 1, lateAnswer: 1}.of(),
		},
		{
			name: "grace, a second successor", procs: 2, generations: 1, server: graceSecond, leases: true,
			budget: budget{crash: 1, lostMessage: 1, lateAnswer: 1}.of(),
		},
		{
			name: "grace for ever", procs: 2, generations: 1, server: reusable, grace: Open, leases: true,
			budget: budget{crash: 1, lostMessage: 1, lateAnswer: 1}.of(),
		},
		{
			name: "never resent", procs: 2, generations: 2, server: strict, grace: Never, leases: true,
			budget: budget{crash: 1, lostMessage: 1, lateAnswer: 1}.of(),
		},
		{
			name: "Initial", procs: 2, generations: 1, server: strict, leases: true, start: nothing, initial: true,
			budget: budget{crash: 1, storeFails: 1, logout: 1}.of(),
		},
		{
			name: "nobody has logged in", procs: 2, generations: 1, server: strict, leases: true, start: nothing,
			budget: budget{crash: 1, newLogin: 1, logout: 1}.of(),
		},
		{
			name: "read from the Store", procs: 2, generations: 1, server: strict, leases: true, start: stored,
			budget: budget{crash: 1, lostMessage: 1, storeFails: 1}.of(),
		},
		{
			name: "variants", procs: 2, generations: 2, server: strict, leases: true, variants: true,
			budget: budget{crash: 1, lostMessage: 1}.of(),
		},
		{
			name: "refreshed without a Store that fails", procs: 2, generations: 1, server: strict, leases: true, care: StoreMayFail,
			budget: budget{lostMessage: 1, storeFails: 2}.of(),
		},
		{
			name: "free", procs: 2, generations: 1, server: reusable, care: Free, start: nothing,
			budget: budget{lostMessage: 1, storeFails: 1}.of(),
		},
		{
			name: "three processes, leases: lost messages", procs: 3, generations: 1, server: strict, leases: true,
			budget: budget{lostMessage: 1}.of(),
		},
		{
			name: "three processes, no leases: a crash", procs: 3, generations: 1, server: strict,
			budget: budget{crash: 1}.of(),
		},
	}
}

// longExplorations take minutes, and some gigabytes.
func longExplorations() []config {
	all := explorations()
	for i := range all {
		for f := range all[i].budget {
			if all[i].procs == 2 && all[i].budget[f] > 0 && fault(f) != newLogin && fault(f) != lostMessage {
				all[i].budget[f]++
			}
		}
		all[i].limit = 12e6
	}
	return append(all,
		config{
			name: "three processes: the Store fails, late answers", procs: 3, generations: 1, server: strict, limit: 12e6,
			budget: budget{storeFails: 1, lateAnswer: 1}.of(),
		},
		config{
			name: "three processes: a crash, and the Store loses the record", procs: 3, generations: 1, server: strict, limit: 12e6,
			leases: true, budget: budget{crash: 1, lostRecord: 1}.of(),
		},
	)
}

var long = os.Getenv("AUTHTRIP_EXPLORE") == "long"

// explore searches a configuration, and tries the way back from one state in every
// few.
func explore(cfg *config, few int) *search {
	s := newSearch(cfg)
	h := newHealer(cfg)
	n := 0
	s.run(func(w *world) string {
		if w.leftBehind(cfg) {
			return "IU: a marker is left behind, and there was no fault"
		}
		if n++; n%few != 0 {
			return ""
		}
		return h.check(w)
	})
	return s
}

func TestEveryInvariantHoldsInEveryState(t *testing.T) {
	all := explorations()
	if raced {
		all = all[len(all)-1:]
	}
	if long {
		all = longExplorations()
	}
	states, start := 0, time.Now()
	for _, cfg := range all {
		t.Run(cfg.name, func(t *testing.T) {
			began := time.Now()
			s := explore(&cfg, every)
			if s.bad != "" {
				t.Fatalf("after %d states:\n%s", len(s.marks), s.story())
			}
			line := fmt.Sprintf("%s: %d states, %d deep, %.1fs",
				cfg.name, len(s.marks), s.depth, time.Since(began).Seconds())
			if s.full {
				line += ", not all"
			}
			states += len(s.marks)
			t.Log(line)
		})
	}
	fmt.Printf("explored: %d states of %d configurations in %.0f s, no invariant broken: %v\n",
		states, len(all), time.Since(start).Seconds(), !t.Failed())
}

// every says from which states the way back is tried: one in so many.
const every = 20

// probes are small explorations that find most breaks within a second.
func probes() []config {
	return []config{
		{
			name: "probe: strict, leases", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{crash: 1, lostMessage: 1}.of(),
		},
		{
			name: "probe: strict, no leases, refused", procs: 2, generations: 1, server: strict,
			budget: budget{notTaken: 1, lostMessage: 1}.of(),
		},
		{
			name: "probe: strict, no leases, late", procs: 2, generations: 1, server: strict,
			budget: budget{crash: 1, lateAnswer: 1}.of(),
		},
		{
			name: "probe: strict, leases, the Store fails", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{storeFails: 2}.of(),
		},
		{
			name: "probe: the Store loses its last write", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{lostWrite: 1, lateAnswer: 1, stall: 1}.of(),
		},
		{
			name: "probe: the Store loses the record", procs: 2, generations: 2, server: strict,
			budget: budget{lostRecord: 1}.of(),
		},
		{
			name: "probe: logins and logouts", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{newLogin: 1, logout: 1}.of(),
		},
		{
			name: "probe: logouts, and the Store loses its last write", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{logout: 1, lostWrite: 1}.of(),
		},
		{
			name: "probe: the server ends the session", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{serverEnds: 1, newLogin: 1}.of(),
		},
		{
			name: "probe: the server ends it, and the Store fails", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{serverEnds: 1, storeFails: 1, lostWrite: 1}.of(),
		},
		{
			name: "probe: grace", procs: 2, generations: 1, server: graceSame, leases: true,
			budget: budget{lostMessage: 1, crash: 1}.of(),
		},
		{
			name: "probe: a second successor", procs: 2, generations: 1, server: graceSecond, leases: true,
			budget: budget{lostMessage: 1, lateAnswer: 1}.of(),
		},
		{
			name: "probe: never", procs: 2, generations: 1, server: strict, grace: Never, leases: true,
			budget: budget{lostMessage: 1, crash: 1}.of(),
		},
		{
			name: "probe: nobody has logged in", procs: 2, generations: 1, server: strict, leases: true, start: nothing,
			budget: budget{newLogin: 1, logout: 1}.of(),
		},
		{
			name: "probe: Initial", procs: 2, generations: 1, server: strict, leases: true, start: nothing, initial: true,
			budget: budget{storeFails: 1}.of(),
		},
		{
			name: "probe: the Store may fail", procs: 1, generations: 2, server: strict, leases: true, care: StoreMayFail,
			budget: budget{storeFails: 2, lostMessage: 1}.of(),
		},
		{
			name: "probe: free", procs: 2, generations: 1, server: reusable, care: Free, start: nothing,
			budget: budget{storeFails: 1}.of(),
		},
		{
			name: "probe: two logins, one lost", procs: 2, generations: 1, server: strict, leases: true,
			budget: budget{newLogin: 2, lostWrite: 1}.of(), limit: 2e4,
		},
		{
			name: "probe: a crash, then refused", procs: 2, generations: 1, server: strict,
			budget: budget{crash: 1, notTaken: 1, lostMessage: 1}.of(),
		},
		{
			name: "probe: a login after the end, lost", procs: 1, generations: 1, server: strict,
			budget: budget{serverEnds: 1, newLogin: 1, lostWrite: 1}.of(),
		},
		{
			name: "probe: the Store may fail, after a logout", procs: 1, generations: 1, server: strict, care: StoreMayFail,
			budget: budget{storeFails: 1, logout: 1}.of(),
		},
		{
			name: "probe: a login while an answer is late", procs: 1, generations: 1, server: strict,
			budget: budget{newLogin: 1, lateAnswer: 1}.of(),
		},
		{
			name: "probe: free, lost messages", procs: 1, generations: 1, server: reusable, care: Free, start: nothing,
			budget: budget{lostMessage: 2, lateAnswer: 1, notTaken: 1, lostRecord: 1}.of(),
		},
	}
}

func TestSmallWorldsKeepEveryInvariant(t *testing.T) {
	for _, cfg := range probes() {
		began := time.Now()
		s := explore(&cfg, 5)
		if s.bad != "" {
			t.Fatalf("%s: %s", s.bad, s.story())
		}
		t.Logf("%s: %d states, %.1fs", cfg.name, len(s.marks), time.Since(began).Seconds())
	}
}
