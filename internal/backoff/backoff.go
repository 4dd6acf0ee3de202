// Package backoff says when to try again what has failed.
package backoff

import "time"

// Doubled is the wait after n failures in succession: first, doubled with each, and most at
// last.
func Doubled(n int, first, most time.Duration) time.Duration {
	wait := first
	for ; n > 1 && wait <= most/2; n-- {
		wait *= 2
	}
	if n > 1 {
		return most
	}
	return min(wait, most)
}

// A Setback is a failure, and when the next attempt is due. A nil one holds nobody up. It
// must not be modified.
type Setback struct {
	Err      error
	Attempts int       // that failed one after the other
	Again    time.Time // when the next is due; with a monotonic reading
}

// After returns the Setback that follows last, of an attempt that has failed now. wait says how
// long to wait after so many.
func After(last *Setback, err error, wait func(attempts int) time.Duration) *Setback {
	s := &Setback{Err: err, Attempts: 1}
	if last != nil {
		s.Attempts += last.Attempts
	}
	s.Again = time.Now().Add(wait(s.Attempts))
	return s
}

// Waiting reports whether the next attempt is not due yet.
func (s *Setback) Waiting() bool { return s != nil && time.Now().Before(s.Again) }

// Cause returns the error, nil of a nil Setback.
func (s *Setback) Cause() error {
	if s == nil {
		return nil
	}
	return s.Err
}
