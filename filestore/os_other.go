//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

const modesMatter = false

func owned(fs.FileInfo) bool { return true }

func tryLock(f *os.File) (bool, error) {
	return false, fmt.Errorf("lock %s: %w", f.Name(), errors.ErrUnsupported)
}

func unlock(*os.File) error { return errors.ErrUnsupported }

func syncDir(*os.File) error { return nil }
