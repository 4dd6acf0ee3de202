package lifecycle

var stepNames = [...]string{
	Serve: "serves", Load: "loads", Publish: "publishes", Save: "saves", TakeLease: "takes the lease",
	Wait: "waits", Mark: "writes the marker", Send: "sends the refresh token", Rest: "rests", EndSession: "says that the session is over",
}

// turn is one turn of the loop: facts, decision, the step, and what came of it. It
// reports false if process i cannot do anything now.
func (w *world) turn(cfg *config, i int, look bool, c *chooser) bool {
	p := &w.procs[i]
	if p.sending {
		return false
	}
	now := w.moment(cfg, p, look)
	f := p.m.Facts(now)
	step := cfg.decide(f)
	c.say(stepNames[step], i)
	w.checkStep(cfg, i, f, step, c)
	switch step {
	case Serve, Rest, EndSession, Wait:
		w.rest(cfg, i, step)
	case Load:
		w.load(cfg, i, c)
	case Publish:
		w.publish(cfg, i, c)
	case Save:
		w.saveDraft(cfg, i, c)
	case TakeLease:
		w.takeLease(cfg, i, c)
	case Mark:
		rec := p.m.Mark(now.Unchanged)
		switch w.save(cfg, i, rec, p.readTok, c) {
		case done:
			p.m.Marked(rec)
			p.unsent = false
		case conflict:
			p.m.Conflicted()
			p.unread()
		case failed:
			p.failedStore(c)
		}
	case Send:
		w.send(cfg, i, f)
	}
	return true
}

func (w *world) moment(cfg *config, p *process, look bool) Moment {
	now := Moment{
		Token: p.token(), Care: cfg.care, Look: look,
		Waiting:   p.waiting || p.req.at != noRequest && cfg.slip != slipOpen,
		Unchanged: p.old && p.readVer != 0 && p.readVer == p.seenVer || cfg.slip == slipClock,
		Grace:     cfg.grace,
	}
	if cfg.grace == Closed && p.window {
		now.Grace = Open
	}
	return now
}

// token is the fact: nothing known is None, whatever cannot be used is Over.
func (p *process) token() Token {
	switch {
	case p.m.Known == (Position{}):
		return None
	case p.published == 0:
		return Over
	}
	return p.access
}

func (p *process) unread() { p.readVer, p.readTok, p.unsent = 0, 0, false }

func (p *process) failedStore(c *chooser) {
	p.m.Failed()
	if p.m.Stored() != NoAnswer {
		c.broken("I7: a Store that fails is asked again at once")
	}
	p.unread()
}

// rest ends a round.
func (w *world) rest(cfg *config, i int, step Step) {
	p := &w.procs[i]
	said := p.m.Stored()
	if said == NoAnswer || step == EndSession || p.m.End == Refused {
		p.waiting = true
	}
	if said != NotAsked {
		p.looked = said != NoAnswer && p.readVer == w.store.ver
	}
	p.m.Rested()
	p.unsent = false
	p.unread()
	w.release(cfg, i)
}

func (w *world) load(cfg *config, i int, c *chooser) {
	p := &w.procs[i]
	if w.mayFail(cfg, c) {
		c.say("  the Store does not answer", i)
		p.unread()
		p.m.Loaded(NoAnswer, Record{}, false)
		return
	}
	p.readVer, p.readTok = w.store.ver, w.store.tok
	if p.seenVer != w.store.ver {
		p.seenVer, p.old = w.store.ver, p.old && cfg.slip == slipSpan
	}
	switch {
	case w.store.ver == 0:
		p.m.Loaded(HasNothing, Record{}, false)
		if cfg.initial && p.m.Known == (Position{}) {
			c.say("  Initial is imported", i)
			p.m.Import(Position{Login: 1})
			p.known, p.window = 1, false
		}
	case w.store.rec.IsLogout():
		p.m.Loaded(Tombstone, w.store.rec, false)
	default:
		twin := w.store.rec.Position == p.m.Known && w.store.tok != p.known && cfg.slip != slipTwin
		p.m.Loaded(HasRecord, w.store.rec, twin)
	}
}

func (w *world) publish(cfg *config, i int, c *chooser) {
	p := &w.procs[i]
	was := p.published
	switch p.m.Stored() {
	case HasRecord, Tombstone:
		if p.known != p.readTok || p.m.Known != p.m.read.Position {
			p.window = false
		}
		p.m.Published(cfg.care)
		p.known, p.published = p.readTok, p.readTok
	default:
		p.m.Published(cfg.care)
		p.published = p.known
	}
	if p.published != was {
		w.renewAccess(cfg, i)
	}
	w.checkPublished(cfg, i, c)
}

// renewAccess sets how the access token of a token that was just published stands. A
// variant's access token is in a record only if this variant asked for it.
func (w *world) renewAccess(cfg *config, i int) {
	p := &w.procs[i]
	t := &w.tokens[p.published]
	switch {
	case p.published == 0:
		p.access = None
	case !cfg.variants || t.gen == 0 || t.gen >= cfg.generations || int(t.by) == i:
		p.access = Fresh
	case p.access == None:
		p.access = Over
	}
}

func (w *world) saveDraft(cfg *config, i int, c *chooser) {
	p := &w.procs[i]
	draft := p.m.Draft(cfg.care)
	if p.m.Doubt && draft.Marking.There && !draft.Marking.Doubt {
		c.broken("IE: an unknown outcome is not told")
	}
	switch w.save(cfg, i, draft, p.known, c) {
	case done:
		p.m.Saved(draft)
	case conflict:
		p.m.Conflicted()
		p.unread()
		if cfg.slip == slipWinner && w.store.ver != 0 {
			w.load(cfg, i, c)
			w.publish(cfg, i, c)
		}
	case failed:
		p.failedStore(c)
	}
}

func (w *world) takeLease(cfg *config, i int, c *chooser) {
	p := &w.procs[i]
	switch {
	case !cfg.leases:
		p.m.Leased(Mine, false)
		return
	case w.mayFail(cfg, c):
		c.say("  no answer", i)
		p.failedStore(c)
		return
	case w.lease.holder != 0 && !p.holds:
		c.say("  somebody else has it", i)
		p.m.Leased(Theirs, true)
		p.unread()
		return
	}
	waited := c.pick(2) == 1
	if waited {
		c.say("  after a while", i)
	}
	w.lease = lease{uint8(i) + 1, p.life}
	p.holds = true
	p.m.Leased(Mine, waited)
	if waited {
		p.unread()
	}
}

// send puts the refresh token on its way. The grace period counts from the first
// send: one after a send whose outcome is unknown does not begin it.
func (w *world) send(cfg *config, i int, f Facts) {
	p := &w.procs[i]
	if f.Marker == Ready && cfg.windowed() {
		p.window = true
	}
	p.req = request{at: onItsWay, tok: p.known, by: uint8(i), parent: p.m.Known, resend: f.Grace == Open && f.Marker != Ready}
	p.sending = true
	if f.Care == StoreMayFail && f.Stored == NoAnswer {
		w.blind = true
	}
}

// answered folds in what the loop was told.
func (w *world) answered(cfg *config, i int, o Outcome, c *chooser) {
	p := &w.procs[i]
	r := p.req
	p.sending = false
	was := p.m.Known
	over := o == NotProcessed || o == Unclear // nothing is on its way any more
	if o == NotProcessed && cfg.slip == slipCount {
		o = Unknown
	}
	if !p.m.Answered(r.parent, o, cfg.care, 1) {
		if o == NewToken {
			w.checkDropped(i, r, was, c)
		}
		p.unread()
		return
	}
	p.unsent = over
	if o == NewToken && cfg.slip == slipPublish {
		p.known, p.published = r.answer, r.answer
		w.checkPublished(cfg, i, c)
	}
	switch o {
	case NewToken:
		p.known, p.window, p.waiting = r.answer, false, false
	case Refusal:
		p.unread()
		p.window = false
		if cfg.care == Free || r.tok == 0 {
			p.waiting = true
		}
	case NotProcessed:
		p.window = p.window && p.m.Doubt
		p.waiting = true
	case Unknown, Unclear:
		p.waiting = true
	}
}
