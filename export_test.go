package authtrip

import "context"

// KeyOf returns the key of a context.
func KeyOf(ctx context.Context) string {
	key, _ := ctx.Value(contextKey{}).(string)
	return key
}

// SetRandom replaces the source of random shares of waits, and returns what puts it
// back.
func SetRandom(f func(n int64) int64) (restore func()) {
	old := random
	random = f
	return func() { random = old }
}

// Gates returns how many gates s keeps for what New makes.
func (s *Sources) Gates() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.gates)
}
