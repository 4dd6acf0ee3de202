package authtrip_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"example.com/authtrip"
)

// A cell is what the Store of a world has under one key. The world's mu guards it.
type cell struct {
	w   *world
	key string

	now      version
	last     int       // number of versions
	before   []version // what a Store that fails over may come back with
	watchers []chan struct{}
	lease    *simLease
	// forgot is set while the Store has lost something of which nobody can know: its
	// record is that of a refresh token that was used up.
	forgot bool
	top    position  // of all that was ever there
	wiped  bool      // there was a time when nothing was there
	rolled bool      // it has lost something
	lost   time.Time // when it did so last
	back   time.Time // when what it had lost was put back
}

type version struct {
	value string // "" if there is nothing
	name  string
}

type simLease struct {
	p     *process
	ended chan struct{}
	timer *time.Timer
}

// What a record says, as the ledger reads it.
type recordFacts struct {
	Number  uint64 `json:"login_number"`
	Gen     uint64 `json:"generation"`
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Gone    bool   `json:"logged_out"`
	Marker  *struct {
		Owner string `json:"owner"`
		Doubt bool   `json:"outcome_unknown"`
	} `json:"refresh_marker"`
	owner    string
	Ended    *struct{} `json:"ended"`
	Variants map[string]struct {
		Access string `json:"access_token"`
	} `json:"variants"`
}

func (w *world) read(p *process, value string) recordFacts {
	f := factsOf(value)
	if f.Marker != nil && f.Marker.Owner != "" {
		if w.owners[f.Marker.Owner] == "" && p != nil {
			w.owners[f.Marker.Owner] = p.name
		}
		f.owner = w.owners[f.Marker.Owner]
	}
	return f
}

func factsOf(value string) (f recordFacts) {
	if value != "" {
		if err := json.Unmarshal([]byte(value), &f); err != nil {
			panic(err)
		}
	}
	return f
}

func (f recordFacts) String() string {
	switch {
	case f.Number == 0:
		return "nothing"
	case f.Gone:
		return fmt.Sprintf("%d: logged out", f.Number%1000)
	}
	s := fmt.Sprintf("%d.%d %s %s", f.Number%1000, f.Gen, f.Refresh, f.Access)
	if f.Marker != nil {
		who := "nobody"
		if f.Marker.Owner != "" {
			who = f.owner
		}
		s += ", marker of " + who
		if f.Marker.Doubt {
			s += " in doubt"
		}
	}
	if f.Ended != nil {
		s += ", ended"
	}
	return s
}

func (f recordFacts) position() position {
	if f.Gone {
		return position{f.Number, 1 << 62}
	}
	return position{f.Number, f.Gen}
}

// storeOf is the Store as one process has it.
type storeOf struct{ p *process }

// faultOf tells what happens to one operation.
const (
	faultNone = iota
	faultBefore
	faultAfter
	faultHang      // until the caller leaves; it is not done
	faultHangDone  // the same, and it is done at once
	faultHangLater // the same, and it is done when the caller has left
	faultSlow
)

func (s storeOf) fault(d *dice) int {
	w := s.p.w
	switch kind, down := w.outageOf(true); {
	case w.faultsAreOff():
		return faultNone
	case down && kind < 400:
		return faultBefore
	case down && kind < 700:
		return oneOf(d, faultHang, faultHang, faultHangDone, faultHangLater)
	case down && kind < 850:
		return oneOf(d, faultAfter, faultBefore)
	case down:
		return faultSlow
	case d.chance(w.storeFaults):
		return oneOf(d, faultBefore, faultAfter, faultHang, faultHangDone, faultHangLater, faultSlow, faultSlow)
	}
	return faultNone
}

var errDown = errors.New("the Store is down")

// do lets an operation happen as it pleases chance.
func (s storeOf) do(ctx context.Context, op, key string, act func() error) error {
	err := s.attempt(ctx, op, key, act)
	s.p.w.mu.Lock()
	defer s.p.w.mu.Unlock()
	switch {
	case err == nil && op == "save":
		s.p.wrote[key], s.p.failed[key] = time.Now(), 0
	case err == nil && op == "load":
		s.p.read[key], s.p.unread[key] = time.Now(), 0
	case err != nil && op == "load" && !errors.Is(err, authtrip.ErrNotFound):
		s.p.failed[key]++
		s.p.unread[key]++
	case err != nil && !errors.Is(err, authtrip.ErrNotFound) && !errors.Is(err, authtrip.ErrConflict):
		s.p.failed[key]++
	}
	return err
}

func (s storeOf) attempt(ctx context.Context, op, key string, act func() error) error {
	p := s.p
	d := p.dice(forStore + uint64(len(key))<<16)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	early := p.doom(&d)
	fault := s.fault(&d)
	p.w.count(p, fault, op)
	if fault >= faultHang {
		p.locked(func() { p.failed[key]++ }) // from now on, not only when it gives up
	}
	if err := p.pass(ctx, d.between(50*time.Microsecond, 3*time.Millisecond)); err != nil {
		return s.broken(err)
	}
	if early == doomedBefore && p.die("before "+op) {
		return p.stone()
	}
	switch fault {
	case faultBefore:
		return errDown
	case faultSlow:
		if err := p.pass(ctx, d.between(100*time.Millisecond, 4*time.Second)); err != nil {
			return s.broken(err)
		}
	case faultHang, faultHangLater:
		err := p.pass(ctx, time.Hour)
		if fault == faultHangLater && !errors.Is(err, errStone) {
			s.later(op, d.between(0, 500*time.Millisecond), act)
		}
		return s.broken(err)
	}
	p.w.mu.Lock()
	err := act()
	p.w.mu.Unlock()
	if early == doomedAfter && p.die("after "+op) {
		return p.stone()
	}
	if fault == faultHangDone {
		return s.broken(p.pass(ctx, time.Hour))
	}
	if broken := p.pass(ctx, d.between(50*time.Microsecond, 3*time.Millisecond)); broken != nil {
		return s.broken(broken)
	}
	if fault == faultAfter {
		return errDown
	}
	return err
}

// later does it when nobody waits for it any more.
func (s storeOf) later(op string, after time.Duration, act func() error) {
	time.AfterFunc(after, func() {
		s.p.w.mu.Lock()
		defer s.p.w.mu.Unlock()
		if op == "save" {
			s.p.w.note(s.p, "a save comes late")
			_ = act()
		}
	})
}

func (s storeOf) broken(err error) error {
	if errors.Is(err, errStone) {
		return s.p.stone()
	}
	return err
}

func (s storeOf) Load(ctx context.Context, key string) (value []byte, name string, err error) {
	err = s.do(ctx, "load", key, func() error {
		c := s.p.w.cells[key]
		if c.now.value == "" {
			return authtrip.ErrNotFound
		}
		value, name = []byte(c.now.value), c.now.name
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	w := s.p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.p.seen != key+string(value) {
		s.p.seen = key + string(value)
		f := w.read(nil, string(value))
		w.note(s.p, "reads %s %s", key, f)
		s.p.has[f.Refresh] = true
	}
	return value, name, nil
}

func (s storeOf) Save(ctx context.Context, key string, value []byte, was string) (name string, err error) {
	err = s.do(ctx, "save", key, func() error {
		c := s.p.w.cells[key]
		if c.now.name != was {
			s.p.w.note(s.p, "has a conflict")
			return authtrip.ErrConflict
		}
		name = c.save(s.p, string(value))
		return nil
	})
	if err != nil {
		return "", err
	}
	return name, nil
}

func (storeOf) Delete(context.Context, string, string) error {
	return errors.New("nothing is ever deleted")
}

// save puts value there, and tells everybody who watches.
func (c *cell) save(p *process, value string) string {
	f, old := c.w.read(p, value), factsOf(c.now.value)
	c.w.note(p, "saves %s %s", c.key, f)
	c.w.checkSave(p, c, f, old)
	c.before = append(c.before, c.now)
	c.last++
	if c.now.value == "" || old.position().before(c.top) {
		c.back = time.Now()
	}
	c.now = version{value, "v" + strconv.Itoa(c.last)}
	c.w.saved(p, c, f)
	c.tell()
	return c.now.name
}

func (c *cell) tell() {
	for _, ch := range c.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Watch implements authtrip.Watcher.
func (s storeOf) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	w := s.p.w
	if !w.watch {
		return nil, errors.ErrUnsupported
	}
	ch, told := make(chan struct{}, 1), make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cells[key].watchers = append(w.cells[key].watchers, ch)
	go func() {
		defer close(told)
		for {
			select {
			case <-ch:
			case <-ctx.Done():
				return
			}
			select {
			case told <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return told, nil
}

// abandon gives a lease back that was taken when nobody waited for it any more, as the
// contract wants it. That is a request like others, and may get lost.
func (s storeOf) abandon(ctx context.Context, c *cell, mine *simLease) {
	if mine == nil || ctx.Err() == nil {
		return
	}
	time.AfterFunc(time.Millisecond, func() {
		s.p.w.mu.Lock()
		defer s.p.w.mu.Unlock()
		if !s.p.gone && s.p.w.faultsAreOff() {
			c.endLease(mine)
		}
	})
}

// Lease implements authtrip.Leaser.
func (s storeOf) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	w, c := s.p.w, s.p.w.cells[key]
	if !w.leases {
		return nil, errors.ErrUnsupported
	}
	var mine *simLease
	for mine == nil {
		var held chan struct{}
		err := s.do(ctx, "lease", key, func() error {
			if c.lease != nil {
				held = c.lease.ended
				return nil
			}
			mine = &simLease{p: s.p, ended: make(chan struct{})}
			own := mine
			own.timer = time.AfterFunc(ttl, func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				c.endLease(own)
			})
			c.lease = own
			return nil
		})
		if err != nil {
			s.abandon(ctx, c, mine)
			return nil, err
		}
		if held == nil {
			break
		}
		select {
		case <-held:
		case <-s.p.dead:
			return nil, s.p.stone()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return func(ctx context.Context) error {
		return s.do(ctx, "release", key, func() error {
			c.endLease(mine)
			return nil
		})
	}, nil
}

func (c *cell) endLease(l *simLease) {
	if c.lease == l {
		l.timer.Stop()
		c.lease = nil
		close(l.ended)
	}
}

// losesRecords lets the Store lose its last writes, or everything.
func (w *world) losesRecords() {
	d := newDice(w.seed, forLosses)
	for {
		if wait := d.between(5*time.Second, 3*time.Minute); time.Now().Add(wait).Before(w.calm) {
			<-time.After(wait)
		} else {
			return
		}
		w.mu.Lock()
		c := w.cells[oneOf(&d, w.keys()...)]
		steps := oneOf(&d, 1, 1, 1, 2, 3, len(c.before))
		if steps = min(steps, len(c.before)); steps > 0 {
			back := c.before[len(c.before)-steps]
			if back.value != "" && d.chance(500) { // it says so
				c.last++
				back.name = "v" + strconv.Itoa(c.last)
			}
			c.before = c.before[:len(c.before)-steps]
			c.now = back
			w.losses++
			w.losses++
			f := w.read(nil, back.value)
			w.note(nil, "the Store loses its last %d writes of %s, and has %s", steps, c.key, f)
			c.rolled, c.lost = true, time.Now()
			w.wasLost(c, f)
			c.tell()
		}
		w.mu.Unlock()
	}
}
