package main

import (
	"fmt"
	"net/http"
	"sync"
)

// A rotating is a login whose refresh token is good for one use. One that comes
// again ends it, and with it all of its tokens (RFC 9700, section 4.14.2).
type rotating struct {
	mu       sync.Mutex // guards the rest
	current  string
	spent    map[string]bool
	requests int
	reuses   int
	ended    bool
}

// logIn makes the token endpoint one of a single login that rotates.
func (w *world) logIn() *rotating {
	l := &rotating{current: "refresh-0", spent: make(map[string]bool)}
	h := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { w.rotate(l, rw, req) })
	w.fault.Store(&h)
	return l
}

func (w *world) rotate(l *rotating, rw http.ResponseWriter, req *http.Request) {
	next, ok := l.spend(req.PostFormValue("refresh_token"))
	rw.Header().Set("Content-Type", "application/json")
	if !ok {
		w.revoke()
		rw.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(rw, `{"error":"invalid_grant"}`)
		return
	}
	if err := pause(req.Context(), tokenDelay); err != nil {
		return
	}
	life := w.lifetime.Load()
	_, _ = fmt.Fprintf(rw, `{"access_token":%q,"token_type":"Bearer","expires_in":%d,"refresh_token":%q}`, w.issue(seconds(life)), life, next)
}

// spend returns the successor of a refresh token, if it is good.
func (l *rotating) spend(token string) (next string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	switch {
	case l.ended:
		return "", false
	case token == l.current:
		l.spent[token] = true
		l.current = fmt.Sprintf("refresh-%d", len(l.spent))
		return l.current, true
	case l.spent[token]:
		l.reuses++
		l.ended = true
	}
	return "", false
}
