package authtrip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/authtrip/internal/lifecycle"
)

// A shelf is the place of one record in a Store. Everything that is read or written
// of a session goes through it.
type shelf struct {
	store   Store
	key     string
	variant string
	// keeps says that a tombstone has to stay: a configuration could bring the
	// session back.
	keeps bool
}

// tombstoneLife is how long a logout is remembered where nothing else could bring the
// session back. Whoever holds a token looks at the Store twice in that time.
const tombstoneLife = 24 * time.Hour

// A reading is what a Store said.
type reading struct {
	said    lifecycle.Stored
	rec     *record // of HasRecord and Tombstone
	version string  // "" if there is nothing, or no telling
	err     error   // of Unreadable and NoAnswer
}

// load reads the record. It blocks as the Store does.
func (s shelf) load(ctx context.Context) reading {
	b, version, err := s.store.Load(ctx, s.key)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound):
		return reading{said: lifecycle.HasNothing}
	case version != "":
		return reading{said: lifecycle.Unreadable, version: version, err: fmt.Errorf("authtrip: Store.Load: %w", err)}
	default:
		return reading{said: lifecycle.NoAnswer, err: fmt.Errorf("authtrip: Store.Load: %w", err)}
	}
	rec, err := decodeRecord(b, s.variant)
	switch {
	case err != nil:
		return reading{said: lifecycle.Unreadable, version: version, err: err}
	case rec.LoggedOut:
		return reading{said: lifecycle.Tombstone, rec: rec, version: version}
	}
	return reading{said: lifecycle.HasRecord, rec: rec, version: version}
}

// save puts rec in place of the record of that version, and returns the new version.
// It blocks as the Store does.
func (s shelf) save(ctx context.Context, rec *record, version string) (string, error) {
	doc := rec.encode(s.variant)
	if e, ok := s.store.(Expirer); ok && rec.LoggedOut && !s.keeps {
		next, err := e.SaveFor(ctx, s.key, doc, version, tombstoneLife)
		if !errors.Is(err, errors.ErrUnsupported) {
			return next, err
		}
	}
	return s.store.Save(ctx, s.key, doc, version)
}

// lease waits for the lease of the record, for ttl. held is false where ctx ended
// before. A Store without leases gives one at once.
func (s shelf) lease(ctx context.Context, ttl time.Duration) (release func(), held bool, err error) {
	leaser, ok := s.store.(Leaser)
	if !ok {
		return func() {}, true, nil
	}
	give, err := leaser.Lease(ctx, s.key, ttl)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return func() {}, true, nil // a Store around one that has none
	case err != nil && ctx.Err() != nil:
		return func() {}, false, nil //nolint:nilerr // held says it
	case err != nil:
		return func() {}, false, fmt.Errorf("authtrip: Store.Lease: %w", err)
	}
	return func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
		defer cancel()
		_ = give(late) // it ends by itself too
	}, true, nil
}
