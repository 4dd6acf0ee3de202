package authtrip

import (
	"crypto/rand"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
)

// settings is the configuration of a session, with its defaults: one for all sessions
// of a Sources. It is not changed once it is made.
type settings struct {
	refresher  Refresher
	repeatable bool // what the Refresher sends can be sent again at no loss
	said       bool // the Refresher says which it is
	store      Store
	shared     bool // the Store may outlive this process, or have other readers
	variant    string
	initial    *oauth2.Token
	early      time.Duration
	timeout    time.Duration // of a refresh
	grace      time.Duration
	mayFail    bool // AllowRefreshWithoutStore
	onEvent    func(Event)
	key        string // in the Store, where it is not the session's name
	owner      string // a random name of this process, in markers
	flights    *flight.Group[result]
	gate       *gate
	late       *sync.WaitGroup // requests whose rounds did not wait for them
	common     *common
}

// maxTimeout is the longest RefreshTimeout: other processes wait for as long.
const maxTimeout = 24 * time.Hour

func newSettings(s *Source, flights *flight.Group[result], late *sync.WaitGroup) (*settings, error) {
	if s.Refresher == nil {
		return nil, errors.New("authtrip: Source.Refresher is nil")
	}
	set := &settings{
		refresher: s.Refresher, store: s.Store, shared: s.Store != nil, variant: s.Variant,
		initial: s.Initial, key: s.Key, early: s.EarlyRefresh, timeout: s.RefreshTimeout, grace: s.GracePeriod,
		mayFail: s.AllowRefreshWithoutStore, onEvent: s.OnEvent, owner: rand.Text(),
		flights: flights, late: late, gate: new(gate), common: new(common),
	}
	if r, ok := s.Refresher.(Repeatable); ok {
		set.said, set.repeatable = true, r.Repeatable()
	}
	if set.timeout <= 0 {
		set.timeout = 10 * time.Second
	}
	set.timeout = min(set.timeout, maxTimeout)
	if set.grace == 0 {
		set.grace = 20 * time.Second
	}
	if set.initial != nil && set.initial.AccessToken == "" && set.initial.RefreshToken == "" {
		set.initial = nil
	}
	return set, nil
}

// span is longer than a refresh and the saving of what it brings. A marker that has
// not changed for a span is that of a process that is no more; a lease lasts as long.
func (set *settings) span() time.Duration { return set.timeout + 2*saveTimeout }

// flightTimeout is for waiting a span for another process, and for a refresh then.
func (set *settings) flightTimeout() time.Duration { return set.span() + set.timeout + 2*saveTimeout }

// comesBack reports whether the configuration could bring a session back that has been
// logged out: its tombstone has to stay.
func (set *settings) comesBack() bool { return set.initial != nil || set.repeatable }

func (set *settings) emit(e Event) {
	if set.onEvent != nil {
		set.onEvent(e)
	}
}

// A common is what the records of many sessions share.
type common struct {
	terms   atomic.Pointer[terms] // of the last record
	nothing rare                  // of all that have nothing rare
}

// share makes rec, which is the caller's own, share what is the same for most of them.
func (c *common) share(rec *record) {
	if reflect.ValueOf(rec.rare).Elem().IsZero() {
		rec.rare = &c.nothing
	}
	if last := c.terms.Load(); last != nil && *last == *rec.terms {
		rec.terms = last
	} else {
		c.terms.Store(rec.terms)
	}
}
