package lifecycle

import (
	"fmt"
	"testing"
)

// everyFact calls f with every combination of facts, until it returns false.
func everyFact(f func(Facts) bool) {
	for i := range numFacts {
		n := i
		digit := func(base int) uint8 {
			d := n % base
			n /= base
			return uint8(d)
		}
		if !f(Facts{
			Stored: Stored(digit(6)), Order: Order(digit(3)), Marker: Marker(digit(7)), Token: Token(digit(4)),
			Lease: Lease(digit(3)), Grace: Grace(digit(3)), Care: Care(digit(3)), Newest: Newest(digit(3)),
			End: End(digit(4)), Waiting: Bit(digit(2)), Look: Bit(digit(2)),
		}) {
			return
		}
	}
}

const numFacts = 6 * 3 * 7 * 4 * 3 * 3 * 3 * 3 * 4 * 2 * 2

// A law is a statement about every combination of facts.
type law struct {
	name string
	when func(Facts) bool
	not  set[Step] // these steps are not taken
	only set[Step] // one of these is taken; 0 is any
}

var laws = []law{
	{
		name: "nothing is done before the Store is read", only: of(Load, Rest, Serve),
		when: func(f Facts) bool { return f.Stored == NotAsked },
	},
	{
		name: "a look always reads the Store", only: of(Load),
		when: func(f Facts) bool { return f.Stored == NotAsked && f.Look == Yes },
	},
	{
		name: "the Store is read once in a round", not: of(Load),
		when: func(f Facts) bool { return f.Stored != NotAsked },
	},
	{
		name: "before the next attempt is due, not even the Store is asked, but for a look", only: of(Rest),
		when: func(f Facts) bool { return f.Stored == NotAsked && f.Look == No && f.Waiting == Yes },
	},
	{
		name: "what is not fresh, or not saved, makes a round", only: of(Load),
		when: func(f Facts) bool {
			return f.Stored == NotAsked && f.Waiting == No && (f.Token != Fresh || f.Newest != Settled)
		},
	},
	{
		name: "only a fresh token is served", not: of(Serve),
		when: func(f Facts) bool { return f.Token != Fresh },
	},
	{
		name: "a fresh token is served at once", only: of(Serve),
		when: func(f Facts) bool {
			return f.Stored == NotAsked && f.Token == Fresh && f.Newest == Settled && f.Look == No && f.Waiting == No
		},
	},
	{
		name: "what costs nothing needs no Store", only: of(Send),
		when: func(f Facts) bool {
			return f.Care == Free && f.End == Alive && f.Token == Over && f.Newest == Settled && f.Waiting == No &&
				(f.Stored == NoAnswer || f.Stored == Unreadable || f.Stored == HasNothing)
		},
	},
	{
		name: "without a Store, where the program says so, what came is handed out", only: of(Publish),
		when: func(f Facts) bool { return f.Stored == NoAnswer && f.Care != Careful && f.Newest == Held },
	},
	{
		name: "a tombstone ends the session", only: of(EndSession),
		when: func(f Facts) bool { return f.Stored == Tombstone && f.Order == Same },
	},
	{
		name: "what the record says already is not saved again", not: of(Save),
		when: func(f Facts) bool {
			return f.Stored == HasRecord && f.Order == Same && f.Newest == Settled && !ownOpen.has(f.Marker) && f.End != Refused
		},
	},
	{
		name: "the server's no is saved, for the others", only: of(Save),
		when: func(f Facts) bool {
			return f.Stored == HasRecord && f.Order == Same && f.Newest == Settled && f.End == Refused
		},
	},
	{
		name: "a fresh token asks no Store", only: of(Serve, Rest),
		when: func(f Facts) bool {
			return f.Stored == NotAsked && f.Token == Fresh && f.Newest == Settled && f.Look == No
		},
	},
	{
		name: "nothing is sent without a marker, but where it costs nothing or the program says so", not: of(Send),
		when: func(f Facts) bool {
			first := f.Stored == HasNothing && f.Token == None
			return f.Care != Free && f.Marker != Ready && f.Marker != ReadyAgain && !first &&
				(f.Stored != NoAnswer || f.Care != StoreMayFail)
		},
	},
	{
		name: "nothing is sent or marked without the lease, but without a Store", not: of(Send, Mark),
		when: func(f Facts) bool {
			return f.Care != Free && f.Lease != Mine && f.Stored == HasRecord
		},
	},
	{
		name: "never means never", not: of(Send, Mark),
		when: func(f Facts) bool {
			return f.Care != Free && f.Grace == Never && inDoubt.has(f.Marker) && f.Stored == HasRecord
		},
	},
	{
		name: "while the outcome is unknown and the access token is usable, only the grace period is used", not: of(Send, Mark, TakeLease),
		when: func(f Facts) bool {
			return f.Care != Free && inDoubt.has(f.Marker) && usable.has(f.Token) && f.Grace == Closed && f.Stored == HasRecord
		},
	},
	{
		name: "nothing is sent or marked before the next attempt is due", not: of(Send, Mark, TakeLease),
		when: func(f Facts) bool { return f.Waiting == Yes },
	},
	{
		name: "a fresh token is not refreshed", not: of(Send, Mark, TakeLease, Wait),
		when: func(f Facts) bool { return f.Token == Fresh },
	},
	{
		name: "a session that is over is not put back", not: of(Save),
		when: func(f Facts) bool {
			return f.End == Refused && f.Newest == Settled && (f.Stored != HasRecord || f.Order != Same)
		},
	},
	{
		name: "whoever asks is told that it is over", only: of(EndSession),
		when: func(f Facts) bool {
			return (f.End == Ended || f.End == Refused && f.Stored == HasNothing) && answered.has(f.Stored) && f.Order == Same &&
				f.Newest == Settled && f.Token == Over
		},
	},
	{
		name: "before the next attempt is due, only a grace period is waited for", not: of(Wait),
		when: func(f Facts) bool { return f.Waiting == Yes && f.Grace != Open },
	},
	{
		name: "before the resend in a grace period there is a wait, and no rest", only: of(Wait),
		when: func(f Facts) bool {
			return plain(f) && f.Token == Due && f.Grace == Open && f.Waiting == Yes && !ownOpen.has(f.Marker) && inDoubt.has(f.Marker)
		},
	},
	{
		name: "nobody waits for a request that is over", only: of(Save),
		when: func(f Facts) bool {
			return plain(f) && f.Token != Fresh && (f.Marker == Answered || f.Waiting == Yes && ownOpen.has(f.Marker))
		},
	},
	{
		name: "a grace period is used while the access token is usable, too", not: of(Rest),
		when: func(f Facts) bool {
			return plain(f) && f.Token == Due && f.Grace == Open && f.Waiting == No && inDoubt.has(f.Marker)
		},
	},
	{
		name: "somebody who may be sending is waited for", only: of(Wait),
		when: func(f Facts) bool {
			return plain(f) && f.Token == Over && f.Waiting == No && f.Marker != Answered && (f.Grace != Never || !inDoubt.has(f.Marker)) &&
				(f.Lease == Theirs || f.Lease == Mine && f.Marker == OtherRecent)
		},
	},
	{
		name: "a token that is needed is asked for", only: of(Mark, Send),
		when: func(f Facts) bool {
			return plain(f) && f.Token == Over && f.Waiting == No && f.Grace != Never && f.Lease == Mine && f.Marker != OtherRecent && f.Marker != Answered
		},
	},
	{
		name: "without a Store, where the program says so, it is asked for", only: of(Send),
		when: func(f Facts) bool {
			return f.Stored == NoAnswer && f.Care == StoreMayFail && f.End == Alive && f.Newest == Settled &&
				f.Token == Over && f.Waiting == No && f.Grace != Never
		},
	},
	{
		name: "without a Store nobody asks for a first token", not: of(Send),
		when: func(f Facts) bool { return f.Care != Free && f.Stored == NoAnswer && f.Token == None },
	},
	{
		name: "what costs nothing is not put back", not: of(Save),
		when: func(f Facts) bool { return f.Care == Free && f.Newest == Settled && f.End == Alive },
	},
	{
		name: "where nobody has logged in, the Refresher says what to do", only: of(Send),
		when: func(f Facts) bool {
			return f.Stored == HasNothing && f.Token == None && f.Waiting == No && f.End == Alive && f.Newest == Settled
		},
	},
	{
		name: "only what is newer, or was not saved, is published", not: of(Publish),
		when: func(f Facts) bool {
			return f.Newest == Settled && (f.Order != Newer || f.Stored != HasRecord && f.Stored != Tombstone)
		},
	},
	{
		name: "a token that is due is refreshed while it is usable", only: of(TakeLease, Mark, Send),
		when: func(f Facts) bool {
			return plain(f) && f.Token == Due && f.Waiting == No && f.Lease != Theirs && (f.Marker == NoMarker || f.Marker == Ready)
		},
	},
	{
		name: "a fresh token is served, unless there is something to tell first", only: of(Serve, Save, Publish),
		when: func(f Facts) bool {
			return f.Token == Fresh && f.End == Alive && f.Look == No && (f.Stored == HasRecord || f.Stored == HasNothing)
		},
	},
	{
		name: "a usable token is waited for only where a request may be on its way", not: of(Wait),
		when: func(f Facts) bool {
			return usable.has(f.Token) && (f.Marker == NoMarker || f.Marker == Ready) && f.Lease != Theirs
		},
	},
	{
		name: "a session is over only by its server or by a logout", not: of(EndSession),
		when: func(f Facts) bool { return f.End == Alive && f.Stored != Tombstone },
	},
	{
		name: "a session is not over while the Store knows better", not: of(EndSession),
		when: func(f Facts) bool { return f.Order == Newer && (f.Stored == HasRecord || f.Stored == Tombstone) },
	},
	{
		name: "a session is not over while the Store does not answer", not: of(EndSession),
		when: func(f Facts) bool { return !answered.has(f.Stored) },
	},
	{
		name: "a session is not over while a successor is not saved", not: of(EndSession),
		when: func(f Facts) bool { return f.Newest != Settled && f.Stored != Tombstone },
	},
	{
		name: "nothing is served, sent or marked once it is over", not: of(Serve, Send, Mark),
		when: func(f Facts) bool { return f.End != Alive && f.Stored != NotAsked },
	},
	{
		name: "a newer record is published before anything else", only: of(Publish),
		when: func(f Facts) bool { return f.Order == Newer && (f.Stored == HasRecord || f.Stored == Tombstone) },
	},
	{
		name: "a newer record is not saved over", not: of(Save, Mark, Send),
		when: func(f Facts) bool { return f.Order == Newer && (f.Stored == HasRecord || f.Stored == Tombstone) },
	},
	{
		name: "a successor is saved as soon as the Store answers", only: of(Save, Publish),
		when: func(f Facts) bool {
			return f.Newest != Settled && (f.Stored == HasRecord || f.Stored == HasNothing)
		},
	},
	{
		name: "what was lost is put back", only: of(Save, Rest, EndSession, Publish),
		when: func(f Facts) bool {
			return f.Stored == HasNothing && f.Token != None && f.Care != Free
		},
	},
	{
		name: "what is not saved is handed out only if the program says so", not: of(Publish),
		when: func(f Facts) bool { return f.Stored == NoAnswer && f.Care == Careful || f.Stored == HasNothing },
	},
	{
		name: "nothing is written where the Store cannot be relied on", not: of(Save, Mark),
		when: func(f Facts) bool { return !answered.has(f.Stored) },
	},
	{
		name: "what costs nothing takes no lease and no marker", not: of(TakeLease, Mark, Wait),
		when: func(f Facts) bool { return f.Care == Free },
	},
	{
		name: "somebody else's marker is waited for", not: of(Mark, Send),
		when: func(f Facts) bool { return f.Marker == OtherRecent && f.Care != Free && f.Stored == HasRecord },
	},
	{
		name: "an open grace period is waited for, and not rested through", not: of(Rest, EndSession),
		when: func(f Facts) bool {
			return f.Stored == HasRecord && f.Order == Same && f.Newest == Settled && f.End == Alive && f.Care != Free &&
				f.Grace == Open && inDoubt.has(f.Marker) && f.Token == Over
		},
	},
}

// ownOpen are markers of this round.
var ownOpen = of(Ready, ReadyAgain, Answered)

// plain is a record that is as it is known here, of a session that lives.
func plain(f Facts) bool {
	return f.Stored == HasRecord && f.Order == Same && f.Newest == Settled && f.End == Alive && f.Care != Free
}

// broken returns the laws that rows break, at most so many, and the rows that no
// combination reaches.
func broken(rows Rows, most int) []string {
	var found []string
	brokenLaws := make([]bool, len(laws))
	reached := make([]bool, len(rows))
	everyFact(func(f Facts) bool {
		at := -1
		for i := range rows {
			if rows[i].Matches(f) {
				at = i
				break
			}
		}
		if at < 0 {
			if len(found) == 0 {
				found = append(found, fmt.Sprintf("no row decides %+v", f))
			}
			return len(found) < most
		}
		reached[at] = true
		for i := range laws {
			l, step := &laws[i], of(rows[at].Step)
			if !brokenLaws[i] && (l.not&step != 0 || l.only != 0 && l.only&step == 0) && l.when(f) {
				brokenLaws[i] = true
				found = append(found, fmt.Sprintf("%s: %q decides %+v", l.name, rows[at].Name, f))
			}
		}
		return len(found) < most
	})
	if len(found) > 0 {
		return found
	}
	for i := range reached {
		if !reached[i] {
			found = append(found, fmt.Sprintf("no combination reaches %q", rows[i].Name))
		}
	}
	return found
}

func TestEveryCombinationIsDecidedAndEveryRowIsReached(t *testing.T) {
	for _, what := range broken(Table, 20) {
		t.Error(what)
	}
	if names := map[string]bool{}; true {
		for _, r := range Table {
			if names[r.Name] {
				t.Errorf("two rows are called %q", r.Name)
			}
			names[r.Name] = true
		}
	}
}
