// Command simulate computes what many users and many replicas cost the token
// endpoint and the Store, as docs/scale.md quotes it.
//
// It is a model, and small enough to read: tokens expire, are refreshed and are loaded from
// the store by the rules and with the defaults of authtrip; users come and go at random,
// from a fixed seed. What one attempt asks of the Store is held against the library by the
// test.
package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"text/tabwriter"
)

func main() {
	if err := report(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// All times are in seconds.
const (
	minute = 60.0
	hour   = 60 * minute

	users    = 1_000_000
	replicas = 1_000
	sample   = 500 // of the users are simulated, and each stands for two thousand

	lifetime = hour        // of an access token
	session  = 20 * minute // is how long a user stays, on average
	pause    = 3 * hour    // is how long a user stays away, on average
	every    = 10.0        // between two requests of a user who is there, on average

	idleTime = 10 * minute // Sources.IdleTime
)

// calls of the Store, by what an attempt comes to. The test counts them.
const (
	callsRefresh = 5 // Load, Lease, Save of the marker, Save of the token, release
	callsAdopt   = 1 // Load

	callsApplication      = 2 // Load, Save
	callsApplicationAdopt = 1 // Load
)

// ends is when a token that was obtained at a time is used no more: what is on its
// way then would be refused.
func ends(obtained float64) float64 { return obtained + lifetime - min(lifetime/20, 10) }

// ages is when one replica begins to renew it: a fifth of the lifetime before its
// end, and at most five minutes, less a random share.
func ages(r *rand.Rand, obtained float64) float64 {
	early := min(lifetime/5, 5*minute)
	return min(obtained+lifetime-early*(1-r.Float64()/5), ends(obtained))
}

// copied is a token in the memory of one replica.
type copied struct {
	obtained, ages, used float64
}

// cost is what was counted.
type cost struct {
	requests, waited, refreshes, calls int
}

// traffic simulates users each of whose requests reach one of spread replicas, with
// a shared Store or without, for a day after a day that does not count.
func traffic(spread int, shared bool) cost {
	const warm, end = 24 * hour, 48 * hour
	r := rand.New(rand.NewPCG(6, uint64(spread))) //nolint:gosec // it is to be the same each time
	var sum cost
	for range sample {
		stored := -2 * lifetime // when the token in the Store was obtained
		memory := make(map[int]*copied)
		now := r.ExpFloat64() * pause
		for now < end {
			for leave := now + r.ExpFloat64()*session; now < leave && now < end; now += r.ExpFloat64() * every {
				c := request(r, memory, &stored, r.IntN(spread), now, shared)
				if now >= warm {
					sum.requests += c.requests
					sum.waited += c.waited
					sum.refreshes += c.refreshes
					sum.calls += c.calls
				}
			}
			now += r.ExpFloat64() * pause
		}
	}
	return sum
}

// request is one API request of a user at one replica.
func request(r *rand.Rand, memory map[int]*copied, stored *float64, replica int, now float64, shared bool) cost {
	c := cost{requests: 1}
	have := memory[replica]
	// Unused for IdleTime it is dropped at the next but one turn of the Sources.
	if have != nil && now-have.used > idleTime*(1+r.Float64()) && shared {
		have = nil
	}
	if have != nil && now < have.ages {
		have.used = now
		return c
	}
	if have == nil || now >= ends(have.obtained) {
		c.waited = 1
	}
	other := have == nil || have.obtained != *stored
	switch {
	case shared && other && now < ends(*stored):
		c.calls = callsAdopt
		memory[replica] = &copied{*stored, ages(r, *stored), now}
	case shared:
		c.refreshes, c.calls = 1, callsRefresh
		*stored = now
		memory[replica] = &copied{now, ages(r, now), now}
	default:
		c.refreshes = 1
		memory[replica] = &copied{now, ages(r, now), now}
	}
	return c
}

// storm simulates that all tokens are rejected at once while a tenth of the users is there
// and stays, and returns the largest number of token requests in a second, and the seconds
// in which nine of ten of them fall, for each generation of tokens.
func storm(generations int) (peaks, widths []int) {
	const active = users / 10
	r := rand.New(rand.NewPCG(6, 7)) //nolint:gosec // it is to be the same each time
	at := make([]float64, active)
	for range generations {
		bySecond := make(map[int]int)
		for i := range at {
			if at[i] > 0 {
				at[i] = ages(r, at[i])
			}
			at[i] += r.ExpFloat64() * every // the user's next request finds out
			bySecond[int(at[i])]++
		}
		peak := 0
		for _, n := range bySecond {
			peak = max(peak, n)
		}
		peaks = append(peaks, peak)
		widths = append(widths, width(bySecond, active))
	}
	return peaks, widths
}

// width is the number of seconds between the first and the last twentieth.
func width(bySecond map[int]int, total int) int {
	first, last := 0, 0
	for s, seen := 0, 0; seen < total; s++ {
		if seen < total/20 {
			first = s
		}
		if seen < total-total/20 {
			last = s
		}
		seen += bySecond[s]
	}
	return last - first + 1
}

// application simulates replicas with one token of their own, all of them busy,
// and returns the token requests for each lifetime. Two that ask within one answer's
// time do not know of each other: there is no lease for a token that can be had again.
func application(answer float64) float64 {
	const rounds = 200
	r := rand.New(rand.NewPCG(6, 8)) //nolint:gosec // it is to be the same each time
	asked := 0
	for range rounds {
		first := lifetime
		when := make([]float64, replicas)
		for i := range when {
			when[i] = ages(r, 0)
			first = min(first, when[i])
		}
		for _, t := range when {
			if t < first+answer {
				asked++
			}
		}
	}
	return float64(asked) / rounds
}

func report(w io.Writer) error {
	const day = 24 * hour
	scale := float64(users) / sample / day
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d users, one of ten of them there at a time, %d replicas, tokens of an hour\n\n", users, replicas)
	fmt.Fprintln(out, "replicas that see a user\tAPI requests/s\tof these wait\ttoken requests/s\tStore calls/s\twithout a Store: token requests/s\t")
	for _, spread := range []int{1, 2, 8, 100, replicas} {
		c, alone := traffic(spread, true), traffic(spread, false)
		fmt.Fprintf(out, "%d\t%s\t%.1f%%\t%s\t%s\t%s\t\n", spread,
			two(float64(c.requests)*scale), 100*float64(c.waited)/float64(c.requests),
			two(float64(c.refreshes)*scale), two(float64(c.calls)*scale), two(float64(alone.refreshes)*scale))
	}
	if err := out.Flush(); err != nil {
		return err
	}

	fmt.Fprintf(w, "\nall tokens are rejected at once, %d users are there and stay\n\n", users/10)
	fmt.Fprintln(out, "\ttoken requests/s at the peak\tnine of ten within\t")
	peaks, widths := storm(5)
	for i := range peaks {
		when := "at once"
		if i > 0 {
			when = fmt.Sprintf("about %d h later", i)
		}
		fmt.Fprintf(out, "%s\t%s\t%s s\t\n", when, two(float64(peaks[i])), two(float64(widths[i])))
	}
	if err := out.Flush(); err != nil {
		return err
	}

	fmt.Fprintf(w, "\n%d replicas with one token of their own\n\n", replicas)
	fmt.Fprintln(out, "the answer takes\ttoken requests an hour\tStore calls an hour\twithout a Store: token requests\t")
	for _, ms := range []int{50, 200, 1000} {
		perHour := application(float64(ms)/1000) * hour / (lifetime - 5*minute)
		calls := perHour*callsApplication + replicas*callsApplicationAdopt*hour/(lifetime-4.5*minute)
		fmt.Fprintf(out, "%d ms\t%s\t%s\t%s\t\n", ms, two(perHour), two(calls), two(replicas*hour/(lifetime-4.5*minute)))
	}
	return out.Flush()
}

// two writes a number with two digits that count: it is a model.
func two(x float64) string {
	unit := 1.0
	for x/unit >= 100 {
		unit *= 10
	}
	if x < 10 {
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", float64(int(x/unit+0.5))*unit)
}
