package authtrip

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/patrickmn/go-cache"

	"example.com/authtrip/internal/digest"
)

var (
	// ErrNotFound is returned by a [Store] and a [Cache] for a key that holds
	// nothing.
	ErrNotFound = errors.New("authtrip: not found")
	// ErrConflict is returned by a [Store] whose record has another version
	// than the caller loaded: another process has changed it.
	ErrConflict = errors.New("authtrip: record was changed by somebody else")
)

// A Store keeps the records of a [Source], one under each key, each with a
// version. The version keeps a slow writer from saving an old token over a new
// one.
//
// # Keys, values, versions
//
// A key is any string, the empty one too, of any length. It may name a user: a
// store that others can read hashes it, and no error of the store contains it.
//
// A value is any string of bytes, some kilobytes long, and is loaded as it was
// saved. The caller may change the slices that it has passed or received: a
// store copies them. No error contains a value.
//
// A version is an opaque string that the store chooses at each save. It is never
// "", which stands for no record. It never comes back under the same key: not
// for an equal value, not after the record was deleted, lost or restored from a
// backup. A random text is the simplest one; a counter in the row is not enough,
// as it starts again with the row.
//
// # Consistency
//
// Methods are safe for concurrent use, by several processes if they share the
// store. Comparing the version and changing the record is one atomic step. Load
// sees every Save that has returned: it reads no replica and no cache that may
// be behind.
//
// # Errors
//
// Methods honour ctx: when it ends they return, with an error that wraps its
// error or its cause. Any error other than ErrNotFound and ErrConflict means
// that the outcome is unknown: the change may or may not have been made. A store
// that retries inside a method recognizes its own first attempt, and does not
// report it as a conflict.
//
// # More than a Store
//
// [Leaser], [Expirer], [Watcher] and [KeysWatcher] are optional, and found by type
// assertion. The suites in package example.com/authtrip/authtriptest test all of these
// contracts.
type Store interface {
	// Load returns the value under key and its version, or ErrNotFound. With
	// another error it may return the version of a value that cannot be read. A
	// new login then replaces that value.
	Load(ctx context.Context, key string) (value []byte, version string, err error)
	// Save saves value under key if the record there has this version, and
	// returns the new version. If it has another one, or there is no record,
	// the error is ErrConflict. With the version "" it creates the record, and
	// the error is ErrConflict if there is one.
	Save(ctx context.Context, key string, value []byte, version string) (newVersion string, err error)
	// Delete deletes the record under key if it has this version. If it has
	// another one the error is ErrConflict. If there is none it is ErrNotFound.
	Delete(ctx context.Context, key string, version string) error
}

// A Leaser is a [Store] with leases: one process at a time refreshes the token under a
// key. A Store that several processes share should be one.
//
// A lease keeps two processes from sending one refresh token at once. It does not
// lock the record: everybody can load, save and delete it meanwhile. The holder
// loads the record again after it has the lease. Versions decide whose save
// counts, as a lease can expire while its holder is stopped.
type Leaser interface {
	// Lease blocks until nobody holds a lease on key, and takes it for ttl. If
	// ctx ends first, it returns the error of ctx, and has taken nothing. A lease
	// outlives ctx.
	//
	// The lease ends when release is called, or after ttl if its holder has
	// died. Measure ttl with a clock that all processes share. release releases
	// only this lease, even if it is called late, when somebody else has the next
	// one. It may be called more than once, with another ctx.
	//
	// An error that is [errors.ErrUnsupported] means that the store has no leases,
	// such as one that wraps a store without them.
	Lease(ctx context.Context, key string, ttl time.Duration) (release func(context.Context) error, err error)
}

// An Expirer is a [Store] that can drop a record by itself. A [Source] without Initial
// saves the tombstone of a logout for a day, so that a Store whose keys are random
// session names does not grow.
type Expirer interface {
	// SaveFor is Save for a record that is of no use once ttl is over. Until
	// then the store keeps it. After that the store may drop it at any time, and
	// should without being asked for that key. The key then has no record.
	// Watchers are not told, and the versions of a dropped record do not come
	// back either.
	//
	// A later Save keeps the record for good, and a later SaveFor for its own
	// ttl. A ttl of 0 or less is an error, and nothing is saved.
	//
	// An error that is [errors.ErrUnsupported] means that the store cannot do this,
	// such as one that wraps a store without it. Nothing is saved then.
	SaveFor(ctx context.Context, key string, value []byte, version string, ttl time.Duration) (newVersion string, err error)
}

// A KeysWatcher is a [Store] that can tell of changes to all of its records at
// once, for a process that has thousands of them in memory. It takes one
// connection, and no memory for each key.
type KeysWatcher interface {
	// WatchKeys returns a channel that gets the name of each key whose record
	// may have been saved or deleted, by anybody. The name of a key is what the
	// function name returns for it: the key itself, or its hash in a store that
	// hashes keys. The caller compares it with the names of its own keys, and
	// ignores all others.
	//
	// The value "" means that any record may have changed: messages may have
	// been lost, because a connection was down, or because the channel was not
	// read for a while. A slow reader delays no Save and takes no more memory.
	//
	// A name is sent after the change, so Load sees the change. A message can be lost
	// without a trace: do not depend on it. The channel is closed when ctx ends. name is
	// safe for concurrent use, and always returns the same for a key.
	//
	// An error that is [errors.ErrUnsupported] means that the store cannot tell.
	WatchKeys(ctx context.Context) (changed <-chan string, name func(key string) string, err error)
}

// A Cache keeps values for a while. It may lose any of them at any time.
//
// The caller may change the slices that it has passed or received: a cache copies
// them. A key may be any string. Methods are safe for concurrent use and honour
// ctx. An error other than ErrNotFound means that the outcome is unknown.
type Cache interface {
	// Get returns the value under key, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// Set saves value under key for ttl. A ttl of 0 or less removes what is
	// there.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Take returns the value under key and removes it, in one atomic step: if
	// many call it at once, one gets the value and the others get ErrNotFound.
	Take(ctx context.Context, key string) ([]byte, error)
}

// A MemoryCache is a [Cache] in this process's memory. The zero value is an
// empty cache, ready to use. It is safe for concurrent use, starts no goroutine,
// never blocks for long, and must not be copied.
type MemoryCache struct {
	// MaxEntries is the number of values kept. One more removes the oldest. If
	// 0 or less, it is 10,000. It must not be modified after first use.
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
	key = digest.Of(key)
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
	key = digest.Of(key)
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

// Close removes every value. The cache is empty then, and usable.
func (m *MemoryCache) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items, m.places = nil, nil
	m.order.Init()
	return nil
}
