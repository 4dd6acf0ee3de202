package lifecycle

// This file is what happens to a process by itself: time, messages, faults, and what
// the program asks for. Each function reports whether it could happen.

// event is one thing that happens to process i. There are procEvents of them.
func (w *world) event(cfg *config, i, kind int, c *chooser) bool {
	p := &w.procs[i]
	switch kind {
	case 0:
		return w.turn(cfg, i, false, c)
	case 1:
		return p.m.stored == NotAsked && w.unsettled(p) && w.turn(cfg, i, true, c)
	case 2:
		return w.age(cfg, i, c)
	case 3: // the next attempt is due
		if !p.waiting || p.sending || p.req.at != noRequest && cfg.slip != slipOpen {
			return false
		}
		c.say("the next attempt is due", i)
		p.waiting = false
	case 4:
		if !p.window || p.sending {
			return false
		}
		c.say("the grace period is over, by its own clock", i)
		p.window = false
	case 5:
		return w.span(cfg, i, c)
	case 6:
		return w.message(cfg, i, c)
	case 7:
		return w.stop(cfg, i, c)
	case 8:
		return w.setToken(cfg, i, c)
	case 9:
		return w.forget(cfg, i, c)
	}
	return true
}

const procEvents = 10

// unsettled reports whether a look at the Store would show something to p: whoever
// has a token looks once a span.
func (w *world) unsettled(p *process) bool {
	return p.m.Known != (Position{}) &&
		(p.m.Newest != Settled || w.store.ver == 0 || w.store.rec.Position != p.m.Known || w.store.tok != p.known ||
			w.store.rec.Marking.There && !p.looked || w.store.rec.Ended && p.m.End != Ended)
}

// age lets the access token become due, and then expire. It stands for a rejection
// and for a refresh by hand, too.
func (w *world) age(cfg *config, i int, c *chooser) bool {
	p := &w.procs[i]
	if p.published == 0 || w.tokens[p.published].gen >= cfg.generations || p.sending {
		return false
	}
	switch p.access {
	case Fresh:
		c.say("the access token is due", i)
		p.access = Due
	case Due:
		c.say("the access token has expired", i)
		p.access = Over
	default:
		return false
	}
	return true
}

// spend uses up one fault of a kind.
func (w *world) spend(cfg *config, f fault) bool {
	if w.spent[f] >= cfg.budget[f] {
		return false
	}
	w.spent[f]++
	return true
}

// span is the time that makes a marker old: p has seen the record unchanged for it.
// It is longer than a flight, its save, and the retries of the save; and whoever has
// a token looks at the Store within it.
func (w *world) span(cfg *config, i int, c *chooser) bool {
	p := &w.procs[i]
	marking := w.store.rec.Marking
	if p.old || p.seenVer == 0 || p.seenVer != w.store.ver || !marking.There || marking.Owner == p.m.Self {
		return false
	}
	if !w.quiet(cfg, i) && !w.spend(cfg, shortSpan) {
		return false
	}
	c.say("has seen the marker for a span", i)
	p.old = true
	return true
}

// quiet reports whether all that began before now may be over.
func (w *world) quiet(cfg *config, i int) bool {
	for _, g := range w.ghosts {
		if g.at == onItsWay {
			return false
		}
	}
	for j := range w.procs {
		q := &w.procs[j]
		if q.req.at != noRequest || q.m.ready || q.m.Newest != Settled {
			return false
		}
		if j != i && q.m.Known != (Position{}) && !q.looked && cfg.slip != slipLook {
			return false
		}
		if q.readVer != w.store.ver && q.m.order() == Newer {
			return false // it has read what the Store has lost since
		}
	}
	return true
}

// message moves p's request on.
func (w *world) message(cfg *config, i int, c *chooser) bool {
	p := &w.procs[i]
	r := &p.req
	switch {
	case r.at == noRequest:
		return false
	case p.sending && c.pick(2) == 1: // the loop does not wait any longer
		if !w.spend(cfg, lateAnswer) {
			return false
		}
		c.say("waits no longer for the answer", i)
		w.answered(cfg, i, Unknown, c)
		return true
	}
	switch c.pick(3) {
	case 0:
		if r.at == processed {
			return w.arrive(cfg, i, c)
		}
		c.say("its request is processed", i)
		return w.take(cfg, r, c)
	case 1:
		if !w.spend(cfg, lostMessage) {
			return false
		}
		switch {
		case !p.sending:
			c.say("its request or the answer is lost", i)
		case c.pick(2) == 0:
			c.say("its request or the answer is lost", i)
			w.answered(cfg, i, Unknown, c)
		default:
			c.say("an answer comes that says nothing", i)
			w.answered(cfg, i, Unclear, c)
		}
		*r = request{}
		w.release(cfg, i)
	case 2:
		if r.at != onItsWay || !p.sending || !w.spend(cfg, notTaken) {
			return false
		}
		c.say("the connection is refused", i)
		w.answered(cfg, i, NotProcessed, c)
		*r = request{}
	}
	return true
}

// arrive is the answer, in time or late.
func (w *world) arrive(cfg *config, i int, c *chooser) bool {
	p := &w.procs[i]
	r := p.req
	c.say("the answer comes", i)
	was := p.m.Known
	switch {
	case p.sending && (r.answer != 0):
		w.answered(cfg, i, NewToken, c)
	case p.sending:
		w.answered(cfg, i, Refusal, c)
	case r.answer != 0 && cfg.slip != slipLate && p.m.Late(r.parent):
		p.known, p.window, p.waiting = r.answer, false, false
	case r.answer != 0:
		w.checkDropped(i, r, was, c)
	}
	p.req = request{}
	w.release(cfg, i)
	return true
}

// stop is a crash, or a pause of the whole process.
func (w *world) stop(cfg *config, i int, c *chooser) bool {
	p := &w.procs[i]
	if c.pick(2) == 0 {
		if p.m.Known == (Position{}) && p.m.stored == NotAsked || !w.spend(cfg, crash) {
			return false
		}
		c.say("crashes, and starts anew", i)
		if p.req.at == onItsWay {
			g := 0
			for w.ghosts[g].at != noRequest {
				if g++; g == maxGhosts {
					return false
				}
			}
			w.ghosts[g] = p.req
		}
		*p = process{life: p.life + 1, m: Memory{Self: name(i, p.life+1)}}
		return true
	}
	if p.req.at != noRequest || p.m.Newest != Settled || !p.m.ready && !p.holds || !w.spend(cfg, stall) {
		return false
	}
	c.say("is stopped for longer than its lease", i)
	if cfg.slip != slipStall {
		p.m.Unready()
	}
	p.unsent = false
	w.giveBack(i)
	return true
}

// setToken is a new login: it goes over whatever is there.
func (w *world) setToken(cfg *config, i int, c *chooser) bool {
	p := &w.procs[i]
	if w.nlog+1 >= maxLogins || !w.spend(cfg, newLogin) {
		return false
	}
	c.say("somebody logs in again", i)
	at := Position{Login: 1 + max(p.m.Known.Login, w.store.rec.Login)}
	if cfg.slip == slipNumber {
		at.Login = 1 + p.m.Known.Login
	}
	w.nlog++
	w.logins[w.nlog] = login{number: uint8(at.Login)}
	t := w.issue(token{login: w.nlog})
	if t == 0 {
		return false
	}
	if !w.over(cfg, i, Record{Position: at}, t, c) {
		return true
	}
	held := p.m.Newest == Held
	p.m.Know(at)
	if held && cfg.slip == slipUser {
		p.m.Newest = Held
		return true
	}
	p.known, p.published, p.access, p.window, p.waiting = t, t, Fresh, false, false
	return true
}

// forget is a logout: it leaves a tombstone.
func (w *world) forget(cfg *config, i int, c *chooser) bool {
	p := &w.procs[i]
	newest := max(p.m.Known.Login, w.store.rec.Login)
	if newest == 0 || !w.spend(cfg, logout) {
		return false
	}
	c.say("the user logs out", i)
	at := LogoutOf(newest)
	for l := range w.logins {
		w.logins[l].out = w.logins[l].out || uint64(w.logins[l].number) <= newest
	}
	if !w.over(cfg, i, Record{Position: at}, 0, c) {
		return true
	}
	p.m.Know(at)
	p.known, p.published, p.access, p.window, p.waiting = 0, 0, None, false, false
	return true
}

// over saves over any version: it loads, and saves on what it has loaded.
func (w *world) over(cfg *config, i int, rec Record, tok uint8, c *chooser) bool {
	fails := w.mayFail(cfg, c)
	if fails {
		c.say("  the Store does not answer", i)
		if c.pick(2) == 0 {
			return false
		}
		c.say("  but does it", i)
	}
	w.write(rec, tok, c)
	p := &w.procs[i]
	if !fails {
		p.seenVer, p.old = w.store.ver, false
	}
	return !fails
}

// elsewhere is one thing that happens to no process. There are otherEvents of them.
func (w *world) elsewhere(cfg *config, kind int, c *chooser) bool {
	switch kind {
	case 0, 1:
		g := &w.ghosts[kind]
		if g.at != onItsWay {
			return false
		}
		if c.pick(2) == 0 {
			c.say("the request of a process that is gone is processed", -1)
			if !w.take(cfg, g, c) {
				return false
			}
		} else {
			c.say("the request of a process that is gone is lost", -1)
		}
		*g = request{}
	case 2:
		return w.leaseEnds(cfg, c)
	case 3:
		return w.windowEnds(cfg, c)
	case 4:
		return w.storeLoses(cfg, c)
	case 5:
		l := c.pick(maxLogins)
		if l == 0 || l > int(w.nlog) || w.logins[l].dead || !w.spend(cfg, serverEnds) {
			return false
		}
		c.say("the server ends the session", -1)
		w.logins[l].dead = true
	}
	return true
}

const otherEvents = 6

func (w *world) leaseEnds(cfg *config, c *chooser) bool {
	if w.lease.holder == 0 {
		return false
	}
	p := &w.procs[w.lease.holder-1]
	switch {
	case w.lease.life == p.life && p.holds:
		if !w.spend(cfg, shortLease) {
			return false
		}
	default: // its holder is gone; the lease outlives all that it has sent
		for _, g := range w.ghosts {
			if g.at == onItsWay {
				return false
			}
		}
	}
	c.say("the lease ends", -1)
	w.lease = lease{}
	return true
}

// windowEnds ends the server's grace period of a token. Processes count it from
// before the server does, and allow for the time that a resend takes.
func (w *world) windowEnds(cfg *config, c *chooser) bool {
	t := uint8(c.pick(maxTokens))
	if !w.tokens[t].open {
		return false
	}
	kept := true
	for i := range w.procs {
		p := &w.procs[i]
		counts := p.window && p.known == t
		kept = kept && !counts && !p.req.resends(t)
	}
	for _, g := range w.ghosts {
		kept = kept && !g.resends(t)
	}
	if !kept && !w.spend(cfg, shortWindow) {
		return false
	}
	c.say("the server's grace period is over", -1)
	w.tokens[t].open = false
	return true
}

// resends reports whether t is on its way because its grace period is open.
func (r request) resends(t uint8) bool { return r.at == onItsWay && r.tok == t && r.resend }

func (w *world) storeLoses(cfg *config, c *chooser) bool {
	if w.store.ver == 0 {
		return false
	}
	switch c.pick(4) {
	case 0:
		if w.store == w.before || !w.spend(cfg, lostWrite) {
			return false
		}
		c.say("the Store loses its last write", -1)
		w.store = w.before
	case 1:
		if !w.spend(cfg, lostRecord) {
			return false
		}
		c.say("the Store loses the record", -1)
		w.store = store{}
	case 2:
		if !w.spend(cfg, restored) {
			return false
		}
		c.say("an old record is restored, marked by nobody", -1)
		w.before = store{}
		w.store = store{rec: Record{Position: Position{Login: 1}, Marking: Marking{There: true}}, tok: 1}
		w.store.ver = w.newVersion()
	case 3:
		if !w.spend(cfg, silentLoss) {
			return false
		}
		c.say("the Store has an old record again, and does not say so", -1)
		w.before = store{}
		w.store = store{rec: Record{Position: Position{Login: 1}}, tok: 1}
		w.store.ver = w.newVersion()
	}
	w.erased = true
	w.before = w.store
	w.changed()
	return true
}
