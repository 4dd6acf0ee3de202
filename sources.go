package authtrip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
)

// Sources hands out the access tokens of many sessions behind one [Transport]: each
// request carries the token of the key in its context.
//
//	users := &authtrip.Sources{Each: authtrip.Source{Refresher: grant, Store: store}}
//	client := &http.Client{Transport: &authtrip.Transport{Source: users}}
//	ctx = authtrip.WithKey(ctx, sessionID)
//
// A key names a session. If a user can be logged in twice, let it be the name of the
// session and not of the user: a logout ends what is under the key.
//
// A session is read from the Store when it is first needed, and dropped from memory when
// it is idle or there are too many. Sessions share nothing but the configuration and a
// map, so a slow one delays no other.
//
// Only Each or New is required. Sources is safe for concurrent use, must not be
// copied, and its fields must not be modified after first use. [Sources.Close] ends it.
type Sources struct {
	// Each is what all sessions have in common. Its Key and Initial must be empty: the
	// key is that of the context. If its Store is nil, sessions are kept in memory, and
	// stay there until Forget.
	Each Source
	// New, if set, returns the Source of a key in place of Each, for sessions that differ.
	// It returns a new one each time, and its Store must outlive it. It is called with no
	// lock held. It may be called twice for one key, and one of the results is used.
	// Sessions of one Refresher share what is known of its token endpoint.
	New func(key string) (*Source, error)
	// Key says whose token a request with this context carries; "" is an error. If nil,
	// it is the one of [WithKey].
	Key func(ctx context.Context) (string, error)
	// MaxSources is how many sessions are kept in memory. If 0 or less, it is 10,000.
	// Twice the number that is in use at a time is a good value.
	MaxSources int
	// IdleTime is how long an unused session is kept in memory at least; after twice
	// that time it is gone. If 0, it is ten minutes; negative means until there are too
	// many.
	IdleTime time.Duration

	mu sync.RWMutex // guards what follows
	// A session is put into recent when it is used. Now and then recent becomes before,
	// and what was there and has not been used since is dropped.
	recent, before map[string]*session
	timer          *time.Timer // rotates the two; nil while there is nothing
	closed         bool
	watched        []*watchIndex       // of each Watch
	set            *settings           // of Each; nil until it is needed
	gates          map[Refresher]*gate // of New

	flights flight.Group[result] // of all, by key
	late    sync.WaitGroup
}

type contextKey struct{}

// WithKey returns a context whose requests carry the token of the session under key, a
// name that the application chooses: a session's random name, a tenant, a user's number.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, contextKey{}, key)
}

// Source returns the Source of the session under key, for SetToken, Forget, Status and
// the like. It is cheap. The result need not be closed or kept. If it is kept, it can be
// used until the Sources are closed. If New fails, the methods of the result return its
// error.
func (s *Sources) Source(key string) *Source { return &Source{Key: key, among: s} }

// TokenContext returns the token of the key in ctx, as [Source.TokenContext] does.
func (s *Sources) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return snap.token(), nil
}

// Token returns an error, as there is no key without a context: use TokenContext. The
// method makes Sources an [oauth2.TokenSource], which a [Transport] needs.
func (s *Sources) Token() (*oauth2.Token, error) { return s.TokenContext(context.Background()) }

// Close stops the refreshes of every session in memory and blocks until those in flight are
// done, as [Source.Close] does. The sessions stay in the Store. After it TokenContext
// returns [ErrClosed], and so do the methods of what Source returned.
func (s *Sources) Close() error {
	s.mu.Lock()
	s.closed = true
	recent, before := s.recent, s.before
	s.recent, s.before = nil, nil
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.mu.Unlock()
	s.flights.Close()
	s.late.Wait()
	var all sync.WaitGroup
	for _, sessions := range []map[string]*session{recent, before} {
		for _, own := range sessions {
			all.Go(own.close)
		}
	}
	all.Wait()
	return nil
}

// String returns a text for logs that shows nothing of the sessions.
func (s *Sources) String() string { return "authtrip.Sources" }

// GoString implements [fmt.GoStringer] as String does.
func (s *Sources) GoString() string { return s.String() }

// snapshot implements tokens.
func (s *Sources) snapshot(ctx context.Context) (*snapshot, error) {
	key, err := s.key(ctx)
	if err != nil {
		return nil, err
	}
	own, err := s.session(key)
	if err != nil {
		return nil, err
	}
	return own.snapshot(ctx)
}

// rejected implements tokens. The session may have been dropped from memory while its
// request was on its way: it comes back, or the one in its place is told.
func (s *Sources) rejected(snap *snapshot) {
	snap.rejected()
	own, err := s.place(snap.of)
	if err != nil || own == snap.of {
		return
	}
	if own.cur.CompareAndSwap(nil, snap) {
		return
	}
	if cur := own.cur.Load(); cur != nil && cur != snap && cur.access() == snap.access() {
		own.reject(cur)
	}
}

func (s *Sources) accepted(snap *snapshot) { snap.judge(true) }

func (s *Sources) key(ctx context.Context) (string, error) {
	if s.Key != nil {
		return s.Key(ctx)
	}
	key, _ := ctx.Value(contextKey{}).(string)
	return key, nil
}

// session returns the session under key, and makes it where there is none in memory.
func (s *Sources) session(key string) (*session, error) {
	if key == "" { // it would be everybody's who has none
		return nil, errors.New("authtrip: the request's context has no key: use WithKey, or set Sources.Key")
	}
	s.mu.RLock()
	own, closed := s.recent[key], s.closed
	if own == nil {
		own = s.before[key]
		s.mu.RUnlock()
	} else {
		s.mu.RUnlock()
		return own, nil
	}
	if closed {
		return nil, ErrClosed
	}
	if own == nil {
		made, err := s.make(key)
		if err != nil {
			return nil, err
		}
		own = made
	}
	return s.place(own)
}

func (s *Sources) make(key string) (*session, error) {
	if s.New == nil {
		set, err := s.settings()
		if err != nil {
			return nil, err
		}
		return &session{set: set, name: key}, nil
	}
	src, err := s.New(key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("authtrip: Sources.New: %w", err)
	case src == nil || src.Store == nil:
		return nil, errors.New("authtrip: Sources.New must return a Source that has a Store: it is dropped when it is idle")
	case src.Key == "":
		return nil, errors.New("authtrip: Sources.New must return a Source that has a Key: it names the session in the Store")
	}
	set, err := newSettings(src, &s.flights, &s.late)
	if err != nil {
		return nil, err
	}
	set.gate = s.gate(src.Refresher)
	return &session{set: set, name: key}, nil
}

// gate returns the one of a Refresher.
func (s *Sources) gate(of Refresher) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !reflect.ValueOf(of).Comparable() {
		return new(gate)
	}
	if s.gates == nil {
		s.gates = make(map[Refresher]*gate)
	}
	if s.gates[of] == nil {
		s.gates[of] = new(gate)
	}
	return s.gates[of]
}

// dropGates drops those of which there is no session in memory. The mu is held.
func (s *Sources) dropGates() {
	if len(s.gates) == 0 {
		return
	}
	used := make(map[*gate]bool, len(s.gates))
	for _, sessions := range []map[string]*session{s.recent, s.before} {
		for _, own := range sessions {
			used[own.set.gate] = true
		}
	}
	maps.DeleteFunc(s.gates, func(_ Refresher, g *gate) bool { return !used[g] })
}

// settings returns those of Each.
func (s *Sources) settings() (*settings, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.set != nil:
		return s.set, nil
	case s.Each.Key != "":
		return nil, errors.New("authtrip: Sources.Each.Key is set: the key of each session is that of the context")
	case s.Each.Initial != nil:
		return nil, errors.New("authtrip: Sources.Each.Initial is set: it would be everybody's token")
	}
	set, err := newSettings(&s.Each, &s.flights, &s.late)
	if err != nil {
		return nil, err
	}
	if set.store == nil {
		set.store = &s.Each.private
	}
	s.set = set
	return set, nil
}

// place puts a session among the recent ones, and returns the one that is there: somebody
// may have been faster.
func (s *Sources) place(own *session) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if there := s.recent[own.name]; there != nil {
		return there, nil
	}
	if there := s.before[own.name]; there != nil {
		own = there
		delete(s.before, own.name)
	}
	limit := s.MaxSources
	if limit <= 0 {
		limit = 10_000
	}
	if len(s.recent) >= max(limit/2, 1) {
		s.rotate()
	}
	if s.recent == nil {
		s.recent = make(map[string]*session)
	}
	s.recent[own.name] = own
	for _, index := range s.watched {
		index.add(own.name)
	}
	s.arm()
	return own, nil
}

// rotate drops what has not been used since the last time, but for sessions of which the
// Store does not have all, and those in a round.
func (s *Sources) rotate() {
	dropped := s.before
	s.before, s.recent = s.recent, make(map[string]*session)
	doubts := false
	for name, own := range dropped {
		pinned, doubt := own.pinned()
		if pinned {
			s.recent[name] = own
		}
		doubts = doubts || doubt
	}
	if doubts && s.set != nil {
		// To who comes after them, their markers are another process's.
		next := *s.set
		next.owner = rand.Text()
		s.set = &next
	}
	for _, index := range s.watched {
		index.renew(s.recent, s.before)
	}
	s.dropGates()
}

// arm sees to it that there is a rotation in IdleTime.
func (s *Sources) arm() {
	idle := s.IdleTime
	if idle == 0 {
		idle = 10 * time.Minute
	}
	if s.timer != nil || idle < 0 {
		return
	}
	s.timer = time.AfterFunc(idle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.timer == nil {
			return
		}
		s.timer = nil
		s.rotate()
		if len(s.recent)+len(s.before) > 0 {
			s.arm()
		}
	})
}
