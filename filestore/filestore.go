// Package filestore keeps the records of [authtrip] in a directory, for
// command-line programs and for services on a single host.
//
//	source := &authtrip.Source{
//		Store: &filestore.Store{Dir: filepath.Join(configDir, "example", "tokens")},
//		...
//	}
//
// Several processes may use one directory at once: each change is made under a
// lock of the operating system, and so is a lease. A process that dies, however
// it dies, holds nothing any more, and what it had begun to write is not seen.
//
// # Files
//
// A record is one file, named by a hash of its key, that only its owner can
// read. It is text up to the third line end, and the value after it:
//
//	authtrip file 1
//	<version: 26 letters and digits>
//	<checksum: SHA-256 of name, version and value, in hexadecimal>
//	<value>
//
// Beside the records are an empty file "lock", a file "temp" while a record is
// written, and a file for each lease while it is held.
//
// The values are readable for whoever can read the files. [authtrip.Sealed]
// encrypts them, if the program has a better place for the key than beside them.
package filestore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"sync"

	"example.com/authtrip"
)

// A Store is an [authtrip.Store] and an [authtrip.Leaser] that keeps each record
// in a file of a directory. Its Dir must be set. It is safe for concurrent use by
// goroutines and by processes, must not be modified after first use, and must
// not be copied.
//
// Load waits for nothing but the disk. Save and Delete wait, as long as their ctx
// allows, for whoever else changes the directory; they return when the change is
// on the disk and survives a loss of power. That costs some milliseconds, and
// the changes of one directory are made one after the other.
//
// Dir is to be on a local file system: what locks on a network file system
// promise depends on its servers. Locks need Linux, macOS, a BSD, illumos or
// Windows; elsewhere Save, Delete and Lease return an error that is
// [errors.ErrUnsupported].
//
// A file whose content is not what was written is reported as a [*CorruptError]
// by each method that needs the record, and stays.
type Store struct {
	// Dir is the directory of the files; required. If it is not there, Save and
	// Lease make it, with mode 0700. One that is there must belong to the user
	// of the process, and be readable by nobody else; so must the files.
	Dir string

	// InsecureAllowOthers accepts a directory and files that belong to, or can
	// be read by, other users. Setting this is for mounted volumes, whose
	// modes are not the program's choice: whoever can read the directory has
	// the tokens, and whoever can write to it can put others in their place.
	// On Windows, where access is not a matter of modes, nothing is checked.
	InsecureAllowOthers bool

	once sync.Once
	gate chan struct{} // holds a value while one of this Store's calls has or awaits the lock
}

const (
	lockName = "lock"
	// tempName is the one file that a record is written to before it takes its
	// place. Only the holder of the lock writes it, so one that is there when
	// the lock is taken was left by a crash.
	tempName = "temp"
)

func recordName(key string) string { return hashed(key) + ".record" }

func leaseName(key string) string { return hashed(key) + ".lease" }

func hashed(key string) string {
	sum := sha256.Sum256([]byte("authtrip file\x00" + key))
	return hex.EncodeToString(sum[:])
}

// Load implements [authtrip.Store].
func (s *Store) Load(ctx context.Context, key string) ([]byte, string, error) {
	if ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	d, err := s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", authtrip.ErrNotFound
	}
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = d.Close() }()
	return d.load(recordName(key))
}

// Save implements [authtrip.Store].
func (s *Store) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	d, err := s.lock(ctx, true)
	if err != nil {
		return "", err
	}
	defer d.unlock()
	name := recordName(key)
	_, there, err := d.load(name)
	switch {
	case err != nil && !errors.Is(err, authtrip.ErrNotFound):
		return "", err
	case there != version:
		return "", authtrip.ErrConflict
	}
	next := rand.Text()
	if err := d.replace(name, encode(name, next, value)); err != nil {
		return "", err
	}
	return next, nil
}

// Delete implements [authtrip.Store].
func (s *Store) Delete(ctx context.Context, key, version string) error {
	d, err := s.lock(ctx, false)
	if errors.Is(err, fs.ErrNotExist) {
		return authtrip.ErrNotFound
	}
	if err != nil {
		return err
	}
	defer d.unlock()
	name := recordName(key)
	_, there, err := d.load(name)
	switch {
	case err != nil:
		return err
	case there != version:
		return authtrip.ErrConflict
	}
	return d.remove(name)
}
