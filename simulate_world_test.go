package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"example.com/authtrip"
)

// pause is within what all have a usable token again once the faults have ended: a span,
// which a marker binds others, and the longest back-off.
const (
	span  = 15 * time.Second
	pause = span + 30*time.Second
)

// A plan is what a seed makes of the world.
type plan struct {
	replicas       int
	many           bool // each process has Sources with two keys
	leases, watch  bool
	grace          time.Duration // the server's
	second         bool          // whose grace gives another successor
	reusable       bool          // it does not rotate
	window         time.Duration // Source.GracePeriod
	allow, variant bool
	lifetime       time.Duration
	faulty         time.Duration // how long the faults last

	storeFaults, netFaults, apiFaults int // of a thousand operations
	loses, dies, changes              bool
	outages                           []outage

	bound     bool          // sessions are bound to keys
	nonceLife time.Duration // of the nonces that proofs must have; 0: they need none
	turning   int           // of a thousand requests: those before which a nonce changes
}

// An outage is a time in which a part of the world has one fault.
type outage struct {
	store      bool
	from, till time.Duration
	kind       int
}

func newPlan(seed uint64) plan {
	d := newDice(seed, forPlan)
	p := plan{
		replicas: 2 + d.below(3), many: d.chance(200), leases: d.chance(600), watch: d.chance(600),
		lifetime: d.between(20*time.Second, 4*time.Minute), faulty: d.between(time.Minute, 8*time.Minute),
		variant: d.chance(200), allow: d.chance(150),
		loses: d.chance(300), dies: d.chance(500), changes: d.chance(400),
	}
	switch d.below(5) {
	case 0, 1:
		p.window = oneOf(&d, 0, 0, -1, 30*time.Second)
	case 2:
		p.grace = oneOf(&d, 30*time.Second, 60*time.Second)
	case 3:
		p.grace, p.second = oneOf(&d, 30*time.Second, 60*time.Second), true
	case 4:
		p.reusable, p.window = true, oneOf(&d, 0, authtrip.GraceForever)
	}
	if d.chance(600) {
		p.storeFaults = oneOf(&d, 10, 50, 150)
	}
	if d.chance(600) {
		p.netFaults = oneOf(&d, 50, 200, 500)
	}
	if d.chance(500) {
		p.apiFaults = oneOf(&d, 10, 50)
	}
	if p.allow && d.chance(500) {
		p.replicas = 1
	}
	o := newDice(seed, forOutages)
	for range o.below(4) {
		from := o.between(0, p.faulty)
		p.outages = append(p.outages, outage{
			store: o.chance(500), from: from, till: min(from+o.between(time.Second, 90*time.Second), p.faulty), kind: o.below(1000),
		})
	}
	if b := newDice(seed, forBinding); b.chance(400) {
		p.bound = true
		p.nonceLife = oneOf(&b, 0, 5*time.Second, 30*time.Second, 5*time.Minute)
		p.turning = oneOf(&b, 0, 20, 200, 500)
	}
	return p
}

func (p plan) String() string {
	type plain plan // without this method
	return fmt.Sprintf("%+v", plain(p))
}

// A world is one run.
type world struct {
	plan
	tally
	seed  uint64
	began time.Time
	calm  time.Time     // from then on there are no faults
	end   chan struct{} // closed when the run is over: stone comes to life
	stop  context.Context

	mu       sync.Mutex // guards everything below, and what it leads to
	story    []line
	broken   []string
	cells    map[string]*cell
	families []*family
	refresh  map[string]*refreshToken
	access   map[string]*accessToken
	slots    []*process        // who is alive
	past     []*process        // who was
	owners   map[string]string // of markers
	proofs   map[string]bool   // their jti
	turns    map[string]int    // of nonces, by role
}

type line struct {
	at     time.Duration
	who    string
	format string
	args   []any
}

// note writes a line of the story. The world's mu is held.
func (w *world) note(p *process, format string, args ...any) {
	who := "world"
	if p != nil {
		who = p.name
	}
	w.story = append(w.story, line{time.Since(w.began), who, format, args})
}

// breaks notes that an invariant does not hold. The world's mu is held.
func (w *world) breaks(p *process, format string, args ...any) {
	w.note(p, "BROKEN: "+format, args...)
	w.broken = append(w.broken, fmt.Sprintf("%v: ", time.Since(w.began))+fmt.Sprintf(format, args...))
}

func (w *world) tell() string {
	var b strings.Builder
	for i, l := range w.story {
		fmt.Fprintf(&b, "%4d %12.6f %-6s %s\n", i+1, l.at.Seconds(), l.who, fmt.Sprintf(l.format, l.args...))
	}
	return b.String()
}

// simulate lives through one run, in a bubble.
func simulate(seed uint64) *world {
	<-time.After(time.Duration(seed*7919%1e9 + 1)) // timeDice see another time in every run
	w := &world{
		plan: newPlan(seed), seed: seed, began: time.Now(), end: make(chan struct{}),
		cells: make(map[string]*cell), refresh: make(map[string]*refreshToken), access: make(map[string]*accessToken),
		owners: make(map[string]string), proofs: make(map[string]bool), turns: make(map[string]int),
	}
	w.calm = w.began.Add(w.faulty)
	var cancel context.CancelFunc
	w.stop, cancel = context.WithCancel(context.Background())
	w.slots = make([]*process, w.replicas)
	var slots, callers sync.WaitGroup
	for _, key := range w.keys() {
		w.cells[key] = &cell{w: w, key: key}
		w.firstLogin(key)
	}
	for i := range w.slots {
		d := newDice(w.seed, forLife, uint64(i), 1)
		p := w.newProcess(i, 1, &d)
		slots.Go(func() { w.slot(i, p, d, &callers) })
	}
	if w.loses {
		slots.Go(w.losesRecords)
	}
	slots.Wait() // until it is calm
	<-time.After(time.Until(w.calm) + pause)
	w.last()
	cancel()
	close(w.end)
	callers.Wait()
	if w.bound {
		w.keyed = 1
	}
	return w
}

func (w *world) keys() []string {
	if w.many {
		return []string{"alice", "bob"}
	}
	return []string{"alice"}
}

// outageOf tells what fault a part of the world has now.
func (w *world) outageOf(store bool) (kind int, there bool) {
	at := time.Since(w.began)
	for _, o := range w.outages {
		if o.store == store && o.from <= at && at < o.till {
			return o.kind, true
		}
	}
	return 0, false
}

func (w *world) faultsAreOff() bool { return !time.Now().Before(w.calm) }

// stop reports that a process is no more: what it was doing turns to stone.
var errStone = errors.New("the process is dead")

// pass lets time pass in a process. It returns an error if ctx ends or the process dies.
func (p *process) pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.dead:
		return errStone
	default:
	}
	select {
	case <-timer.C:
		return nil
	case <-p.dead:
		return errStone
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stone is the end of whatever a dead process was doing.
func (p *process) stone() error {
	<-p.w.end
	return errStone
}
