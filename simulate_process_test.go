package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// A process is one life of a replica: a Source, or Sources, and who uses it.
type process struct {
	w       *world
	name    string
	id      uint64
	variant string
	dead    chan struct{} // closed by a crash
	ctx     context.Context
	cancel  context.CancelFunc
	source  func(key string) *authtrip.Source
	close   func() error

	mu     sync.Mutex // guards thrown and doomed
	thrown map[uint64]uint64
	doomed int // how many operations are left; 0: no crash comes

	// The world's mu guards:
	has    map[string]bool     // refresh tokens that it was told
	floor  map[string]position // by key: what it must not go below
	last   map[string]position // by key: what it saved last
	busy   []time.Time         // when it sent lately
	got    string              // the last that its users got
	seen   string              // the last that it read
	nonces uint64              // that it was asked for
	proofs int                 // that it made
	gone   bool

	// Of its Store, by key: when it last saved what it was asked to, how often it failed since,
	// when it last could be read, and how often it could not, since.
	wrote  map[string]time.Time
	failed map[string]int
	read   map[string]time.Time
	unread map[string]int
	since  map[string]time.Time // when it got a refresh token

	closed bool // and not dead
}

// dice are those for the next of its operations of a kind.
func (p *process) dice(purpose uint64) dice {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.thrown[purpose]++
	return newDice(p.w.seed, purpose, p.id, p.thrown[purpose])
}

const (
	doomedNot = iota
	doomedBefore
	doomedAfter
)

// doom tells whether the process dies in this operation.
func (p *process) doom(d *dice) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doomed == 0 || p.w.faultsAreOff() {
		return doomedNot
	}
	if p.doomed--; p.doomed > 0 {
		return doomedNot
	}
	return oneOf(d, doomedBefore, doomedAfter)
}

// die is a crash, unless it has become calm meanwhile.
func (p *process) die(when string) bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.gone || p.w.faultsAreOff() {
		return p.gone
	}
	p.gone = true
	p.w.crashes++
	p.w.note(p, "dies %s", when)
	close(p.dead)
	p.cancel()
	return true
}

func (w *world) newProcess(slot, life int, d *dice) *process {
	p := &process{
		w: w, name: fmt.Sprintf("p%d.%d", slot+1, life), id: uint64(slot)<<32 | uint64(life), dead: make(chan struct{}),
		thrown: make(map[uint64]uint64), has: make(map[string]bool), since: make(map[string]time.Time),
		read: make(map[string]time.Time), unread: make(map[string]int),
		wrote: make(map[string]time.Time), failed: make(map[string]int),
		floor: make(map[string]position), last: make(map[string]position),
	}
	p.ctx, p.cancel = context.WithCancel(w.stop)
	if w.variant && slot%2 == 1 {
		p.variant = "v"
	}
	if w.dies && d.chance(600) {
		p.doomed = 1 + d.below(40)
	}
	grant := authtrip.RefreshToken(&oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: "https://as.example/token"}})
	grant.HTTPClient = &http.Client{Transport: networkOf{p}}
	if w.bound {
		grant.DPoP = w.binder(p)
	}
	if p.variant != "" {
		grant.Params = url.Values{"resource": {p.variant}}
	}
	if w.many {
		all := &authtrip.Sources{Each: authtrip.Source{
			Refresher: grant, Store: storeOf{p}, Variant: p.variant, GracePeriod: w.window, AllowRefreshWithoutStore: w.allow,
		}}
		p.source, p.close = all.Source, all.Close
	} else {
		src := &authtrip.Source{
			Refresher: grant, Store: storeOf{p}, Key: "alice", Variant: p.variant, GracePeriod: w.window, AllowRefreshWithoutStore: w.allow,
		}
		p.source, p.close = func(string) *authtrip.Source { return src }, src.Close
	}
	w.mu.Lock()
	if before := w.slots[slot]; before != nil {
		w.past = append(w.past, before)
	}
	w.slots[slot] = p
	w.note(p, "starts")
	w.mu.Unlock()
	return p
}

// slot lets one process follow another until it is calm. What users of the last one do
// goes on until the end.
func (w *world) slot(i int, p *process, d dice, rest *sync.WaitGroup) {
	for life := 2; ; life++ {
		own := p
		rest.Go(func() {
			own.live()
			<-w.end
			if err := own.close(); err != nil {
				own.locked(func() { w.breaks(own, "Close() = %v", err) })
			}
		})
		if !p.change(&d) {
			return
		}
		<-time.After(d.between(10*time.Millisecond, 10*time.Second))
		d = newDice(w.seed, forLife, uint64(i), uint64(life))
		p = w.newProcess(i, life, &d)
	}
}

// live lets users use the process until it dies, or the run ends.
func (p *process) live() {
	var all sync.WaitGroup
	for _, key := range p.w.keys() {
		for user := range 2 {
			all.Go(func() { p.use(key, uint64(user)) })
		}
		if p.w.watch {
			all.Go(func() { p.watch(key) })
		}
	}
	all.Wait()
}

func (p *process) watch(key string) {
	for p.ctx.Err() == nil {
		_ = p.source(key).Watch(p.ctx)
	}
}

// use is a user, who needs a token now and then.
func (p *process) use(key string, user uint64) {
	w := p.w
	for {
		d := p.dice(forCalls + user<<8 + uint64(len(key))<<16)
		if p.pass(p.ctx, d.between(200*time.Millisecond, 12*time.Second)) != nil {
			return
		}
		ctx, cancel := context.WithTimeout(p.ctx, d.between(500*time.Millisecond, 40*time.Second))
		tok, at := p.call(ctx, key)
		if w.bound && at != nil {
			p.knock(ctx, key)
		}
		if at != nil {
			w.mu.Lock()
			if !w.faultsAreOff() && d.chance(w.apiFaults) {
				at.rejected = d.chance(700) // or the API is mistaken
				w.note(p, "an API rejects %s", at.name)
			} else if w.accepts(at) {
				at = nil
			}
			w.mu.Unlock()
		}
		if at != nil {
			p.source(key).Invalidate(tok)
			p.call(ctx, key)
		}
		cancel()
	}
}

// call asks for a token, and holds it against the ledger.
func (p *process) call(ctx context.Context, key string) (*oauth2.Token, *accessToken) {
	p.w.mu.Lock()
	floor := p.floor[key]
	p.w.mu.Unlock()
	tok, err := p.source(key).TokenContext(ctx)
	if ctx.Err() != nil && err != nil {
		return nil, nil
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.gone {
		return nil, nil
	}
	return tok, p.w.checkToken(p, key, floor, tok, err)
}

// change is what an administrator does to a process. It reports whether there is to be
// another one.
func (p *process) change(d *dice) bool {
	w := p.w
	for {
		wait := d.between(3*time.Second, 90*time.Second)
		if time.Now().Add(wait).After(w.calm) {
			return p.pass(context.Background(), time.Until(w.calm)) != nil
		}
		if p.pass(context.Background(), wait) != nil {
			return true
		}
		key := oneOf(d, w.keys()...)
		over := false
		if !p.try(func() { over = p.administer(d, key) }) || over {
			return true
		}
	}
}

// try calls f, and leaves it where it is if the process dies. It reports whether that
// lives.
func (p *process) try(f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-p.dead:
		return false
	}
}

// administer reports whether the process is no more.
func (p *process) administer(d *dice, key string) (over bool) {
	w := p.w
	dies, closes := w.dies && d.chance(150), w.dies && d.chance(150)
	switch {
	case dies:
		return p.die("at some time")
	case closes:
		p.shut()
		return true
	case w.changes && d.chance(300), w.isLost(key) && d.chance(700):
		p.relogin(key, oneOf(d, key, "carol"))
	case w.changes && d.chance(150):
		p.forget(key)
	case d.chance(300):
		p.byHand(key)
	}
	return false
}

func (p *process) shut() {
	p.locked(func() { p.w.note(p, "closes") })
	p.cancel()
	_ = p.close()
	p.locked(func() {
		p.w.note(p, "has closed")
		p.gone, p.closed = true, true
	})
}

func (p *process) locked(f func()) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	f()
}

func (p *process) relogin(key, user string) {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	var tok *oauth2.Token
	p.locked(func() {
		rt, at := p.w.login(key, user)
		at.variant = p.variant
		tok = p.w.token(rt, at)
		p.w.logins++
		p.w.note(p, "%s logs in: %s", user, rt.name)
	})
	err := p.source(key).SetToken(ctx, tok)
	p.changed(key, "SetToken", err)
}

func (p *process) forget(key string) {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	p.locked(func() {
		p.w.logouts++
		p.w.note(p, "logs out")
	})
	_, err := p.source(key).Forget(ctx)
	p.changed(key, "Forget", err)
}

func (p *process) changed(key, what string, err error) {
	p.locked(func() {
		p.w.note(p, "%s: %v", what, err)
		last := p.last[key]
		if !last.isLogout() {
			last.generation = 0
		}
		if err == nil && p.floor[key].before(last) {
			p.floor[key] = last
		}
	})
}

func (p *process) byHand(key string) {
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	p.locked(func() { p.w.note(p, "refreshes by hand") })
	tok, err := p.source(key).Refresh(ctx)
	p.locked(func() {
		p.w.note(p, "Refresh: %v", err)
		if err == nil && !p.gone {
			p.w.checkToken(p, key, position{}, tok, nil)
		}
	})
	if errors.Is(err, authtrip.ErrClosed) {
		p.locked(func() { p.w.breaks(p, "Refresh says closed") })
	}
}
