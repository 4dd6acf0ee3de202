package lifecycle

import (
	"fmt"
	"strings"
)

// I6 is about what comes after the faults: from every state, with no more of them and
// everybody getting their turn, all have a usable token again.

// A healer remembers from which states all ends well.
type healer struct {
	cfg  config
	well map[mark]bool
	told *strings.Builder // nil: nobody listens
}

func newHealer(cfg *config) *healer {
	h := &healer{cfg: *cfg, well: map[mark]bool{}}
	h.cfg.budget = budget{}.of()
	return h
}

const (
	fairRounds = 40
	fairTurns  = 60
)

// check returns the invariant that does not hold when the faults end in w.
func (h *healer) check(w *world) string {
	is := *w
	is.spent = [numFaults]uint8{}
	var way []mark
	for range fairRounds {
		m := is.mark(&h.cfg)
		if h.well[m] {
			break
		}
		if len(way) > 0 && way[len(way)-1] == m {
			if bad := h.settled(&is); bad != "" {
				return bad
			}
			break
		}
		way = append(way, m)
		if bad := h.round(&is); bad != "" {
			return bad
		}
		if len(way) == fairRounds {
			return "I6: it never comes to rest"
		}
	}
	for _, m := range way {
		h.well[m] = true
	}
	return ""
}

// round gives everybody a turn, and lets a span pass.
func (h *healer) round(w *world) string {
	c := &chooser{}
	told := func() {
		if h.told != nil && len(c.said) > 0 {
			fmt.Fprintf(h.told, "     %s\n", strings.Join(c.said, ";"))
		}
	}
	for g := range w.ghosts {
		if w.ghosts[g].at == onItsWay {
			w.take(&h.cfg, &w.ghosts[g], &chooser{})
		}
		w.ghosts[g] = request{}
	}
	for i := range h.cfg.procs {
		p := &w.procs[i]
		for turns := 0; ; turns++ {
			if turns == fairTurns {
				return "I6: a round does not end"
			}
			*c = chooser{telling: h.told != nil}
			if p.req.at == onItsWay {
				if !w.take(&h.cfg, &p.req, c) {
					return "" // no room for another token in the model
				}
			}
			if p.req.at == processed {
				w.arrive(&h.cfg, i, c)
			}
			p.waiting = p.waiting && turns > 0
			w.turn(&h.cfg, i, p.m.stored == NotAsked && h.cfg.slip != slipLook, c)
			told()
			if c.bad != "" {
				return c.bad
			}
			if p.m.stored == NotAsked && p.m.lease == NotTaken && !p.sending {
				break
			}
		}
	}
	w.leaseEnds(&h.cfg, &chooser{})
	for i := range h.cfg.procs {
		*c = chooser{telling: h.told != nil}
		if w.span(&h.cfg, i, c) {
			told()
		}
	}
	return ""
}

// settled returns what is wrong with a state that does not change any more.
func (h *healer) settled(w *world) string {
	for i := range h.cfg.procs {
		p := &w.procs[i]
		switch {
		case p.m.Newest != Settled:
			return "I5: a successor is never saved"
		case p.m.End == Ended && w.store.rec.Position == p.m.Known && !w.store.rec.Ended:
			return "I6: the record never says that the session is over"
		case p.m.Known == (Position{}):
			if w.store.ver != 0 {
				return "I6: somebody never reads the record"
			}
		case w.isOver(p.m.Known.Login), p.published != 0 && p.access != Over:
		case h.cfg.grace == Never && (p.m.Doubt || w.store.rec.Marking != (Marking{})):
		default:
			return "I6: somebody never has a usable token again"
		}
	}
	return ""
}
