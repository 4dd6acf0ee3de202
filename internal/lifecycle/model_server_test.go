package lifecycle

// take is the server: it processes a refresh token, and puts the answer into r. It
// reports false where the model has no room for another token.
func (w *world) take(cfg *config, r *request, c *chooser) bool {
	r.at, r.answer = processed, 0
	if r.tok == 0 { // a Refresher that needs no refresh token, or has none yet
		if cfg.care != Free {
			return true
		}
		if w.nlog == 0 {
			w.nlog = 1
			w.logins[1].number = 1
		}
		r.answer = w.issue(token{login: 1, by: r.by})
		return r.answer != 0
	}
	t := &w.tokens[r.tok]
	if w.logins[t.login].dead {
		return true
	}
	switch {
	case cfg.care == Free || cfg.server == reusable || !t.used:
		r.answer = w.issue(token{login: t.login, gen: t.gen + 1, parent: r.tok, by: r.by})
		t.used = cfg.server != reusable
		t.open = t.used && cfg.server != strict
		t.child = r.answer
		return r.answer != 0
	case t.open && cfg.server == graceSame && !w.tokens[t.child].used:
		r.answer = t.child
		return true
	case t.open && cfg.server == graceSecond && !w.childUsed(r.tok):
		r.answer = w.issue(token{login: t.login, gen: t.gen + 1, parent: r.tok, by: r.by})
		t.child = r.answer
		return r.answer != 0
	}
	w.revoke(t.login, c)
	return true
}

func (w *world) childUsed(parent uint8) bool {
	for t := uint8(1); t <= w.ntok; t++ {
		if w.tokens[t].parent == parent && w.tokens[t].used {
			return true
		}
	}
	return false
}

// revoke is the server's answer to reuse. I2 demands that this costs nobody a token
// that would have been good: the newest one is lost already.
func (w *world) revoke(l uint8, c *chooser) {
	w.logins[l].dead = true
	if w.blind || w.logins[l].out {
		return
	}
	for t := uint8(1); t <= w.ntok; t++ {
		if w.tokens[t].login == l && !w.tokens[t].used && w.reachable(t) && !w.superseded(l) {
			c.broken("I2: a session ended that the server would still refresh")
		}
	}
}

// reachable reports whether a token is with a live process, in the record, or in an
// answer on its way to a live process.
func (w *world) reachable(t uint8) bool {
	if w.store.ver != 0 && w.store.tok == t {
		return true
	}
	for i := range w.procs {
		p := &w.procs[i]
		if p.known == t || p.published == t || p.req.at == processed && p.req.answer == t {
			return true
		}
	}
	return false
}

// superseded reports whether another login has come since.
func (w *world) superseded(l uint8) bool {
	for i := uint8(1); i <= w.nlog; i++ {
		if w.logins[i].number > w.logins[l].number {
			return true
		}
	}
	return false
}
