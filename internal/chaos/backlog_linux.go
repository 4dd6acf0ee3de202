package chaos

import "syscall"

// backlog sets how many connections may wait to be accepted. The packets of others are
// dropped.
func (d *door) backlog(n int) {
	raw, err := d.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = syscall.Listen(int(fd), n) })
}
