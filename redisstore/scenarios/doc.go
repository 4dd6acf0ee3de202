// Package scenarios has tests only: processes that share one user's refresh token, good for
// one use, through a real Redis, and are killed, starved and cut off while a strict
// authorization server watches.
package scenarios
