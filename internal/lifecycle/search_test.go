package lifecycle

import (
	"fmt"
	"math/bits"
	"strings"
)

// A chooser enumerates what a transition leaves open: each call of pick is a choice,
// and next goes on to the next combination of choices.
type chooser struct {
	picks, of [16]uint8
	n, depth  int
	bad       string // the invariant that is broken
	telling   bool
	said      []string
	is        world // what the transition makes
}

func (c *chooser) pick(n int) int {
	if c.depth == c.n {
		c.picks[c.n], c.of[c.n] = 0, uint8(n)
		c.n++
	}
	c.depth++
	return int(c.picks[c.depth-1])
}

func (c *chooser) next() bool {
	c.depth, c.bad, c.said = 0, "", nil
	for c.n > 0 {
		i := c.n - 1
		if c.picks[i]++; c.picks[i] < c.of[i] {
			return true
		}
		c.n--
	}
	return false
}

func (c *chooser) say(text string, proc int) {
	if !c.telling {
		return
	}
	if proc >= 0 && !strings.HasPrefix(text, " ") {
		text = fmt.Sprintf("P%d: %s", proc, text)
	}
	c.said = append(c.said, text)
}

func (c *chooser) broken(what string) {
	if c.bad == "" {
		c.bad = what
	}
}

// act is one transition, by the choices of c. It reports false if it cannot happen.
func (w *world) act(cfg *config, c *chooser) bool {
	who := c.pick(cfg.procs + 1)
	if who == cfg.procs {
		return w.elsewhere(cfg, c.pick(otherEvents), c)
	}
	return w.event(cfg, who, c.pick(procEvents), c)
}

// successors calls yield with each world that w can become.
func (w *world) successors(cfg *config, c *chooser, yield func(is *world, choice int) bool) {
	c.n, c.depth, c.bad = 0, 0, ""
	for choice := 0; ; choice++ {
		c.is = *w
		if c.is.act(cfg, c) {
			checkChange(cfg, w, &c.is, c)
			if !yield(&c.is, choice) {
				return
			}
		}
		if !c.next() {
			return
		}
	}
}

// A search is a breadth-first search over the worlds of a configuration.
type search struct {
	cfg    *config
	slots  []uint32 // an open-addressed table of indices + 1 into marks
	marks  []mark
	from   []uint32 // the index of the state before
	choice []uint16
	depth  int
	bad    string
	badAt  uint32 // the last state before it
	badBy  int
	full   bool
}

// A mark is a 128-bit hash of a world.
type mark struct{ a, b uint64 }

func newSearch(cfg *config) *search {
	if cfg.rows == nil {
		cfg.rows = Table
	}
	cfg.decided = new(Decision)
	return &search{cfg: cfg, slots: make([]uint32, 1<<16)}
}

// add reports whether a world is new.
func (s *search) add(m mark, from uint32, choice int) bool {
	if len(s.marks)*3 > len(s.slots)*2 {
		s.grow()
	}
	mask := uint64(len(s.slots) - 1)
	i := m.a & mask
	for s.slots[i] != 0 {
		if s.marks[s.slots[i]-1] == m {
			return false
		}
		i = (i + 1) & mask
	}
	s.marks = append(s.marks, m)
	s.from = append(s.from, from)
	s.choice = append(s.choice, uint16(choice))
	s.slots[i] = uint32(len(s.marks))
	return true
}

func (s *search) grow() {
	s.slots = make([]uint32, 2*len(s.slots))
	mask := uint64(len(s.slots) - 1)
	for n, m := range s.marks {
		i := m.a & mask
		for s.slots[i] != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = uint32(n + 1)
	}
}

// run searches until all states are seen, or an invariant is broken. visit is called
// with each state; what it returns is the invariant that the state breaks.
func (s *search) run(visit func(w *world) string) {
	w := s.cfg.first()
	s.add(w.mark(s.cfg), 0, 0)
	level, next := []world{w}, []world(nil)
	base := uint32(0) // the index of level[0]
	var c chooser
	for len(level) > 0 {
		nextBase := uint32(len(s.marks))
		for n := range level {
			at := base + uint32(n)
			if visit != nil {
				if bad := visit(&level[n]); bad != "" {
					s.bad, s.badAt, s.badBy = bad, at, -1
					return
				}
			}
			level[n].successors(s.cfg, &c, func(is *world, choice int) bool {
				if c.bad != "" {
					s.bad, s.badAt, s.badBy = c.bad, at, choice
					return false
				}
				if s.add(is.mark(s.cfg), at, choice) {
					next = append(next, *is)
				}
				return true
			})
			if s.bad != "" {
				return
			}
		}
		if s.cfg.limit > 0 && len(s.marks) > s.cfg.limit {
			s.full = true
			return
		}
		level, next = next, level[:0]
		base = nextBase
		s.depth++
	}
}

// story tells the way to what was found, in numbered steps.
func (s *search) story() string {
	var choices []int
	for at := s.badAt; at != 0; at = s.from[at] {
		choices = append(choices, int(s.choice[at]))
	}
	w := s.cfg.first()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n(%s)\n", s.bad, s.cfg.name)
	n := 0
	step := func(choice int) {
		c := &chooser{telling: true}
		w.successors(s.cfg, c, func(is *world, at int) bool {
			if at < choice {
				return true
			}
			n++
			fmt.Fprintf(&b, "%3d. %s\n", n, strings.Join(c.said, ";"))
			w = *is
			return false
		})
	}
	for i := len(choices) - 1; i >= 0; i-- {
		step(choices[i])
		fmt.Fprintf(&b, "     %s\n", w.String())
	}
	if s.badBy >= 0 {
		step(s.badBy)
		fmt.Fprintf(&b, "     %s\n", w.String())
	}
	if h := newHealer(s.cfg); s.badBy < 0 {
		b.WriteString("From here on there are no more faults, and everybody gets their turn:\n")
		h.told = &b
		h.check(&w)
		fmt.Fprintf(&b, "     and so on: %s\n", w.String())
	}
	return b.String()
}

// hasher mixes words into 128 bits.
type hasher struct{ a, b uint64 }

func (h *hasher) add(v uint64) {
	hi, lo := bits.Mul64(h.a^v, 0x9E3779B97F4A7C15)
	h.a = hi ^ lo
	hi, lo = bits.Mul64(h.b+v^0xD6E8FEB86659FD93, 0xA0761D6478BD642F)
	h.b = hi ^ lo ^ bits.RotateLeft64(h.b, 29)
}
