package authtriptest

import (
	"testing"
	"time"

	"example.com/authtrip"
)

// CheckStore runs one check of TestStore by name.
func CheckStore(tb testing.TB, name string, s authtrip.Store) {
	for _, c := range storeChecks() {
		if c.name == name {
			c.run(tb, s)
		}
	}
}

// CheckCache runs one check of TestCache by name, in a bubble.
func CheckCache(tb testing.TB, name string, cache authtrip.Cache) {
	for _, c := range cacheChecks() {
		if c.name == name {
			c.run(tb, cacheSubject{cache, time.Sleep, true})
		}
	}
}

// CheckLeaser runs one check of TestLeaser by name.
func CheckLeaser(tb testing.TB, name string, s authtrip.Store) {
	for _, c := range leaserChecks() {
		if l, ok := s.(leaser); ok && c.name == name {
			c.run(tb, l)
		}
	}
}

// CheckWatcher runs one check of TestWatcher by name.
func CheckWatcher(tb testing.TB, name string, s authtrip.Store) {
	for _, c := range watcherChecks() {
		if w, ok := s.(watcher); ok && c.name == name {
			c.run(tb, w)
		}
	}
}
