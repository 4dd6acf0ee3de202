package chaos

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Verdict is what a ledger says.
type Verdict struct {
	Kills, Sessions, Logins, Requests, Refreshes int

	Again int // uses of a refresh token that a killed process had used
	Lost  int // sessions that the server has ended
	// InGrace are those of them whose refresh token came again within the server's grace.
	InGrace int
	// Doubles are uses of a refresh token while the process that had used it was alive.
	Doubles []string
	// Unexplained are sessions that were lost although nobody was killed between the
	// server's answer and the save.
	Unexplained []string
	// Soonest is the shortest time between a use and that of the next process.
	Soonest time.Duration
	// Slowest is the longest time between the answer that a process had not saved and its
	// end.
	Slowest time.Duration
	// Latest is the longest time between a use and that of the next process, of the
	// sessions that live.
	Latest time.Duration
}

func (v Verdict) String() string {
	return fmt.Sprintf("%d kills, %d sessions, %d logins, %d requests, %d refreshes; used again after a kill %d (soonest after %v, latest of a session that lives %v), "+
		"lost %d, of these within the grace %d (killed within %v of the answer), double uses %d, of the lost not explained %d",
		v.Kills, v.Sessions, v.Logins, v.Requests, v.Refreshes, v.Again, v.Soonest.Round(time.Millisecond), v.Latest.Round(time.Millisecond),
		v.Lost, v.InGrace, v.Slowest.Round(time.Millisecond), len(v.Doubles), len(v.Unexplained))
}

// saveTime is how long a Source tries to save an answer.
const saveTime = 2500 * time.Millisecond

// Judge holds the ledger against what is promised.
func (r *Run) Judge(tb testing.TB) Verdict {
	tb.Helper()
	r.mu.Lock()
	v := Verdict{Kills: r.kills, Sessions: r.Sessions}
	failures := slices.Clone(r.failures)
	r.mu.Unlock()
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	v.Logins, v.Requests = l.logins, l.requests
	for i, tok := range l.order {
		l.judge(&v, tok, fmt.Sprintf("%s, token %d", tok.session, i))
	}
	for _, text := range slices.Concat(failures, v.Doubles, v.Unexplained) {
		tb.Error(text)
	}
	tb.Log(v)
	return v
}

// judge judges the uses of one refresh token.
func (l *ledger) judge(v *Verdict, tok *token, name string) {
	var by *use // the one that the server rotated it for
	for i, u := range tok.uses {
		if u.rotated() {
			v.Refreshes++
		}
		if i > 0 && by == nil && tok.uses[i-1].overlaps(u) {
			v.Doubles = append(v.Doubles, fmt.Sprintf("%s is on its way twice: %s", name, l.story(tok)))
		}
		switch {
		case by == nil && u.rotated():
			by = u
			continue
		case by == nil:
			continue
		}
		dead, killed := l.deaths[by.process]
		if !killed || u.arrived.Before(dead.before) {
			v.Doubles = append(v.Doubles, fmt.Sprintf("%s is used while the process that used it is alive: %s", name, l.story(tok)))
			continue
		}
		v.Again++
		gap := u.arrived.Sub(by.arrived)
		if v.Soonest == 0 || gap < v.Soonest {
			v.Soonest = gap
		}
		if u.rotated() {
			v.Latest = max(v.Latest, gap)
			continue
		}
		v.Lost++
		if gap < l.grace {
			v.InGrace++
		}
		v.Slowest = max(v.Slowest, dead.before.Sub(by.answered))
		if !tok.wasLostBy(by, dead) {
			v.Unexplained = append(v.Unexplained, fmt.Sprintf("%s is lost: %s", name, l.story(tok)))
		}
		break
	}
}

// overlaps reports whether u was on its way when next came.
func (u *use) overlaps(next *use) bool {
	return u.answered.IsZero() || next.arrived.Before(u.answered)
}

// wasLostBy reports whether the successor of tok came to a process that was killed before
// it had saved it: no Store has had it, and nobody has ever used it.
func (tok *token) wasLostBy(by *use, dead death) bool {
	next := tok.next
	return next != nil && next.saved.IsZero() && len(next.uses) == 0 && dead.before.Sub(by.answered) < saveTime
}

// story tells the uses of a token.
func (l *ledger) story(tok *token) string {
	var b strings.Builder
	at := func(t time.Time) time.Duration { return t.Sub(l.began).Round(time.Millisecond) }
	for i, u := range tok.uses {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "process %d at %v, status %d at %v", u.process, at(u.arrived), u.status, at(u.answered))
		if d, ok := l.deaths[u.process]; ok {
			fmt.Fprintf(&b, ", killed at %v", at(d.before))
		}
	}
	if tok.next != nil {
		fmt.Fprintf(&b, "; what it was rotated to was used %d times, saved %v", len(tok.next.uses), !tok.next.saved.IsZero())
	}
	return b.String()
}
