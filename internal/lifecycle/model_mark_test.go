package lifecycle

import (
	"fmt"
	"strings"
)

// A packer puts small values into words and hashes them.
type packer struct {
	h    hasher
	word uint64
	bits uint
}

func (p *packer) put(v uint64, width uint) {
	if p.bits+width > 64 {
		p.flush()
	}
	p.word |= v << p.bits
	p.bits += width
}

func (p *packer) putBits(bs ...bool) {
	for _, b := range bs {
		if b {
			p.put(1, 1)
		} else {
			p.put(0, 1)
		}
	}
}

func (p *packer) flush() {
	p.h.add(p.word)
	p.word, p.bits = 0, 0
}

func (p *packer) position(at Position) {
	p.put(at.Login, 3)
	p.put(min(at.Generation, 15), 4)
}

var orders = map[int][][maxProcs]int{
	1: {{0, 1, 2}},
	2: {{0, 1, 2}, {1, 0, 2}},
	3: {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}},
}

// mark hashes a world. Worlds that differ only in the names of processes, or in what
// can never matter again, have one mark.
func (w *world) mark(cfg *config) mark {
	var best mark
	for n, order := range orders[cfg.procs] {
		m := w.markAs(cfg, &order)
		if n == 0 || m.a < best.a || m.a == best.a && m.b < best.b {
			best = m
		}
	}
	return best
}

func (w *world) markAs(cfg *config, order *[maxProcs]int) mark {
	p := packer{h: hasher{0x243F6A8885A308D3, 0x13198A2E03707344}}
	var place [maxProcs]int
	for at, i := range order {
		place[i] = at
	}
	undo := w.spent[lostWrite] < cfg.budget[lostWrite]
	for _, i := range order[:cfg.procs] {
		w.packProcess(&p, i, &place, undo)
	}
	w.packStore(&p, &w.store, &place)
	if undo {
		w.packStore(&p, &w.before, &place)
	}
	if w.lease.holder == 0 {
		p.put(0, 3)
	} else {
		i := int(w.lease.holder - 1)
		p.put(uint64(place[i])+1, 2)
		p.putBits(w.procs[i].life == w.lease.life)
	}
	for t := uint8(1); t <= w.ntok; t++ {
		tok := &w.tokens[t]
		p.put(uint64(tok.login), 2)
		p.put(uint64(tok.gen), 3)
		p.put(uint64(tok.parent), 4)
		p.put(uint64(tok.child), 4)
		p.putBits(tok.used, tok.open, tok.saved)
		if cfg.variants {
			p.put(uint64(place[tok.by]), 2)
		}
	}
	for l := uint8(1); l <= w.nlog; l++ {
		p.put(uint64(w.logins[l].number), 3)
		p.putBits(w.logins[l].dead, w.logins[l].out)
	}
	for g := range w.ghosts {
		p.put(uint64(w.ghosts[g].at), 2)
		p.put(uint64(w.ghosts[g].tok), 4)
		p.putBits(w.ghosts[g].resend)
	}
	for f := range w.spent {
		if cfg.budget[f] > 0 {
			p.put(uint64(w.spent[f]), 3)
		}
	}
	p.putBits(w.blind, w.erased)
	p.flush()
	p.flush()
	return mark{p.h.a, p.h.b}
}

func (w *world) packProcess(k *packer, i int, place *[maxProcs]int, undo bool) {
	p := &w.procs[i]
	m := &p.m
	k.position(m.Known)
	k.put(uint64(m.Newest), 2)
	k.put(uint64(m.End), 2)
	k.put(uint64(m.stored), 3)
	k.put(uint64(m.lease), 2)
	w.packRecord(k, &m.read, place)
	k.putBits(m.Doubt, m.twin, m.ready, m.sent, m.told)
	k.put(uint64(p.known), 4)
	k.put(uint64(p.published), 4)
	k.put(uint64(p.access), 2)
	k.put(uint64(p.readTok), 4)
	k.put(w.version(p.readVer, undo), 2)
	seen := w.version(p.seenVer, undo)
	aged := p.readVer != 0 && p.readVer == p.seenVer
	if !aged && seen == 3 {
		seen = 0
	}
	k.put(seen, 2)
	marked := w.store.rec.Marking.There
	k.putBits(aged, p.old && seen != 0 && (marked || aged || undo), p.looked && marked, p.waiting, p.window, p.sending, p.holds, p.unsent)
	k.put(uint64(p.req.at), 2)
	if p.req.at != noRequest {
		k.put(uint64(p.req.tok), 4)
		k.put(uint64(p.req.answer), 4)
		k.position(p.req.parent)
		k.putBits(p.req.resend)
	}
}

// version is what matters of a version: none, the present one, the one before, a
// past one.
func (w *world) version(v uint8, undo bool) uint64 {
	switch {
	case v == 0:
		return 0
	case v == w.store.ver:
		return 1
	case undo && v == w.before.ver:
		return 2
	}
	return 3
}

func (w *world) packRecord(k *packer, r *Record, place *[maxProcs]int) {
	k.position(r.Position)
	k.putBits(r.Ended, r.Marking.There, r.Marking.Doubt)
	owner := uint64(0)
	if r.Marking.Owner != "" {
		owner = 7
		if i, alive := w.writer(r.Marking.Owner); alive {
			owner = uint64(place[i]) + 1
		}
	}
	k.put(owner, 3)
}

func (w *world) packStore(k *packer, s *store, place *[maxProcs]int) {
	k.putBits(s.ver != 0)
	if s.ver != 0 {
		w.packRecord(k, &s.rec, place)
		k.put(uint64(s.tok), 4)
	}
}

// String tells a world in one line.
func (w *world) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Store: %s", w.store.rec.tell(w.store.tok, w.store.ver))
	if w.lease.holder != 0 {
		fmt.Fprintf(&b, ", leased by P%d", w.lease.holder-1)
	}
	for i := range w.procs {
		p := &w.procs[i]
		if p.m.Self == "" {
			continue
		}
		fmt.Fprintf(&b, " | P%d: %s %s", i, Record{Position: p.m.Known}.tell(p.known, 1), [...]string{"", "fresh", "due", "over"}[p.access])
		for _, x := range []struct {
			is   bool
			text string
		}{
			{p.m.Newest == Held, "held"},
			{p.m.Newest == Loose, "loose"},
			{p.m.End == Refused, "refused"},
			{p.m.End == Ended, "ended"},
			{p.m.Doubt, "in doubt"},
			{p.m.ready, "ready"},
			{p.waiting, "waiting"},
			{p.window, "window"},
			{p.sending, "sending"},
			{p.req.at == onItsWay, "request on its way"},
			{p.req.at == processed, "answer on its way"},
			{p.old, "old"},
		} {
			if x.is {
				b.WriteString(", " + x.text)
			}
		}
	}
	return b.String()
}

func (r Record) tell(tok, ver uint8) string {
	switch {
	case ver == 0:
		return "nothing"
	case r.Position == Position{}:
		return "nothing known"
	case r.IsLogout():
		return fmt.Sprintf("logout of %d", r.Login)
	}
	s := fmt.Sprintf("%d.%d (token %d)", r.Login, r.Generation, tok)
	if r.Ended {
		s += " ended"
	}
	if r.Marking.There {
		s += fmt.Sprintf(" marked by %q", r.Marking.Owner)
	}
	if r.Marking.Doubt {
		s += " in doubt"
	}
	return s
}
