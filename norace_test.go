//go:build !race

package authtrip_test

// raceEnabled says that allocations are the program's own.
const raceEnabled = false
