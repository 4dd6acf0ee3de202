package authtrip_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
)

// TestSimulation lets real Sources live through everything that can go wrong, at random
// from a seed, and holds them to the invariants of docs/protocol.md. A ledger beside
// the server knows what no client can: which refresh tokens are live, and who has them.
//
// AUTHTRIP_SEEDS is how many seeds are run, or which: 20001-30000. AUTHTRIP_SEED runs one,
// and prints its story.
func TestSimulation(t *testing.T) {
	restore := authtrip.SetRandom(timeDice)
	t.Cleanup(restore)
	if one, err := strconv.ParseUint(os.Getenv("AUTHTRIP_SEED"), 10, 64); err == nil {
		synctest.Test(t, func(t *testing.T) {
			w := simulate(one)
			t.Logf("seed %d: %v\n%s", one, w.plan, w.tell())
			for _, b := range w.broken {
				t.Errorf("seed %d: %s", one, b)
			}
		})
		return
	}
	before, seeds := seedsToRun(t)
	var next, failed atomic.Uint64
	next.Store(before)
	var mu sync.Mutex
	var total tally
	began := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1); seed <= seeds && failed.Load() < 5; seed = next.Add(1) {
					synctest.Test(t, func(t *testing.T) {
						w := simulate(seed)
						if len(w.broken) > 0 && failed.Add(1) <= 5 {
							t.Errorf("seed %d: %v\n%s\n%s", seed, w.plan, strings.Join(w.broken, "\n"), w.tell())
						}
						mu.Lock()
						defer mu.Unlock()
						total.add(w.tally)
					})
				}
			})
		}
	})
	t.Logf("%v, in %v", total, time.Since(began).Round(time.Millisecond))
}

// seedsToRun returns the number of seeds that are left out, and the last one to run.
func seedsToRun(t *testing.T) (before, last uint64) {
	t.Helper()
	text := os.Getenv("AUTHTRIP_SEEDS")
	switch {
	case text == "" && raceEnabled:
		return 0, 40
	case text == "":
		return 0, 300
	}
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		from, to = "1", text
	}
	first, err := strconv.ParseUint(from, 10, 64)
	last, err2 := strconv.ParseUint(to, 10, 64)
	if err := errors.Join(err, err2); err != nil || first == 0 {
		t.Fatalf("AUTHTRIP_SEEDS = %q, want a number or a range", text)
	}
	return first - 1, last
}

// A tally is what happened in a number of runs.
type tally struct {
	seeds, refreshes, crashes, faults, losses, logins, logouts int
	lost                                                       map[string]int // sessions, by cause
	keyed, asked                                               int            // seeds with keys, and nonces that were asked for
}

func (c *tally) add(o tally) {
	c.seeds++
	c.refreshes += o.refreshes
	c.crashes += o.crashes
	c.faults += o.faults
	c.losses += o.losses
	c.logins += o.logins
	c.logouts += o.logouts
	c.keyed += o.keyed
	c.asked += o.asked
	for cause, n := range o.lost {
		c.lose(cause, n)
	}
}

func (c *tally) lose(cause string, n int) {
	if c.lost == nil {
		c.lost = make(map[string]int)
	}
	c.lost[cause] += n
}

func (c tally) String() string {
	return fmt.Sprintf("%d seeds, %d refreshes, %d crashes, %d faults, %d times a Store lost something, %d logins, %d logouts, %d seeds with bound tokens, %d nonces asked for; sessions lost: %v",
		c.seeds, c.refreshes, c.crashes, c.faults, c.losses, c.logins, c.logouts, c.keyed, c.asked, c.lost)
}
