package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// scale is how much is done: full is what the table is made of, quick shows that
// everything works.
type scale struct {
	quick bool
}

// of returns full, or quick if that is asked for.
func of[T any](s scale, full, quick T) T {
	if s.quick {
		return quick
	}
	return full
}

// interleave measures all ops together: in each of reps rounds each of them runs n
// times, one after the other and starting with another one each time, so that
// whatever else the machine does meets all of them. What is
// left of its garbage is collected before the next one runs. It returns the nanoseconds per operation, by op and round.
func interleave(ops []func(n int), n, reps int) [][]float64 {
	samples := make([][]float64, len(ops))
	for i, op := range ops {
		op(min(n, 100)) // what is only done once
		samples[i] = make([]float64, reps)
	}
	for round := range reps {
		for k := range ops {
			i := (k + round) % len(ops)
			runtime.GC()
			start := time.Now()
			ops[i](n)
			samples[i][round] = float64(time.Since(start)) / float64(n)
		}
	}
	return samples
}

// parallel makes of op one that runs n times on as many goroutines as run at a
// time; the time of an operation is then that of one on each.
func parallel(op func(n int)) func(n int) {
	return func(n int) {
		crowd(runtime.GOMAXPROCS(0), func(int) { op(n) })
	}
}

// allocations returns how many there are for each op.
func allocations(op func(n int)) float64 {
	const n = 2000
	var before, after runtime.MemStats
	op(100)
	runtime.ReadMemStats(&before)
	op(n)
	runtime.ReadMemStats(&after)
	return math.Round(float64(after.Mallocs-before.Mallocs) / n)
}

// heap returns how many bytes are in use.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// crowd calls f in n goroutines at once and waits for all of them.
func crowd(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// quantile returns the q-quantile of v, which it does not change.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(v))
	if i := q * float64(len(sorted)); q == 0.5 && len(sorted)%2 == 0 {
		return (sorted[int(i)-1] + sorted[int(i)]) / 2
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// ratio returns the median of the ratios of two series, round by round.
func ratio(a, b []float64) float64 {
	r := make([]float64, min(len(a), len(b)))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return median(r)
}

// span writes a time in nanoseconds with three digits.
func span(ns float64) string {
	switch {
	case math.IsNaN(ns):
		return "none"
	case ns < 1e3:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e6:
		return digits(ns/1e3) + " µs"
	case ns < 1e9:
		return digits(ns/1e6) + " ms"
	}
	return digits(ns/1e9) + " s"
}

func digits(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func times(r float64) string { return fmt.Sprintf("%.2f×", r) }

// number writes a median of counts.
func number(v float64) string {
	if v != math.Trunc(v) {
		return digits(v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// tally writes counts of what happened, "100 × 401, 3 errors".
func tally(statuses map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for k := range statuses {
			if !yield(k) {
				return
			}
		}
	}) {
		parts = append(parts, fmt.Sprintf("%s × %s", number(float64(statuses[k])), k))
	}
	return strings.Join(parts, ", ")
}
