package authtrip

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// A MemoryStore is a [Store] in this process's memory. It is also a [Leaser], an
// [Expirer], a [Watcher] and a [KeysWatcher]. The zero value is an empty store, ready to
// use. It is safe for concurrent use and must not be copied. Only Lease blocks. No
// goroutine runs between calls.
//
// It keeps a record until it is deleted: tokens are not evicted. A record of SaveFor is
// dropped after its ttl, a few of them at each later call.
type MemoryStore struct {
	mu      sync.Mutex // guards the fields below
	records map[string]memoryRecord
	peak    int    // the most records that the map has held
	last    uint64 // the last version given out
	expires expiring
	leases  map[string]chan struct{} // closed when the lease ends

	watchers map[string]map[chan struct{}]struct{}
	feeds    map[chan string]struct{} // of WatchKeys
}

type memoryRecord struct {
	value   string
	version uint64
	expiry  time.Time // zero: never
}

func (r memoryRecord) is(version string) bool {
	return strconv.FormatUint(r.version, 10) == version
}

func (r memoryRecord) expired(now time.Time) bool {
	return !r.expiry.IsZero() && !now.Before(r.expiry)
}

// String says nothing of the records: it is what a log gets.
func (m *MemoryStore) String() string { return "authtrip.MemoryStore" }

// GoString implements [fmt.GoStringer] as String does.
func (m *MemoryStore) GoString() string { return m.String() }

// Load implements [Store].
func (m *MemoryStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.find(key)
	if !ok {
		return nil, "", ErrNotFound
	}
	return []byte(r.value), strconv.FormatUint(r.version, 10), nil
}

// Save implements [Store].
func (m *MemoryStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	return m.save(ctx, key, value, version, 0)
}

// SaveFor implements [Expirer].
func (m *MemoryStore) SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	if ttl <= 0 {
		return "", fmt.Errorf("authtrip: MemoryStore.SaveFor: ttl is %v, want more than 0", ttl)
	}
	return m.save(ctx, key, value, version, ttl)
}

// save saves a record for ttl, or for good if that is 0.
func (m *MemoryStore) save(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.find(key)
	if ok != (version != "") || ok && !r.is(version) {
		return "", ErrConflict
	}
	if m.records == nil {
		m.records = make(map[string]memoryRecord)
	}
	m.last++
	r = memoryRecord{value: string(value), version: m.last}
	if ttl > 0 {
		r.expiry = time.Now().Add(ttl)
		m.expires.add(key, m.last)
	}
	m.records[key] = r
	m.peak = max(m.peak, len(m.records))
	m.tell(key)
	return strconv.FormatUint(m.last, 10), nil
}

// Delete implements [Store].
func (m *MemoryStore) Delete(ctx context.Context, key, version string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.find(key)
	switch {
	case !ok:
		return ErrNotFound
	case !r.is(version):
		return ErrConflict
	}
	m.drop(key)
	m.tell(key)
	return nil
}

// find returns the record under key, and sweeps.
func (m *MemoryStore) find(key string) (r memoryRecord, ok bool) {
	if len(m.expires.entries) == 0 {
		r, ok = m.records[key] // none expires
		return r, ok
	}
	now := time.Now()
	m.sweep(now)
	r, ok = m.records[key]
	if ok && r.expired(now) {
		m.drop(key)
		return memoryRecord{}, false
	}
	return r, ok
}

// drop removes a record, and gives memory back: a map does not shrink by itself.
func (m *MemoryStore) drop(key string) {
	const small = 1024
	delete(m.records, key)
	if m.peak < small || len(m.records) > m.peak/4 {
		return
	}
	// At least three times as many have been dropped as are copied.
	left := make(map[string]memoryRecord, len(m.records))
	for k, r := range m.records {
		left[k] = r
	}
	m.records, m.peak = left, len(left)
}

// sweep drops a few of the records that have expired.
//
// A call adds at most one entry and judges sweepShare, so that all entries are
// judged while a seventh of their number is added: the expired ones never pile up,
// whatever the ttls are and in whichever order they end.
func (m *MemoryStore) sweep(now time.Time) {
	const sweepShare = 8
	for range min(sweepShare, len(m.expires.entries)) {
		e := m.expires.next()
		r, ok := m.records[e.key]
		switch {
		case !ok || r.version != e.version: // deleted, or saved again
			m.expires.remove()
		case r.expired(now):
			m.drop(e.key)
			m.expires.remove()
		default:
			m.expires.hand++
		}
	}
}

// expiring is what SaveFor has saved, in no order, and a hand that goes around it.
type expiring struct {
	entries []expiringEntry
	hand    int
}

type expiringEntry struct {
	key     string
	version uint64
}

func (e *expiring) add(key string, version uint64) {
	e.entries = append(e.entries, expiringEntry{key, version})
}

// next returns the entry at the hand. There must be one.
func (e *expiring) next() expiringEntry {
	if e.hand >= len(e.entries) {
		e.hand = 0
	}
	return e.entries[e.hand]
}

// remove removes the entry that next has returned.
func (e *expiring) remove() {
	end := len(e.entries) - 1
	e.entries[e.hand] = e.entries[end]
	e.entries[end] = expiringEntry{}
	e.entries = e.entries[:end]
	if cap(e.entries) > 1024 && end < cap(e.entries)/4 {
		e.entries = append(make([]expiringEntry, 0, end), e.entries...)
	}
}

// Lease implements [Leaser].
func (m *MemoryStore) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ended := make(chan struct{})
	for held := m.hold(key, ended); held != nil; held = m.hold(key, ended) {
		select {
		case <-held:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	release := sync.OnceFunc(func() {
		m.mu.Lock()
		delete(m.leases, key)
		m.mu.Unlock()
		close(ended)
	})
	timer := time.AfterFunc(ttl, release)
	return func(context.Context) error {
		timer.Stop()
		release()
		return nil
	}, nil
}

// hold takes the lease that mine is to end, and returns nil; or it returns the
// one that is there.
func (m *MemoryStore) hold(key string, mine chan struct{}) (held chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if held = m.leases[key]; held != nil {
		return held
	}
	if m.leases == nil {
		m.leases = make(map[string]chan struct{})
	}
	m.leases[key] = mine
	return nil
}

// Watch implements [Watcher].
func (m *MemoryStore) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	changed := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers == nil {
		m.watchers = make(map[string]map[chan struct{}]struct{})
	}
	if m.watchers[key] == nil {
		m.watchers[key] = make(map[chan struct{}]struct{})
	}
	m.watchers[key][changed] = struct{}{}
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers[key], changed)
		if len(m.watchers[key]) == 0 {
			delete(m.watchers, key)
		}
		close(changed)
	})
	return changed, nil
}

// WatchKeys implements [KeysWatcher]. The name of a key is the key.
func (m *MemoryStore) WatchKeys(ctx context.Context) (<-chan string, func(key string) string, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	const room = 256
	changed := make(chan string, room)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.feeds == nil {
		m.feeds = make(map[chan string]struct{})
	}
	m.feeds[changed] = struct{}{}
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.feeds, changed)
		close(changed)
	})
	return changed, func(key string) string { return key }, nil
}

// tell tells those who watch key that it was changed.
func (m *MemoryStore) tell(key string) {
	for changed := range m.watchers[key] {
		select {
		case changed <- struct{}{}:
		default: // one is waiting to be read
		}
	}
	for changed := range m.feeds {
		select {
		case changed <- key:
		default:
			// "" stands for all that is not read, and for this one.
			for len(changed) > 0 {
				select {
				case <-changed:
				default:
				}
			}
			changed <- ""
		}
	}
}
