package lifecycle

// The invariants of docs/protocol.md. I1, I3, I7, IM, IE, IU and IW are asserted where a
// step is taken, I2 where the server refuses (model_server_test.go) and where a
// process says that a session is over, I4 where the Store is written
// (model_store_test.go) and with I5 and I8 after each step, I6 by fair_test.go.

// checkStep asserts what has to hold when process i is about to take a step.
func (w *world) checkStep(cfg *config, i int, f Facts, step Step, c *chooser) {
	p := &w.procs[i]
	switch step {
	case Send:
		w.checkSend(cfg, i, f, c)
	case Mark:
		again := f
		if again.Marker = Ready; inDoubt.has(f.Marker) {
			again.Marker = ReadyAgain
		}
		if cfg.decide(again) != Send {
			c.broken("IU: a marker is written for nothing")
		}
	case EndSession:
		if !w.isOver(p.m.Known.Login) {
			c.broken("I2: a session is reported as over, and is not")
		}
	}
	if ends := of(Serve, Rest, Wait, EndSession); ends.has(step) && p.readVer == w.store.ver &&
		(f.Marker == Ready || p.unsent && p.m.read.Marking.There && p.m.read.Marking.Owner == p.m.Self) {
		c.broken("IU: a marker is left behind")
	}
	if (step == EndSession || step == Rest && f.Token == Over) && f.Stored == HasRecord && f.Order == Same &&
		f.End == Alive && f.Grace == Open && inDoubt.has(f.Marker) && cfg.care != Free && f.Newest == Settled {
		c.broken("IW: the grace period is open, and is not used")
	}
}

func (w *world) checkSend(cfg *config, i int, f Facts, c *chooser) {
	p := &w.procs[i]
	if p.waiting || p.req.at != noRequest {
		c.broken("I7: sent before the next attempt is due")
	}
	if p.m.Known.IsLogout() {
		c.broken("I2: a refresh is asked for after a logout")
	}
	if cfg.care == Free || p.known == 0 {
		return
	}
	if w.blind || f.Stored == NoAnswer && cfg.care == StoreMayFail {
		return
	}
	for j := range w.procs {
		if r := &w.procs[j].req; r.at != noRequest && w.sameRefresh(cfg, r.tok, p.known) {
			c.broken("I1: a refresh token is on its way twice")
		}
	}
	for _, g := range w.ghosts {
		if g.at == onItsWay && w.sameRefresh(cfg, g.tok, p.known) {
			c.broken("I1: a refresh token is on its way twice")
		}
	}
	if p.m.read.Ended {
		c.broken("I7: the server has said no for good, and is asked again")
	}
	if !p.m.ready || p.m.read.Marking.Owner != p.m.Self || p.readTok != p.known || p.m.read.Position != p.m.Known {
		c.broken("IM: sent without a marker")
	}
	mayBeUsed := p.m.Doubt || p.m.read.Marking.Doubt || w.tokens[p.known].used && !w.erased
	t := w.tokens[p.known]
	taken := f.Grace == Open && (!cfg.windowed() || !t.used || t.open)
	if mayBeUsed && (f.Token == Fresh || f.Token == Due) && !taken && cfg.server != reusable {
		c.broken("IE: a token that may be used already is sent, while the access token is usable")
	}
}

func (w *world) sameRefresh(cfg *config, a, b uint8) bool {
	return a == b && cfg.server != reusable
}

// isOver reports whether the session with a number is over, by its server or by a
// logout.
func (w *world) isOver(number uint64) bool {
	for l := uint8(1); l <= w.nlog; l++ {
		if uint64(w.logins[l].number) == number && (w.logins[l].dead || w.logins[l].out) {
			return true
		}
	}
	return false
}

// checkPublished asserts what has to hold of a token that is handed out.
func (w *world) checkPublished(cfg *config, i int, c *chooser) {
	p := &w.procs[i]
	if p.published == 0 {
		return
	}
	if cfg.care == Careful && !w.tokens[p.published].saved {
		c.broken("I3: handed out before it is saved")
	}
	if cfg.care == Free && p.m.Newest != Settled {
		c.broken("I7: what costs nothing asks the Store again and again")
	}
	if w.position(p.published) != p.m.Known {
		c.broken("I8: a token of another session is handed out")
	}
}

// checkDropped asserts that an answer is ignored only if something newer is known.
func (w *world) checkDropped(i int, r request, was Position, c *chooser) {
	if r.answer != 0 && w.position(r.answer).Compare(was) > 0 {
		c.broken("I5: an answer is ignored, and nothing newer is known")
	}
}

// checkChange asserts what has to hold from one state to the next.
func checkChange(cfg *config, was, is *world, c *chooser) {
	for i := range cfg.procs {
		p, q := &was.procs[i], &is.procs[i]
		if p.life != q.life {
			continue
		}
		order := q.m.Known.Compare(p.m.Known)
		if order < 0 {
			c.broken("I4: an older token takes the place of a newer one in memory")
		}
		if order != 0 && q.m.Doubt {
			c.broken("IE: the unknown outcome of one token is taken for another's")
		}
		dropped := order == 0 && p.m.Newest != Settled && q.known != p.known
		if dropped && (is.store.ver == 0 || is.store.tok != q.known) && cfg.care != Free {
			c.broken("I5: a successor is dropped")
		}
		if p.m.Newest != Settled && q.m.Newest == Settled && order == 0 && !dropped &&
			cfg.care != Free && !is.tokens[q.known].saved {
			c.broken("I5: a successor counts as saved, and is not")
		}
		if q.known != 0 && is.position(q.known) != q.m.Known {
			c.broken("I8: the token and its position belong to two sessions")
		}
	}
}

// leftBehind reports whether everybody rests, there was no fault, and a marker is
// there all the same.
func (w *world) leftBehind(cfg *config) bool {
	for i := range cfg.procs {
		if p := &w.procs[i]; p.m.stored != NotAsked || p.req.at != noRequest {
			return false
		}
	}
	return w.spent == [numFaults]uint8{} && w.store.rec.Marking.There
}
