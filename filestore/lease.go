package filestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Lease implements [authtrip.Leaser]. The lease of a process that dies, however it
// dies, ends at once: it is a lock on a file, which the operating system releases.
// The lease of a process that is alive but stopped ends after ttl, by the clock of
// the host. Whoever waits notices the end of a lease within a tenth of a second.
func (s *Store) Lease(ctx context.Context, key string, ttl time.Duration) (release func(context.Context) error, err error) {
	name := leaseName(key)
	for wait := 4 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		f, err := s.tryLease(ctx, name, ttl)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return s.held(ctx, f, name, ttl), nil
		}
		if !pause(ctx, wait) {
			return nil, context.Cause(ctx)
		}
	}
}

// tryLease returns the locked file that is the lease, or nil if somebody else
// has it. Lease files are made, judged and removed only under the lock of the
// directory, so that no two processes take different files for the lease.
func (s *Store) tryLease(ctx context.Context, name string, ttl time.Duration) (*os.File, error) {
	d, err := s.lock(ctx, true)
	if err != nil {
		return nil, err
	}
	defer d.unlock()
	f, err := d.takeLease(name)
	if f == nil || err != nil {
		return nil, err
	}
	if err := writeEnd(f, time.Now().Add(ttl)); err != nil {
		giveBack(f)
		return nil, fmt.Errorf("filestore: %w", err)
	}
	return f, nil
}

func (d *dir) takeLease(name string) (*os.File, error) {
	f, ok, err := d.openLocked(name)
	if err == nil && !ok && ended(f) {
		// Its holder is stopped, or its clock is: it keeps a file that has no
		// name any more.
		_ = f.Close()
		if err = d.Remove(name); err == nil {
			f, ok, err = d.openLocked(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	if !ok {
		_ = f.Close()
		return nil, nil
	}
	return f, nil
}

// openLocked opens a file, made if it is missing, and reports whether it could
// be locked.
func (d *dir) openLocked(name string) (f *os.File, ok bool, err error) {
	f, err = d.openFile(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, false, err
	}
	ok, err = tryLock(f)
	if err != nil {
		_ = f.Close()
		return nil, false, err
	}
	return f, ok, nil
}

// writeEnd writes to a lease's file when the lease ends.
func writeEnd(f *os.File, end time.Time) error {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(end.UTC().Format(time.RFC3339Nano)+"\n"), 0)
	}
	return err
}

// ended reports whether the lease of a file has ended by its ttl.
func ended(f *os.File) bool {
	b, err := readAll(f)
	if err != nil {
		return false
	}
	end, err := time.Parse(time.RFC3339Nano+"\n", string(b))
	return err == nil && time.Now().After(end)
}

// held returns the release of a lease, and calls it after ttl.
func (s *Store) held(ctx context.Context, f *os.File, name string, ttl time.Duration) func(context.Context) error {
	var mu sync.Mutex // guards f
	take := func() *os.File {
		mu.Lock()
		defer mu.Unlock()
		mine := f
		f = nil
		return mine
	}
	release := func(ctx context.Context) {
		if mine := take(); mine != nil {
			s.removeLease(ctx, mine, name)
			giveBack(mine)
		}
	}
	timer := time.AfterFunc(ttl, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		release(late)
	})
	return func(ctx context.Context) error {
		timer.Stop()
		release(ctx)
		return nil
	}
}

// removeLease removes the file of a lease, if it still is one. If it cannot, the
// file stays: without its lock it is no lease, and the next one uses it again.
func (s *Store) removeLease(ctx context.Context, f *os.File, name string) {
	d, err := s.lock(ctx, false)
	if err != nil {
		return
	}
	defer d.unlock()
	if d.is(name, f) {
		_ = d.removeIfThere(name)
	}
}

// giveBack unlocks and closes a file.
func giveBack(f *os.File) {
	_ = errors.Join(unlock(f), f.Close())
}
