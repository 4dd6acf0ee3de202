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
//	<version: 26 letters and digits; of a record with a ttl, a space and when it expires>
//	<checksum: SHA-256 of name, version and value, in hexadecimal>
//	<value>
//
// Beside the records are an empty file "lock", a file "temp" while a record is
// saved, a file for each lease while it is held, and a directory "expiring" with
// an empty file for each record with a ttl.
//
// The values are readable for whoever can read the files. [authtrip.Sealed]
// encrypts them, if the program has a better place for the key than beside them.
//
// # A directory that is missing, or another one
//
// A directory that is missing is an empty store, as at the first start of a
// program: nobody has logged in yet. That is wrong for a file system that is not
// mounted. An [authtrip.Source] that has a token in memory then saves it again, in
// the wrong place; one that has none reports that there is no session, until the
// file system is mounted and the program restarted. A Store guards against it:
//
//   - Once a Store has used its directory, a missing one is an error, and so is
//     another one in its place. It stays an error until the first one is back or
//     the program is restarted.
//   - With [Store.MustExist] a missing directory is an error from the start. Make
//     Dir a directory inside the mounted file system, not its mount point, which
//     is there in any case.
//
// A copy of the directory, and a backup, hold refresh tokens that were used since,
// and a copy has leases of its own. Two programs that work with the original and
// the copy use one refresh token twice, and a server that detects this revokes
// the session. The Store of a running program notices that another directory has
// taken the place of its own; what happens while no program runs cannot be
// noticed. So move a directory only while no program uses it, do not use the old
// one again, and expect that sessions of a restored backup have to log in again.
package filestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"example.com/authtrip"
)

// A Store is an [authtrip.Store] that keeps each record in a file of a directory.
// It is an [authtrip.Leaser] and an [authtrip.Expirer] too. Its Dir must be set.
// It is safe for concurrent use by goroutines and by processes, must not be
// modified after first use, and must not be copied.
//
// Load waits for nothing but the disk. Save, SaveFor and Delete wait, as long as
// their ctx allows, for whoever else changes the directory. They return when the
// change is on the disk and survives a loss of power. That costs some
// milliseconds, and the changes of one directory are made one after the other.
//
// Dir is to be on a local file system: what locks on a network file system
// promise depends on its servers. Locks need Linux, macOS, a BSD, illumos or
// Windows; elsewhere Save, Delete and Lease return an error that is
// [errors.ErrUnsupported].
//
// A file whose content is not what was written is reported as a [*CorruptError]
// by each method that needs the record, and stays.
type Store struct {
	// Dir is the directory of the files; required. If it is missing at first
	// use, Save, SaveFor and Lease make it, with mode 0700. One that is there
	// must belong to the user of the process, and be readable by nobody else; so
	// must the files.
	Dir string

	// MustExist makes a missing Dir an error, where it otherwise is an empty
	// store that is made when it is needed. It is for a Dir on a file system
	// that is mounted by somebody else.
	MustExist bool

	// InsecureAllowOthers accepts a directory and files that belong to, or can
	// be read by, other users. Setting this is for mounted volumes, whose
	// modes are not the program's choice: whoever can read the directory has
	// the tokens, and whoever can write to it can put others in their place.
	// On Windows, where access is not a matter of modes, nothing is checked.
	InsecureAllowOthers bool

	once sync.Once
	gate chan struct{} // holds a value while one of this Store's calls has or awaits the lock

	mu   sync.Mutex  // guards used
	used fs.FileInfo // the directory that was first used; nil before that
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
	return s.save(ctx, key, value, version, 0)
}

// SaveFor implements [authtrip.Expirer]. The record expires by the clock of the
// host. Its file is removed after the hour in which it expires, by later calls of
// Save, SaveFor and Delete, of whichever process: each removes a few.
func (s *Store) SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	if ttl <= 0 {
		return "", fmt.Errorf("filestore: Store.SaveFor: ttl is %v, want more than 0", ttl)
	}
	return s.save(ctx, key, value, version, ttl)
}

// save saves a record for ttl, or for good if that is 0.
func (s *Store) save(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	d, err := s.lock(ctx, true)
	if err != nil {
		return "", err
	}
	defer d.unlock()
	d.sweep()
	name := recordName(key)
	_, there, err := d.load(name)
	switch {
	case err != nil && !errors.Is(err, authtrip.ErrNotFound):
		return "", err
	case there != version:
		return "", authtrip.ErrConflict
	}
	next := newVersion(ttl)
	if ttl > 0 {
		if err := d.noteExpiry(name, expiryOf(next)); err != nil {
			return "", fmt.Errorf("filestore: %w", err)
		}
	}
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
	d.sweep()
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
