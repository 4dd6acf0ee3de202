package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

const (
	modesMatter = false

	lockfileFailImmediately = 1
	lockfileExclusiveLock   = 2
	errLockViolation        = syscall.Errno(33)

	// lockOffset is where the one byte is that is locked: beyond the content,
	// as nobody else can read what is locked.
	lockOffset = 0x7fff_0000
)

func owned(fs.FileInfo) bool { return true }

func tryLock(f *os.File) (bool, error) {
	ok, _, err := kernel("LockFileEx").Call(f.Fd(), lockfileExclusiveLock|lockfileFailImmediately, 0,
		1, 0, uintptr(unsafe.Pointer(&syscall.Overlapped{OffsetHigh: lockOffset})))
	switch {
	case ok != 0:
		return true, nil
	case errors.Is(err, errLockViolation), errors.Is(err, syscall.ERROR_IO_PENDING):
		return false, nil
	}
	return false, fmt.Errorf("lock %s: %w", f.Name(), err)
}

func unlock(f *os.File) error {
	ok, _, err := kernel("UnlockFileEx").Call(f.Fd(), 0,
		1, 0, uintptr(unsafe.Pointer(&syscall.Overlapped{OffsetHigh: lockOffset})))
	if ok == 0 {
		return fmt.Errorf("unlock %s: %w", f.Name(), err)
	}
	return nil
}

func kernel(name string) *syscall.LazyProc {
	return syscall.NewLazyDLL("kernel32.dll").NewProc(name)
}

// syncDir does nothing: a directory cannot be synced.
func syncDir(*os.File) error { return nil }
