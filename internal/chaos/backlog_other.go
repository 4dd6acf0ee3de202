//go:build !linux

package chaos

// backlog does nothing: connections wait, and nobody reads what is sent on them.
func (*door) backlog(int) {}
