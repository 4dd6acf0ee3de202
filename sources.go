package authtrip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
)

// Sources are the living tokens of many subjects behind one [Transport]: each
// request carries the token of the subject in its context.
//
//	client := &http.Client{Transport: &authtrip.Transport{Source: &authtrip.Sources{
//		New: func(subject string) (*authtrip.Source, error) {
//			return &authtrip.Source{Refresher: grant, Store: store, Key: subject}, nil
//		},
//	}}}
//	ctx = authtrip.WithSubject(ctx, userID)
//
// A subject's [Source] is made when it is first needed, and dropped when it is
// idle or there are too many; what it knows is in its Store. Nothing is shared
// between subjects but a map, so that a slow one delays no other.
//
// Only New is required. Sources is safe for concurrent use, must not be copied,
// and its fields must not be modified after first use. [Sources.Close] ends it; one
// that is only dropped goes when its subjects have become idle.
type Sources struct {
	// New makes the Source of a subject; required. It returns a new one each time,
	// whose Store outlives it and whose Key is the subject's own. It is called with
	// no lock held, and may be called twice for one subject, of which one result is
	// used.
	New func(subject string) (*Source, error)
	// Subject says whose token a request with this context carries. If nil, it is
	// the one of [WithSubject].
	Subject func(ctx context.Context) (string, error)
	// MaxSources is how many are kept in memory. If 0 or less, it is 10,000. Twice
	// the number that is in use at a time is a good value.
	MaxSources int
	// IdleTime is how long an unused one is kept at least; after twice that time it
	// is gone. If 0, it is ten minutes; negative means until there are too many.
	IdleTime time.Duration

	mu sync.RWMutex // guards what follows
	// A subject is put into young when it is used. Now and then young becomes old,
	// and what was old and has not been used since is dropped.
	young, old map[string]*Source
	timer      *time.Timer // makes young old; nil while there is nothing
	closed     bool

	flights flight.Group[*snapshot] // of all, by subject
}

type subjectKey struct{}

// WithSubject returns a context whose requests carry the token of subject, a name
// that the application chooses: an issuer and a sub, a user's number, a tenant.
func WithSubject(ctx context.Context, subject string) context.Context {
	return context.WithValue(ctx, subjectKey{}, subject)
}

// Source returns the Source of a subject, and makes it where there is none: to set
// a token after a login, or to forget it.
func (s *Sources) Source(subject string) (*Source, error) {
	s.mu.RLock()
	src := s.young[subject]
	s.mu.RUnlock()
	if src != nil {
		return src, nil
	}
	return s.admit(subject)
}

// TokenContext returns the token of the subject in ctx, as [Source.TokenContext]
// does.
func (s *Sources) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return snap.token, nil
}

// Token returns an error, as there is no subject without a context. It makes
// Sources an [oauth2.TokenSource], which is what a Transport takes.
func (s *Sources) Token() (*oauth2.Token, error) { return s.TokenContext(context.Background()) }

// Close ends every Source in memory and blocks until their refreshes in flight
// are done. After it there are only errors.
func (s *Sources) Close() error {
	s.mu.Lock()
	s.closed = true
	s.young, s.old = nil, nil
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.mu.Unlock()
	s.flights.Close()
	return nil
}

func (s *Sources) snapshot(ctx context.Context) (*snapshot, error) {
	subject, err := s.subject(ctx)
	if err != nil {
		return nil, err
	}
	src, err := s.Source(subject)
	if err != nil {
		return nil, err
	}
	return src.snapshot(ctx)
}

func (s *Sources) subject(ctx context.Context) (string, error) {
	if s.Subject != nil {
		return s.Subject(ctx)
	}
	subject, _ := ctx.Value(subjectKey{}).(string)
	if subject == "" {
		return "", errors.New("authtrip: the request's context names no subject: use WithSubject, or set Sources.Subject")
	}
	return subject, nil
}

// admit puts a subject's Source among the young.
func (s *Sources) admit(subject string) (*Source, error) {
	s.mu.RLock()
	src, closed := s.old[subject], s.closed
	s.mu.RUnlock()
	if closed {
		return nil, ErrClosed
	}
	if src == nil {
		if s.New == nil {
			return nil, errors.New("authtrip: Sources.New is nil")
		}
		made, err := s.New(subject)
		if err != nil {
			return nil, fmt.Errorf("authtrip: Sources.New: %w", err)
		}
		if made == nil || made.Store == nil {
			return nil, errors.New("authtrip: Sources.New must return a Source that has a Store: it is dropped when it is idle")
		}
		src = made
		src.shared, src.subject = &s.flights, subject
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.place(subject, src)
}

// place is the locked half of admit; somebody may have been faster.
func (s *Sources) place(subject string, src *Source) (*Source, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if there := s.young[subject]; there != nil {
		return there, nil
	}
	if there := s.old[subject]; there != nil {
		src = there
		delete(s.old, subject)
	}
	limit := s.MaxSources
	if limit <= 0 {
		limit = 10_000
	}
	if len(s.young) >= max(limit/2, 1) {
		s.turn()
	}
	if s.young == nil {
		s.young = make(map[string]*Source)
	}
	s.young[subject] = src
	s.arm()
	return src, nil
}

// turn makes the young old and drops the old, but for those that hold a token
// which their Store did not take.
func (s *Sources) turn() {
	dropped := s.old
	s.old, s.young = s.young, make(map[string]*Source)
	for subject, src := range dropped {
		if src.pinned.Load() || src.renewing.Load() {
			s.young[subject] = src
		}
	}
}

// arm sees to it that there is a turn in IdleTime.
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
		s.turn()
		if len(s.young)+len(s.old) > 0 {
			s.arm()
		}
	})
}
