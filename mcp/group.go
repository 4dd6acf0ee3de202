package mcp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"example.com/authtrip"
)

// group lets those who want the same login wait for one. It ends when all have left.
type group struct {
	mu     sync.Mutex
	all    map[string]*pending
	closed bool
}

type pending struct {
	done    chan struct{}
	err     error
	waiting int // guarded by group.mu
	cancel  context.CancelCauseFunc
}

// loginTimeout ends a login that hangs.
const loginTimeout = 15 * time.Minute

var errNoResult = errors.New("mcp: login: its goroutine ended without a result (runtime.Goexit)")

func (g *group) do(ctx context.Context, key string, fn func(context.Context) error) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return authtrip.ErrClosed
	}
	p := g.all[key]
	if p == nil {
		if g.all == nil {
			g.all = make(map[string]*pending)
		}
		own, stop := context.WithTimeout(context.WithoutCancel(ctx), loginTimeout)
		own, cancel := context.WithCancelCause(own)
		p = &pending{done: make(chan struct{}), cancel: cancel}
		g.all[key] = p
		go func() {
			defer func() {
				if v := recover(); v != nil {
					p.err = fmt.Errorf("mcp: login: panic of type %T", v)
				}
				cancel(nil)
				stop()
				g.mu.Lock()
				if g.all[key] == p {
					delete(g.all, key)
				}
				g.mu.Unlock()
				close(p.done)
			}()
			p.err = errNoResult
			p.err = fn(own)
		}()
	}
	p.waiting++
	g.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if p.waiting--; p.waiting == 0 {
			p.cancel(nil)
			if g.all[key] == p {
				delete(g.all, key) // whoever comes next begins anew
			}
		}
		return context.Cause(ctx)
	}
}

// close ends the logins that are under way. It does not wait for their end.
func (g *group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, p := range g.all {
		p.cancel(authtrip.ErrClosed)
	}
}
