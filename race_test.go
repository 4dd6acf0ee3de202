//go:build race

package authtrip_test

// raceEnabled says that the race detector counts its own allocations among the
// program's, so that no number of them can be asserted.
const raceEnabled = true
