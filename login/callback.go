package login

import (
	"sync"
	"time"
)

// An attempt is one login at its callback, for all requests that a browser sends for
// it: a reload or a double click ends the first request and waits for its result.
type attempt struct {
	done    chan struct{} // closed when the three below are set
	client  *Client
	session *Session
	err     error

	taken bool // by a request that can be answered; guarded by attempts.mu
}

// attempts are the logins that are being redeemed in this process.
type attempts struct {
	mu  sync.Mutex
	all map[string]*attempt
}

// undelivered is how long the result of a login is kept whose browser went away.
const undelivered = 30 * time.Second

// join returns the attempt under key. It is the caller's own if there was none.
func (a *attempts) join(key string) (at *attempt, own bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at = a.all[key]; at != nil {
		return at, false
	}
	if a.all == nil {
		a.all = make(map[string]*attempt)
	}
	at = &attempt{done: make(chan struct{})}
	a.all[key] = at
	return at, true
}

// finish hands out the result to those who wait. If the browser is gone, it is kept
// for its next request; if none comes in time, lost gets the session.
func (a *attempts) finish(key string, at *attempt, s *Session, err error, gone bool, lost func(*Session)) {
	at.session, at.err = s, err
	close(at.done)
	if err != nil || !gone {
		a.forget(key)
		return
	}
	time.AfterFunc(undelivered, func() {
		a.mu.Lock()
		taken := at.taken
		a.mu.Unlock()
		a.forget(key)
		if !taken {
			lost(s)
		}
	})
}

// take says that somebody answers the browser with the result.
func (a *attempts) take(at *attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at.taken = true
}

func (a *attempts) forget(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, key)
}
