package authtrip_test

import (
	"context"
	"errors"
	"iter"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// This file has the ledger: what must hold, and what no client could have prevented.

type position struct{ login, generation uint64 }

func (p position) before(q position) bool {
	return p.login < q.login || p.login == q.login && p.generation < q.generation
}

func (p position) isLogout() bool { return p.generation == 1<<62 }

// firstLogin puts a session into the Store before the run begins.
func (w *world) firstLogin(key string) {
	w.mu.Lock()
	rt, at := w.login(key, key)
	w.mu.Unlock()
	var store authtrip.MemoryStore
	src := &authtrip.Source{Refresher: &authtrip.Grant{}, Store: &store, Key: key}
	err := src.SetToken(context.Background(), w.token(rt, at))
	if err != nil {
		panic(err)
	}
	doc, _, err := store.Load(context.Background(), key)
	if err != nil {
		panic(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cells[key].save(nil, string(doc))
}

// count notes a fault.
func (w *world) count(p *process, fault int, op string) {
	if fault == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults++
	w.note(p, "%s: fault %d", op, fault)
}

// checkSend holds a request against I1 and I7.
func (w *world) checkSend(p *process, rt *refreshToken) {
	if rt.sending > 0 && !w.reusable && !w.allow && !rt.bare && !w.cells[rt.family.key].forgot {
		w.breaks(p, "I1: %s is on its way twice", rt.name)
	}
	if rt.again != p { // a proof with the nonce that was asked for belongs to the send before
		rt.excused = ""
	}
	rt.again = nil
	switch {
	case w.cells[rt.family.key].forgot, rt.bare:
		rt.excused = "the Store had lost a marker and its save"
	case w.couldNotSave(rt):
		rt.excused = "the Store failed the process that had the answer, and no other"
	case w.couldNotPutBack(rt):
		rt.excused = "the Store lost it, and then failed all who knew better, and no other"
	}
	now := time.Now()
	p.busy = append(p.busy, now)
	most := maxBusy
	if w.bound {
		most = 2 * maxBusy // a nonce costs one more
	}
	if n := len(p.busy); n > most && now.Sub(p.busy[n-1-most]) < 10*time.Second {
		w.breaks(p, "I7: more than %d requests in 10 s", most)
		p.busy = nil
	}
}

// maxBusy is how many requests a process sends in 10 s at most, for all its sessions.
const maxBusy = 25

// checkSave holds a record against I4: nothing older is put over something newer.
func (w *world) checkSave(p *process, c *cell, f, old recordFacts) {
	if f.position().before(old.position()) {
		w.breaks(p, "I4: %v is saved over %v", f.position(), old.position())
	}
	at, rt := w.access[f.Access], w.refresh[f.Refresh]
	if at != nil && rt != nil && at.family != rt.family {
		w.breaks(p, "I8: %s and %s are in one record", at.name, rt.name)
	}
	if at != nil && at.family.key != c.key {
		w.breaks(p, "I8: %s is saved for %s", at.name, c.key)
	}
}

// saved notes what the Store has now.
func (w *world) saved(p *process, c *cell, f recordFacts) {
	names := []string{f.Access}
	for _, v := range f.Variants {
		names = append(names, v.Access)
	}
	for _, name := range names {
		if at := w.access[name]; at != nil {
			at.saved, at.position = true, position{f.Number, uint64(at.gen)}
		}
	}
	if p != nil && p.last[c.key].before(f.position()) {
		p.last[c.key] = f.position()
	}
	if rt := w.refresh[f.Refresh]; !f.position().before(c.top) {
		c.top = f.position()
		c.forgot = c.forgot && rt != nil && !rt.spent.IsZero()
	}
}

// wasLost notes what the Store lost, where nobody can know of it.
func (w *world) wasLost(c *cell, f recordFacts) {
	rt := w.refresh[f.Refresh]
	c.wiped = c.wiped || c.now.value == ""
	c.forgot = c.forgot || !w.watch // nobody who knows better looks
	if rt == nil {
		return
	}
	rt.bare = rt.bare || rt.sending > 0 && !w.leases
	if !rt.spent.IsZero() && f.Marker == nil {
		c.forgot = true // it lost a marker and its save
	}
}

// judgeLoss says why a session is lost that ends with a send of rt.
func (w *world) judgeLoss(p *process, rt *refreshToken) {
	f := rt.family
	f.revoked = true
	who := ""
	for leaf := range successors(rt) {
		if holder := w.holder(leaf); holder != "" {
			who = leaf.name + " " + holder
		}
	}
	switch {
	case who == "":
		w.lose(w.why(p, f), 1)
	case rt.excused != "":
		w.lose(rt.excused, 1)
	case w.allow:
		w.lose("refreshed without the Store", 1)
	default:
		w.breaks(p, "I2: %s is sent again, and the session is lost, while %s", rt.name, who)
	}
}

// why says why nobody has the newest refresh token of a family.
func (w *world) why(p *process, f *family) string {
	cause := "answer lost"
	for _, old := range w.past {
		for _, leaf := range f.leaves {
			switch {
			case !old.has[leaf.name]:
			case old.closed:
				cause = "closed while the Store failed"
				if !w.storeFails() {
					w.breaks(p, "I5: %s has closed with %s", old.name, leaf.name)
				}
			default:
				return "crash between answer and save"
			}
		}
	}
	return cause
}

// storeFails reports whether the Store ever does.
func (w *world) storeFails() bool {
	for _, o := range w.outages {
		if o.store {
			return true
		}
	}
	return w.storeFaults > 0 || w.loses
}

// successors are those of a refresh token that the server would take. Of two answers to one
// refresh token the saved one counts, and the other is nobody's.
func successors(rt *refreshToken) iter.Seq[*refreshToken] {
	return func(yield func(*refreshToken) bool) {
		for _, leaf := range rt.family.leaves {
			if leaf.gen > rt.gen && !yield(leaf) {
				return
			}
		}
	}
}

// knowers are those who live and have a refresh token.
func (w *world) knowers(leaf *refreshToken) iter.Seq[*process] {
	return func(yield func(*process) bool) {
		for _, p := range w.slots {
			if p != nil && !p.gone && p.has[leaf.name] && !yield(p) {
				return
			}
		}
	}
}

// couldNotSave reports whether the Store has failed all who have what came after rt, again and
// again since they had it, or when there was hardly any time.
func (w *world) couldNotSave(rt *refreshToken) bool {
	key, could := rt.family.key, true
	for leaf := range successors(rt) {
		for p := range w.knowers(leaf) {
			since := p.since[leaf.name]
			late := p.failed[key] > 0 && time.Since(since) < 5*time.Second
			could = could && p.wrote[key].Before(since) && (p.failed[key] > 2 || late)
		}
	}
	return could
}

// couldNotPutBack reports whether the Store lost what came after rt, and has failed all who
// have that, again and again since: they could not read what it has, or not save what they have.
func (w *world) couldNotPutBack(rt *refreshToken) bool {
	key := rt.family.key
	c := w.cells[key]
	could := !c.lost.IsZero()
	for leaf := range successors(rt) {
		for p := range w.knowers(leaf) {
			unread := p.read[key].Before(c.lost) && p.unread[key] > 2
			could = could && (unread || p.wrote[key].Before(c.lost) && p.failed[key] > 2)
		}
	}
	return could
}

// holder says who has a live refresh token.
func (w *world) holder(leaf *refreshToken) string {
	if leaf.answers > 0 {
		return "is on its way"
	}
	for _, c := range w.cells {
		if factsOf(c.now.value).Refresh == leaf.name {
			return "is in the Store"
		}
	}
	for p := range w.knowers(leaf) {
		return "is with " + p.name
	}
	return ""
}

func (w *world) isLost(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	rt := w.refresh[factsOf(w.cells[key].now.value).Refresh]
	return rt == nil || rt.family.revoked
}

// checkToken holds what a user got against I2, I3, I4 and I8, and returns the token.
func (w *world) checkToken(p *process, key string, floor position, tok *oauth2.Token, err error) *accessToken {
	c := w.cells[key]
	if err != nil {
		w.checkError(p, c, err)
		return nil
	}
	at := w.access[tok.AccessToken]
	if p.got != tok.AccessToken {
		p.got = tok.AccessToken
		w.note(p, "gets %s", tok.AccessToken)
	}
	switch {
	case at == nil:
		w.breaks(p, "a token that nobody made")
		return nil
	case at.family.key != key:
		w.breaks(p, "I8: %s gets %s", key, at.name)
	case at.variant != p.variant:
		w.breaks(p, "I8: variant %q gets %s", p.variant, at.name)
	case !at.saved && !w.allow:
		w.breaks(p, "I3: %s was not saved", at.name)
	case (c.rolled || w.allow) && w.variant: // of two answers the saved one counts, with older tokens of other variants
	case at.saved && at.position.before(floor):
		w.breaks(p, "I4: %s is handed out after one at %v", at.name, floor)
	}
	w.checkBinding(p, at, tok)
	if at.saved && p.floor[key].before(at.position) {
		p.floor[key] = at.position
	}
	return at
}

func (w *world) checkError(p *process, c *cell, err error) {
	if text := err.Error(); p.got != text {
		p.got = text
		w.note(p, "gets: %v", text)
	}
	var revoked bool
	for _, f := range w.families {
		revoked = revoked || f.key == c.key && f.revoked
	}
	switch {
	case errors.Is(err, authtrip.ErrClosed):
		w.breaks(p, "ErrClosed before Close")
	case errors.Is(err, authtrip.ErrLoggedOut):
		if w.logouts == 0 {
			w.breaks(p, "ErrLoggedOut, and nobody has")
		}
	case errors.Is(err, authtrip.ErrNoSession):
		if !c.wiped {
			w.breaks(p, "ErrNoSession, and there is one")
		}
	case errors.Is(err, authtrip.ErrReauthRequired):
		if never := errors.Is(err, authtrip.ErrInDoubt) && w.window < 0; !revoked && !never {
			w.breaks(p, "I2: %v, and the server did not say no", err)
		}
	}
}

// last holds the end of a run against I5 and I6.
func (w *world) last() {
	w.mu.Lock()
	w.note(nil, "all has been well for %v", pause)
	slots := append([]*process(nil), w.slots...)
	w.mu.Unlock()
	for _, key := range w.keys() {
		for _, p := range slots {
			w.mu.Lock()
			patience := time.Second + time.Since(w.began)/20 // a process paces its own attempts: a twentieth of the outage
			if c := w.cells[key]; !w.watch && (c.rolled || factsOf(c.now.value).Marker != nil) {
				patience = pause // who watches nothing finds a loss or a marker at its next refresh
			}
			ctx, cancel := context.WithTimeout(p.ctx, patience)
			floor := p.floor[key]
			w.mu.Unlock()
			tok, err := p.source(key).TokenContext(ctx)
			if re := (*authtrip.RefreshError)(nil); errors.As(err, &re) && re.Code == "use_dpop_nonce" { // it changed twice in a moment
				<-time.After(patience)
				tok, err = p.source(key).TokenContext(p.ctx)
			}
			cancel()
			w.mu.Lock()
			w.checkLast(p, key, floor, tok, err)
			w.mu.Unlock()
		}
	}
}

func (w *world) checkLast(p *process, key string, floor position, tok *oauth2.Token, err error) {
	c := w.cells[key]
	f := factsOf(c.now.value)
	rt := w.refresh[f.Refresh]
	at := w.checkToken(p, key, floor, tok, err)
	if c.rolled && errors.Is(err, authtrip.ErrReauthRequired) && f.Number < floor.login {
		return // the Store has an older login, and the newest is over
	}
	switch {
	case at != nil && w.accepts(at):
		if c.now.value == "" && w.watch && !at.family.revoked {
			w.breaks(p, "I6: what the Store has lost is not back, and %s is there", at.name)
		}
	case at != nil && !w.watch && (c.rolled || at.position.before(f.position())): // an older one, until an API rejects it
	case at != nil && w.window < 0 && f.Marker != nil: // who has only now read it learns that from an API
		w.lose("in doubt for ever", 1)
	case at != nil && time.Now().Before(at.expires):
		w.breaks(p, "I6: %s is handed out, and was rejected", at.name)
	case at != nil && time.Since(at.expires) < span: // its answer was slow, and its time counts from then
	case at != nil:
		w.breaks(p, "I6: %s is handed out, and has expired", at.name)
	case c.now.value == "":
		if w.watch && !errors.Is(err, authtrip.ErrReauthRequired) { // a tombstone may go
			w.breaks(p, "I6: what the Store has lost is not back: %v", err)
		}
	case f.Gone, f.Ended != nil:
		if !errors.Is(err, authtrip.ErrReauthRequired) {
			w.breaks(p, "I6: the session is over, and the error is %v", err)
		}
	case rt != nil && rt.family.revoked:
		w.lose("and that is not known yet", 1)
	case !w.watch && errors.Is(err, authtrip.ErrReauthRequired) && time.Since(c.back) < 5*time.Second: // it looks again then
	case rt != nil && w.window < 0 && errors.Is(err, authtrip.ErrInDoubt):
		w.lose("in doubt for ever", 1)
	default:
		w.breaks(p, "I6: there is no usable token: %v", err)
	}
	refreshing := rt != nil && time.Since(rt.spent) < time.Second
	if rt != nil && !rt.family.revoked && !rt.spent.IsZero() && !refreshing && (w.watch || !c.rolled) {
		for leaf := range successors(rt) {
			if holder := w.holder(leaf); holder != "" {
				w.breaks(p, "I5: the Store has %s, and %s %s", rt.name, leaf.name, holder)
			}
		}
	}
}
