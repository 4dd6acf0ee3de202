//go:build race

package lifecycle

// raced says that the race detector makes an exploration ten times as slow, and has
// nothing to find in it: .ci/run explores without.
const raced = true
