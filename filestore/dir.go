package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"example.com/authtrip"
)

// dir is the directory of a Store, open for one call. All names are looked up in
// the directory that was checked, even if Dir has become another one meanwhile,
// and none leads out of it.
type dir struct {
	*os.Root
	store  *Store
	locked *os.File // the lock file, while the lock is held
}

// open opens Dir and checks it. If create is set, it makes one that is missing;
// else the error is fs.ErrNotExist. One that should be there is neither made nor
// taken for an empty one.
func (s *Store) open(create bool) (*dir, error) {
	if s.Dir == "" {
		return nil, errors.New("filestore: Store.Dir is empty")
	}
	root, err := s.openRoot(create)
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	d := &dir{Root: root, store: s}
	fi, err := root.Stat(".")
	if err == nil {
		err = s.private(fi, s.Dir, 0o700)
	}
	if err == nil {
		err = s.first(fi)
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("filestore: %w", err)
	}
	return d, nil
}

func (s *Store) openRoot(create bool) (*os.Root, error) {
	root, err := os.OpenRoot(s.Dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	if missing := s.missing(); missing != nil {
		return nil, missing
	}
	if create {
		if err = makeDir(s.Dir); err == nil {
			root, err = os.OpenRoot(s.Dir)
		}
	}
	return root, err
}

// first remembers the directory that the Store was first used with, and returns an
// error for another one. A copy has tokens that the original has refreshed since,
// and leases of its own; the place of a file system that is not mounted has none.
func (s *Store) first(fi fs.FileInfo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.used == nil:
		s.used = fi
	case !os.SameFile(s.used, fi):
		return fmt.Errorf("%s is another directory than the one that this Store was first used with: mount or restore that one, or restart the program if the change is meant", s.Dir)
	}
	return nil
}

// missing returns an error if Dir, which is missing, should be there.
func (s *Store) missing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.used != nil:
		return fmt.Errorf("%s is gone since this Store was first used: mount or restore it, or restart the program if it was removed on purpose", s.Dir)
	case s.MustExist:
		return fmt.Errorf("%s is missing, and Store.MustExist is set: mount it, or make it with mode 0700", s.Dir)
	}
	return nil
}

// makeDir makes a directory and those above it, and sees to it that they stay.
func makeDir(name string) error {
	above := filepath.Dir(name)
	err := os.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrNotExist) && above != name {
		if err = makeDir(above); err == nil {
			err = os.Mkdir(name, 0o700)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // made by another process; if it is no directory, OpenRoot says so
	}
	if err != nil {
		return err
	}
	f, err := os.Open(above)
	if err != nil {
		return nil // it may be searchable only
	}
	defer func() { _ = f.Close() }()
	return syncDir(f)
}

// private returns an error if others than the user of this process can get at a
// file; mode is what it should have.
func (s *Store) private(fi fs.FileInfo, name string, mode fs.FileMode) error {
	switch {
	case s.InsecureAllowOthers || !modesMatter:
		return nil
	case !owned(fi):
		return fmt.Errorf("%s belongs to another user", name)
	case fi.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users, with mode %04o: chmod %o %[1]s", name, fi.Mode().Perm(), mode)
	}
	return nil
}

func (d *dir) path(name string) string { return filepath.Join(d.Name(), name) }

// openFile opens a file, made with mode 0600 if flag says so. It opens regular
// files only: not a link, which leads elsewhere, nor a pipe, which blocks.
func (d *dir) openFile(name string, flag int) (*os.File, error) {
	fi, err := d.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		return d.OpenFile(name, flag, 0o600)
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", d.path(name))
	}
	if err := d.store.private(fi, d.path(name), 0o600); err != nil {
		return nil, err
	}
	return d.OpenFile(name, flag, 0o600)
}

// load returns a record, unless it has expired. If there is none, the version is
// "".
func (d *dir) load(name string) (value []byte, version string, err error) {
	value, version, err = d.read(name)
	if err == nil && expired(version) {
		return nil, "", authtrip.ErrNotFound
	}
	return value, version, err
}

// read returns a record, expired or not.
func (d *dir) read(name string) (value []byte, version string, err error) {
	f, err := d.openFile(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", authtrip.ErrNotFound
	}
	if err != nil {
		return nil, "", fmt.Errorf("filestore: %w", err)
	}
	defer func() { _ = f.Close() }()
	content, err := readAll(f)
	if err != nil {
		return nil, "", fmt.Errorf("filestore: %w", err)
	}
	value, version, err = decode(name, content)
	if err != nil {
		return nil, "", &CorruptError{File: d.path(name), Err: err}
	}
	return value, version, nil
}

// readAll reads a file in one piece.
func readAll(f *os.File) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, fi.Size())
	n, err := f.ReadAt(b, 0)
	if n == len(b) {
		err = nil
	}
	return b, err
}

// replace puts a file in the place of another one, in one step. The lock must be
// held.
func (d *dir) replace(name string, content []byte) error {
	err := d.removeIfThere(tempName)
	if err == nil {
		err = d.write(tempName, content)
	}
	if err == nil {
		err = d.Rename(tempName, name)
	}
	if err != nil {
		_ = d.removeIfThere(tempName)
		return fmt.Errorf("filestore: %w", err)
	}
	return d.syncAll()
}

// write makes a file, and returns when its content is on the disk.
func (d *dir) write(name string, content []byte) error {
	f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// remove removes a record, and what a crash may have left of one. The lock must
// be held.
func (d *dir) remove(name string) error {
	if err := errors.Join(d.removeIfThere(tempName), d.Remove(name)); err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	return d.syncAll()
}

func (d *dir) removeIfThere(name string) error {
	err := d.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncAll returns when the names in Dir are on the disk.
func (d *dir) syncAll() error {
	if err := d.sync("."); err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	return nil
}

// sync returns when the names in a directory are on the disk.
func (d *dir) sync(folder string) error {
	f, err := d.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

// is reports whether f is the file that has this name now.
func (d *dir) is(name string, f *os.File) bool {
	there, err := d.Lstat(name)
	if err != nil {
		return false
	}
	fi, err := f.Stat()
	return err == nil && os.SameFile(there, fi)
}
