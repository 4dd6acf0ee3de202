package lifecycle

// outcome is what came of a write.
type outcome uint8

const (
	done outcome = iota
	conflict
	failed // the caller does not know whether it was done
)

// save is the Store: compare-and-set on the version that was read.
func (w *world) save(cfg *config, i int, rec Record, tok uint8, c *chooser) outcome {
	p := &w.procs[i]
	if w.mayFail(cfg, c) {
		if p.readVer == w.store.ver && c.pick(2) == 1 {
			c.say("  the Store does it, and does not answer", i)
			w.write(rec, tok, c)
		} else {
			c.say("  the Store fails", i)
		}
		return failed
	}
	if p.readVer != w.store.ver && cfg.slip != slipVersion {
		c.say("  somebody else was faster", i)
		return conflict
	}
	w.write(rec, tok, c)
	p.readVer, p.readTok = w.store.ver, tok
	p.seenVer, p.old = w.store.ver, false
	return done
}

func (w *world) mayFail(cfg *config, c *chooser) bool {
	if w.spent[storeFails] >= cfg.budget[storeFails] || c.pick(2) == 0 {
		return false
	}
	w.spent[storeFails]++
	return true
}

func (w *world) write(rec Record, tok uint8, c *chooser) {
	if w.store.ver != 0 {
		switch order := rec.Compare(w.store.rec.Position); {
		case order < 0:
			c.broken("I4: an older record is saved over a newer one")
		case order == 0 && tok != w.store.tok:
			c.broken("I4: of two answers, the saved one does not stay")
		}
	}
	w.before = w.store
	w.store = store{rec, tok, 0}
	w.store.ver = w.newVersion()
	if tok != 0 {
		w.tokens[tok].saved = true
	}
	w.changed()
}

// changed forgets who has seen the Store as it is.
func (w *world) changed() {
	for i := range w.procs {
		w.procs[i].looked = false
	}
}

// newVersion returns a version that nobody remembers.
func (w *world) newVersion() uint8 {
	var used uint32 = 1 | 1<<w.before.ver
	for i := range w.procs {
		used |= 1<<w.procs[i].readVer | 1<<w.procs[i].seenVer
	}
	v := uint8(1)
	for used&(1<<v) != 0 {
		v++
	}
	return v
}

// release gives the lease back after a round. While a request is open, or a successor
// is not saved, it is kept: the Store may have lost the marker.
func (w *world) release(cfg *config, i int) {
	p := &w.procs[i]
	open := p.req.at != noRequest || p.m.Newest != Settled
	if p.m.stored == NotAsked && p.m.lease == NotTaken && (!open || cfg.slip == slipLease) {
		w.giveBack(i)
	}
}

func (w *world) giveBack(i int) {
	p := &w.procs[i]
	if p.holds && w.lease == (lease{uint8(i) + 1, p.life}) {
		w.lease = lease{}
	}
	p.holds = false
}
