package lifecycle

import (
	"cmp"
	"math"
)

// A Position orders what can be under one key: by the number of the login, then by
// the number of refreshes since. The zero value stands for nothing at all.
type Position struct {
	Login      uint64
	Generation uint64
}

// LogoutOf is the position of a logout: it is newer than all tokens of its login.
func LogoutOf(login uint64) Position { return Position{login, math.MaxUint64} }

// IsLogout reports whether p is the position of a logout.
func (p Position) IsLogout() bool { return p.Generation == math.MaxUint64 }

// Compare is negative if p is older than q, and positive if it is newer.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Login, q.Login), cmp.Compare(p.Generation, q.Generation))
}

// A Record is what the decision has to know of a record in the Store.
type Record struct {
	Position
	// Ended says that the server refused the record's refresh token.
	Ended   bool
	Marking Marking
}

// A Marking is the refresh marker in a record.
type Marking struct {
	There bool
	// Owner is the random name of the process that wrote it. "" is nobody: such a
	// marker binds everybody for a span, as it stands in a record that may be older
	// than what some process holds.
	Owner string
	// Doubt says that the outcome of an earlier send is unknown. Where there is no marker,
	// nothing is on its way any more: nobody has to wait.
	Doubt bool
}

// A Memory is what one process knows of one session. The zero value, with a Self,
// knows nothing.
type Memory struct {
	Self string // the random name of this process, not ""

	// What lasts between rounds.
	Known  Position // of the newest token or logout known here
	Newest Newest
	End    End
	Doubt  bool // Known's refresh token was sent from here, outcome unknown

	// What belongs to a round.
	stored Stored
	read   Record
	twin   bool // read has Known's position, and other tokens
	lease  Lease
	ready  bool // read has a marker of this round, and nothing was sent since
	sent   bool // read has a marker of this round, and something was sent under it
	told   bool // the same, and an answer came that left its outcome unknown
}

// A Moment is what changes by itself, and with the one who asks.
type Moment struct {
	Token   Token
	Grace   Grace
	Care    Care
	Waiting bool
	Look    bool
	// Unchanged says that the version of the record that was read last has been seen
	// unchanged for a span, by this process's monotonic clock.
	Unchanged bool
}

// Facts are what to decide on.
func (m *Memory) Facts(now Moment) Facts {
	return Facts{
		Stored: m.stored, Order: m.order(), Marker: m.marker(now.Unchanged),
		Token: now.Token, Lease: m.lease, Grace: now.Grace, Care: now.Care,
		Newest: m.Newest, End: m.End, Waiting: BitOf(now.Waiting), Look: BitOf(now.Look),
	}
}

func (m *Memory) order() Order {
	if m.stored != HasRecord && m.stored != Tombstone {
		return Same
	}
	switch c := m.read.Compare(m.Known); {
	case c > 0 || c == 0 && m.twin:
		return Newer
	case c < 0:
		return Older
	}
	return Same
}

func (m *Memory) marker(unchanged bool) Marker {
	marking := m.read.Marking
	if m.stored != HasRecord {
		marking = Marking{}
	}
	doubt := m.Doubt || marking.Doubt
	switch {
	case marking.There && marking.Owner != m.Self && !unchanged:
		return OtherRecent
	case marking.There && marking.Owner != m.Self && marking.Owner != "":
		return OtherOld
	case m.ready && doubt:
		return ReadyAgain
	case m.ready:
		return Ready
	case m.told:
		return Answered
	case doubt:
		return Used
	}
	return NoMarker
}

// Rested ends a round, or a part of it: the lease is given back, what was read is
// forgotten, and a marker of this round is ready no more.
func (m *Memory) Rested() {
	m.lease = NotTaken
	m.forget()
}

func (m *Memory) forget() {
	m.stored, m.read = NotAsked, Record{}
	m.twin, m.ready, m.sent, m.told = false, false, false, false
}

// Stored returns what the Store said in this round.
func (m *Memory) Stored() Stored { return m.stored }

// Loaded takes what the Store said. twin says that rec has Known's position, and
// other tokens than those known here: of two answers to one refresh token, the saved
// one counts.
func (m *Memory) Loaded(said Stored, rec Record, twin bool) {
	m.forget()
	m.stored, m.read, m.twin = said, rec, twin
	if said != HasRecord || m.order() != Same {
		return
	}
	switch {
	case rec.Ended:
		m.End = Ended
	case m.End == Ended:
		m.End = Refused // the Store lost it
	}
}

// Published takes what was read as the newest that is known; without an answer of the
// Store, what is held is handed out as it is.
func (m *Memory) Published(care Care) {
	switch {
	case m.stored == HasRecord || m.stored == Tombstone:
		m.Know(m.read.Position)
		if m.read.Ended {
			m.End = Ended
		}
		m.twin = false
	case care == Free:
		m.Newest = Settled // it can be had again: the Store is a convenience
	default:
		m.Newest = Loose
	}
}

// Know makes what is at p, which is in the Store, the newest that is known here.
func (m *Memory) Know(p Position) {
	m.Known, m.Newest, m.End, m.Doubt = p, Settled, Alive, false
	if p.IsLogout() {
		m.End = LoggedOut
	}
}

// Import makes what is at p, which is not in the Store yet, the newest that is known.
func (m *Memory) Import(p Position) {
	m.Know(p)
	m.Newest = Held
}

// Draft says what a Save writes. Where the record that is saved is not the end of
// this round's own marked refresh, it gets a marker of nobody: some process may hold
// a newer token, and has to have the time to show it.
func (m *Memory) Draft(care Care) Record {
	draft := Record{Position: m.Known}
	switch first := m.stored == HasNothing && m.Known.Generation == 0 && m.Newest != Settled; {
	case care == Free, m.sent, first, m.Known.IsLogout():
	case m.Newest == Settled && m.stored == HasRecord && m.order() == Same:
		draft.Ended = m.End != Alive // and the marker is taken back
		draft.Marking.Doubt = m.Doubt || m.read.Marking.Doubt
	default:
		draft.Marking = Marking{There: true, Doubt: m.Doubt}
	}
	return draft
}

// Saved says that the Store took Draft.
func (m *Memory) Saved(draft Record) {
	m.forget()
	m.stored, m.read = HasRecord, draft
	switch {
	case draft.IsLogout():
		m.stored = Tombstone
	case draft.Ended:
		m.End = Ended
	}
}

// Conflicted says that somebody else was faster: the record is read again.
func (m *Memory) Conflicted() { m.forget() }

// Failed says that the Store failed, and may or may not have done what it was asked.
func (m *Memory) Failed() {
	m.forget()
	m.stored = NoAnswer
}

// Leased says who has the lease. If it was waited for, the record is read again.
func (m *Memory) Leased(by Lease, waited bool) {
	m.lease = by
	if waited {
		m.forget()
	}
}

// Mark says what marker is written.
func (m *Memory) Mark(unchanged bool) Record {
	rec := m.read
	k := m.marker(unchanged)
	rec.Marking = Marking{There: true, Owner: m.Self, Doubt: k == Used || k == OtherOld}
	return rec
}

// Marked says that the Store took the marker.
func (m *Memory) Marked(rec Record) {
	m.read = rec
	m.ready = true
}

// Unready says that the lease or the marker has become too old to mark or to send
// under: as long as it was not renewed, somebody else may have taken the lease.
func (m *Memory) Unready() { m.lease, m.ready = NotTaken, false }

// An Outcome is how the server's answer is to be read.
type Outcome uint8

// The outcomes of a send.
const (
	NewToken     Outcome = iota
	Refusal              // the server said no to the refresh token itself
	Unknown              // it may have been processed, or may be any moment
	Unclear              // an answer came that does not say whether it was processed
	NotProcessed         // it certainly was not
)

// Answered takes the answer to a send of the refresh token at parent. It reports false
// if something newer is known by now, and the answer counts no more. login is the
// number that a first token gets, where nothing was known.
func (m *Memory) Answered(parent Position, o Outcome, care Care, login uint64) bool {
	if m.Known != parent {
		m.forget()
		return false
	}
	switch o {
	case NewToken:
		m.sent = m.ready
		m.ready = false
		if parent == (Position{}) {
			m.follow(Position{Login: login})
		} else {
			m.follow(Position{parent.Login, parent.Generation + 1})
		}
	case Refusal:
		if care != Free {
			m.End, m.Doubt = Refused, false
		}
		m.forget() // somebody else may have been faster: it is read again
	case Unknown, Unclear:
		m.Doubt = m.Doubt || care != Free
		m.told = o == Unclear && m.ready
		m.ready = false
	case NotProcessed: // the marker can be taken back, or sent under again
	}
	return true
}

func (m *Memory) follow(p Position) {
	m.Known, m.Newest, m.End, m.Doubt, m.twin = p, Held, Alive, false, false
}

// Late takes a token that came after its round had ended, as the answer to the
// refresh token at parent. It reports false if something newer is known by now.
func (m *Memory) Late(parent Position) bool {
	switch {
	case m.Known != parent:
		return false
	case parent == (Position{}):
		m.follow(Position{Login: 1})
	default:
		m.follow(Position{parent.Login, parent.Generation + 1})
	}
	return true
}
