package authtrip

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/patrickmn/go-cache"
)

var (
	// ErrNotFound is returned by a [Store] and a [Cache] for a key that holds
	// nothing.
	ErrNotFound = errors.New("authtrip: not found")
	// ErrConflict is returned by a [Store] whose record has another version
	// than the caller read: somebody else was faster.
	ErrConflict = errors.New("authtrip: record was changed by somebody else")
)

// A Store keeps the records of a [Source], one under each key, each with a
// version. Versions are what keeps a slow writer from putting an old token over
// a new one.
//
// A value is opaque to the store, is never changed by it, and is the caller's
// to keep: a store copies what it is given and what it returns. A key may be
// any string; it may name a user, so a store that others can look into hashes
// it. A version is opaque to the caller, is never "" for a record that exists,
// and never comes back, not even after the record was deleted and made anew.
//
// Methods are safe for concurrent use, by other processes too if the store is
// shared between them. They honour ctx. Load sees every Save that has returned.
// Any error other than ErrNotFound and ErrConflict means that the store could
// not say, and that what was asked may or may not have been done.
//
// [example.com/authtrip/authtriptest.TestStore] tests all of that.
type Store interface {
	// Load returns the value under key and its version, or ErrNotFound. With
	// another error it may return the version of a value that cannot be read,
	// which a new login then replaces.
	Load(ctx context.Context, key string) (value []byte, version string, err error)
	// Save puts value under key if the version there is the given one, where ""
	// stands for no record, and returns the new version; else ErrConflict.
	Save(ctx context.Context, key string, value []byte, version string) (newVersion string, err error)
	// Delete removes the record under key if its version is the given one;
	// else ErrConflict, and ErrNotFound if there is none.
	Delete(ctx context.Context, key string, version string) error
}

// A Leaser is a [Store] that can also see to it that one process at a time
// refreshes the token under a key. It is found by type assertion; a Store that
// several processes share should be one.
//
// A lease keeps two processes from spending one refresh token at once. It does
// not guard the record: a holder reads the record again after it has the lease,
// and versions decide whose write counts, as a lease can end while its holder
// is stopped.
type Leaser interface {
	// Lease blocks until nobody holds key, or ctx ends, and takes it for ttl. It
	// ends by release, or after ttl if its holder has died. release gives back
	// this lease and no other one's, so that a late release does no harm; it may
	// be called with a ctx of its own, more than once. An error that is
	// [errors.ErrUnsupported] says that there are no leases, as of a Store around
	// one that has none.
	Lease(ctx context.Context, key string, ttl time.Duration) (release func(context.Context) error, err error)
}

// An Expirer is a [Store] that can drop a record by itself. It is found by type
// assertion.
type Expirer interface {
	// SaveFor is Save for a record that is of no use once ttl is over.
	SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (newVersion string, err error)
}

// A MemoryStore is a [Store] in this process's memory. The zero value is an
// empty store, ready to use. It is safe for concurrent use and must not be
// copied. Only Lease blocks.
//
// It keeps what it is given until it is deleted: tokens are not evicted.
type MemoryStore struct {
	mu      sync.Mutex // guards the fields below
	records map[string]memoryRecord
	last    uint64                   // the last version given out
	leases  map[string]chan struct{} // closed when the lease ends
}

type memoryRecord struct {
	value   string
	version uint64
}

func (r memoryRecord) is(version string) bool {
	return strconv.FormatUint(r.version, 10) == version
}

// Load implements [Store].
func (m *MemoryStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[key]
	if !ok {
		return nil, "", ErrNotFound
	}
	return []byte(r.value), strconv.FormatUint(r.version, 10), nil
}

// Save implements [Store].
func (m *MemoryStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[key]
	if ok != (version != "") || ok && !r.is(version) {
		return "", ErrConflict
	}
	if m.records == nil {
		m.records = make(map[string]memoryRecord)
	}
	m.last++
	m.records[key] = memoryRecord{value: string(value), version: m.last}
	return strconv.FormatUint(m.last, 10), nil
}

// Delete implements [Store].
func (m *MemoryStore) Delete(ctx context.Context, key, version string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[key]
	switch {
	case !ok:
		return ErrNotFound
	case !r.is(version):
		return ErrConflict
	}
	delete(m.records, key)
	return nil
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

// hashed makes a key of parts, of which nothing can be read back: a cache or a
// record may be looked into by others. Each part is followed by its length, so
// that ("ab", "c") and ("a", "bc") differ.
func hashed(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write(strconv.AppendInt([]byte{0}, int64(len(p)), 10))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// A Cache keeps values for a while. It may lose any of them at any time.
//
// Values are the caller's to keep: a cache copies what it is given and what it
// returns. A key may be any string. Methods are safe for concurrent use and
// honour ctx; an error other than ErrNotFound means that the cache could not
// say.
type Cache interface {
	// Get returns the value under key, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// Set puts value under key until ttl has passed; a ttl of 0 or less
	// removes what is there.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Take returns the value under key and removes it, in one step: of many
	// callers at once, one gets it and the others get ErrNotFound.
	Take(ctx context.Context, key string) ([]byte, error)
}

// A MemoryCache is a [Cache] in this process's memory. The zero value is an
// empty cache, ready to use. It is safe for concurrent use, starts no goroutine,
// never blocks for long, and must not be copied.
type MemoryCache struct {
	// MaxEntries is the number of values kept; beyond it the oldest goes. If 0
	// or less, it is 10,000. It must not be modified after first use.
	MaxEntries int

	mu     sync.Mutex // guards the fields below
	items  *cache.Cache
	order  list.List                // of the keys, in the order in which they were set
	places map[string]*list.Element // in order
}

// Get implements [Cache].
func (m *MemoryCache) Get(ctx context.Context, key string) ([]byte, error) {
	return m.get(ctx, key, false)
}

// Take implements [Cache].
func (m *MemoryCache) Take(ctx context.Context, key string) ([]byte, error) {
	return m.get(ctx, key, true)
}

func (m *MemoryCache) get(ctx context.Context, key string, remove bool) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	key = hashed(key)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.items == nil {
		return nil, ErrNotFound
	}
	v, ok := m.items.Get(key)
	if !ok {
		return nil, ErrNotFound
	}
	if remove {
		m.drop(key)
	}
	value, _ := v.(string)
	return []byte(value), nil
}

// Set implements [Cache].
func (m *MemoryCache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	key = hashed(key)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.items == nil {
		// No clean-up interval: it would start a goroutine that outlives the
		// cache. What has expired goes when its turn comes.
		m.items = cache.New(cache.NoExpiration, 0)
		m.places = make(map[string]*list.Element)
	}
	m.drop(key)
	if ttl <= 0 {
		return nil
	}
	limit := m.MaxEntries
	if limit <= 0 {
		limit = 10_000
	}
	for m.order.Len() >= limit {
		oldest, _ := m.order.Front().Value.(string)
		m.drop(oldest)
	}
	m.items.Set(key, string(value), ttl)
	m.places[key] = m.order.PushBack(key)
	return nil
}

// drop removes what is under a key, expired or not.
func (m *MemoryCache) drop(key string) {
	if place := m.places[key]; place != nil {
		m.items.Delete(key)
		m.order.Remove(place)
		delete(m.places, key)
	}
}

// Close drops every value. The cache is empty then, and usable.
func (m *MemoryCache) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items, m.places = nil, nil
	m.order.Init()
	return nil
}
