package filestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// lock opens Dir, made if create is set, and takes the lock that everything that
// changes it needs. It waits for the lock until ctx ends, and it polls: a call
// that the operating system blocks would outlive ctx. Goroutines of one Store
// queue up, so that only one of them polls.
func (s *Store) lock(ctx context.Context, create bool) (*dir, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.once.Do(func() { s.gate = make(chan struct{}, 1) })
	select {
	case s.gate <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	d, err := s.open(create)
	if err == nil {
		err = d.lock(ctx)
	}
	if err != nil {
		if d != nil {
			_ = d.Close()
		}
		<-s.gate
		return nil, err
	}
	return d, nil
}

func (d *dir) lock(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 16*time.Millisecond) {
		ok, err := d.tryLock()
		if err != nil {
			return fmt.Errorf("filestore: %w", err)
		}
		if ok {
			return nil
		}
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

func (d *dir) tryLock() (bool, error) {
	f, err := d.openFile(lockName, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return false, err
	}
	ok, err := tryLock(f)
	if err == nil && ok {
		if d.is(lockName, f) {
			d.locked = f
			return true, nil
		}
		_ = unlock(f) // somebody removed the file: it is no lock any more
	}
	return false, errors.Join(err, f.Close())
}

// unlock gives the lock back and closes d.
func (d *dir) unlock() {
	_ = unlock(d.locked)
	_ = d.locked.Close()
	_ = d.Close()
	<-d.store.gate
}

// pause waits for between half of the given time and all of it, so that those
// who wait for one thing do not keep meeting. It reports whether ctx has not
// ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
