package authtrip

// SetRandom replaces the source of random shares of waits, and returns what puts it
// back.
func SetRandom(f func(n int64) int64) (restore func()) {
	old := random
	random = f
	return func() { random = old }
}
