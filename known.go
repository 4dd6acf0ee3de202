package authtrip

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/authtrip/internal/backoff"
)

// This file is the memory of a UserInfoSource: of each user the last answer, and why
// there is no newer one; of the endpoint, why it has no answer for anybody.

// infoUser tells users apart without knowing who they are: it names a session, or an
// access token of which nobody can say to which session it belongs.
type infoUser struct {
	owner any    // whose session it is; nil for the token of a third-party source
	name  string // of the login in there, or the access token
}

// infoUserOf returns whose token snap is, and the place that its session has for user
// info: each of Sources has one, which goes when the session does. It is the only
// function here that looks behind a snapshot.
func infoUserOf(snap *snapshot) (infoUser, *atomic.Pointer[userInfoEntry]) {
	if snap.of == nil {
		return infoUser{name: snap.access()}, nil
	}
	user := infoUser{owner: snap.of, name: snap.login()}
	if user.name == "" {
		user.name = snap.access()
	}
	if snap.of.name == "" {
		return user, nil
	}
	return user, &snap.of.info
}

// userInfoEntry is what is known of one user. It never changes: another one takes its
// place.
type userInfoEntry struct {
	asker *userInfoMemory // whose entry it is
	user  infoUser

	subject string // whom the last good answer named; stays when info goes

	info  *UserInfo // nil if there is none, or none that may still be served
	snap  *snapshot // with which it was fetched
	since time.Time // with a monotonic reading
	ttl   time.Duration

	failed *setback // nil after a success
}

// good reports whether the answer counts without asking again.
func (e *userInfoEntry) good() bool {
	return e != nil && e.info != nil && !e.snap.refused.Load() && time.Since(e.since) < e.ttl
}

// A setback is a failure: its error until the next attempt is due, and then one attempt
// of whoever comes first. A nil setback holds nobody up.
type setback struct {
	*backoff.Setback
	trying atomic.Bool // somebody makes the next attempt
}

func newSetback(last *setback, err error) *setback {
	var before *backoff.Setback
	if last != nil {
		before = last.Setback
	}
	return &setback{Setback: backoff.After(before, err, func(attempts int) time.Duration {
		if e, ok := errors.AsType[*UserInfoError](err); ok {
			return max(pauseAfter(attempts), e.RetryAfter)
		}
		return pauseAfter(attempts)
	})}
}

func (s *setback) waiting() bool { return s != nil && s.Waiting() }

// begin reports whether the caller is the one who makes the next attempt. If so, it
// calls end when it has made it.
func (s *setback) begin() bool { return s == nil || s.trying.CompareAndSwap(false, true) }

func (s *setback) end() {
	if s != nil {
		s.trying.Store(false)
	}
}

// isOutage reports whether a failure is the endpoint's, and as such would be every
// user's: it is down, or had enough of us.
func isOutage(err error) bool {
	e, ok := errors.AsType[*UserInfoError](err)
	return ok && (e.StatusCode == 0 || e.StatusCode == http.StatusTooManyRequests || e.StatusCode >= 500)
}

// hasAnswered reports whether the endpoint has answered, whatever it said of the user.
func hasAnswered(err error) bool {
	if err == nil {
		return true
	}
	if _, ok := errors.AsType[*SubjectError](err); ok {
		return true
	}
	_, ok := errors.AsType[*UserInfoError](err)
	return ok && !isOutage(err)
}

const (
	// maxInfoUsers is how many entries a userInfoMemory has at most.
	maxInfoUsers = 10_000
	// infoUserIdle is after what time an unused one may go.
	infoUserIdle = time.Hour
)

// userInfoMemory is what a UserInfoSource knows. The zero value knows nothing.
//
// The entry of a user is in the session, or here. Here it is put into recent when it is
// used; now and then recent becomes older, and what was older and has not been used
// since is dropped.
type userInfoMemory struct {
	down atomic.Pointer[setback]   // of the endpoint; nil while it answers
	last atomic.Pointer[infoPlace] // of one user: where there is no other, no lock is taken

	mu            sync.RWMutex // guards what follows
	recent, older map[infoUser]*infoPlace
	rotated       time.Time
}

// infoPlace is where the entry of one user is kept.
type infoPlace struct {
	user  infoUser
	entry atomic.Pointer[userInfoEntry]
}

// known returns what is known of the user of snap, nil if nothing is.
func (m *userInfoMemory) known(snap *snapshot) *userInfoEntry {
	user, own := infoUserOf(snap)
	if own != nil {
		if e := own.Load(); e != nil && e.asker == m {
			if e.user != user {
				return nil // of an earlier login
			}
			return e
		}
	}
	return m.load(user)
}

// amend replaces what is known of the user of snap. change is given a
// copy, and may be called more than once.
func (m *userInfoMemory) amend(snap *snapshot, change func(*userInfoEntry)) {
	user, own := infoUserOf(snap)
	for {
		place := own
		// The session's place is for the UserInfoSource that asked first. Another one of
		// the same sessions has its own, or they would take each other's answers away.
		if own == nil || own.Load() != nil && own.Load().asker != m {
			place = &m.place(user).entry
		}
		old := place.Load()
		next := userInfoEntry{asker: m, user: user}
		if old != nil && old.asker == m && old.user == user {
			next = *old
		} else {
			next.user.name = strings.Clone(user.name) // or it keeps the token of which it is a part
		}
		change(&next)
		if place.CompareAndSwap(old, &next) {
			return
		}
	}
}

// load returns the entry of a user, nil if there is none.
func (m *userInfoMemory) load(user infoUser) *userInfoEntry {
	if p := m.last.Load(); p != nil && p.user == user {
		return p.entry.Load()
	}
	m.mu.RLock()
	p, known := m.recent[user], m.older[user] != nil
	m.mu.RUnlock()
	if p == nil && known {
		p = m.place(user)
	}
	if p == nil {
		return nil
	}
	return p.entry.Load()
}

// place returns the place of a user, and makes it if there is none.
func (m *userInfoMemory) place(user infoUser) *infoPlace {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.recent[user]
	if p == nil {
		if p = m.older[user]; p == nil {
			user.name = strings.Clone(user.name) // or it keeps the token of which it is a part
			p = &infoPlace{user: user}
		}
		if m.recent == nil || len(m.recent) >= maxInfoUsers/2 || time.Since(m.rotated) > infoUserIdle {
			m.older, m.recent, m.rotated = m.recent, make(map[infoUser]*infoPlace), time.Now()
		}
		m.recent[user] = p
	}
	m.last.Store(p)
	return p
}

// begin is called before the server is asked for the user of snap. It returns an error
// while the next attempt is not due, or another user makes the one by which the end of
// an outage is found out. Otherwise it returns the outage, if there is one; end is to be
// called on it when the attempt was made.
func (m *userInfoMemory) begin(snap *snapshot) (*setback, error) {
	down := m.down.Load()
	if !down.begin() {
		return nil, down.Err
	}
	// Only now: the attempt of another user may have failed since Load.
	if err := m.backedOff(snap); err != nil {
		down.end()
		return nil, err
	}
	return down, nil
}

// backedOff returns the last error while the next attempt is not due.
func (m *userInfoMemory) backedOff(snap *snapshot) error {
	if down := m.down.Load(); down.waiting() {
		return down.Err
	}
	if e := m.known(snap); e != nil && e.failed.waiting() {
		return e.failed.Err
	}
	return nil
}

// outage records that the endpoint has no answer for anybody. Many users can find out
// at the same moment: that is one failed attempt and not many, which waits as long as
// the server asked any of them to.
func (m *userInfoMemory) outage(last *setback, err error) {
	s := newSetback(last, err)
	for !m.down.CompareAndSwap(last, s) {
		if last = m.down.Load(); last != nil && !s.Again.After(last.Again) {
			return
		}
	}
}

// untold are events of flights, which nobody was told of yet.
type untold struct {
	mu     sync.Mutex // guards events
	events []Event
}

func (u *untold) add(e Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.events = append(u.events, e)
}

// take returns all, and leaves none.
func (u *untold) take() []Event {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.events
	u.events = nil
	return all
}
