// Package lifecycle decides what may be done next with a session's tokens.
//
// A process that needs a token runs a loop: it asks [Decide] for the next step,
// takes it, and folds what came of it into a [Memory], of which the next facts are
// made. The package is pure: it has no I/O, no clock, no lock and no context.
// Times enter as facts. So the decision and the folding, both as they are shipped,
// can be explored over every order of events; the tests of this package do that.
package lifecycle

// Facts are all that the decision depends on.
type Facts struct {
	Stored  Stored
	Order   Order
	Marker  Marker
	Token   Token
	Lease   Lease
	Grace   Grace
	Care    Care
	Newest  Newest
	End     End
	Waiting Bit
	Look    Bit
}

// Stored is what the Store said when it was last read.
type Stored uint8

// The answers of a Store.
const (
	NotAsked   Stored = iota // in this round
	HasRecord                // a record with tokens
	HasNothing               // no record: a Store that lost it, or nobody has logged in yet
	Tombstone                // a record that says that the user has logged out
	Unreadable               // a record of a later format, or one that was damaged
	NoAnswer                 // the Store failed
)

// Order compares the record in the Store with the newest one known here.
type Order uint8

// The orders. A process that knows of nothing finds every record newer.
const (
	Same Order = iota
	Older
	Newer
)

// Marker is the refresh marker in the record: it says that the record's refresh
// token may be on its way to the server.
type Marker uint8

// The markers.
const (
	NoMarker    Marker = iota
	Ready              // written in this round, and nothing was sent since
	ReadyAgain         // the same, and the outcome of an earlier send is unknown
	Answered           // written in this round, and an answer came that left the outcome unknown
	Used               // sent, outcome unknown, and nothing is on its way from anybody else
	OtherRecent        // another process's, or nobody's, and not yet seen unchanged for a span
	OtherOld           // another process's, seen unchanged for a span: outcome unknown
)

// Token is the access token that is handed out now.
type Token uint8

// The states of the access token.
const (
	None  Token = iota // nothing is known here: no token, no logout
	Fresh              // usable, and not due for refresh
	Due                // usable, and due for refresh
	Over               // expired or rejected, and somebody waits for another one
)

// Lease is who may refresh by the word of the lease service.
type Lease uint8

// The holders of the lease.
const (
	NotTaken Lease = iota
	Mine           // also if the Store has no leases
	Theirs
)

// Grace is the time in which the server takes a used refresh token once more.
type Grace uint8

// The states of the grace period, counted from the first send.
const (
	Closed Grace = iota // over, or not known, or its resends are used up
	Open
	Never // the program does not want a refresh token to be resent
)

// Care is how a refresh has to be guarded.
type Care uint8

// The degrees of care.
const (
	Careful      Care = iota // a refresh token can be used once, and the Store has to answer
	StoreMayFail             // the same, but the program refreshes without a Store that fails
	Free                     // what is sent can be sent again at no loss
)

// Newest is what became of the newest token known here.
type Newest uint8

// The fates of the newest token.
const (
	Settled Newest = iota // saved and handed out
	Held                  // not saved, and nobody has it yet
	Loose                 // handed out, and not saved
)

// End is how the session stands.
type End uint8

// The ends of a session.
const (
	Alive     End = iota
	Refused       // the server said no to the newest refresh token known here
	Ended         // the same, and the record says so
	LoggedOut     // a logout is the newest that is known here
)

// Bit is a fact that is true or not.
type Bit uint8

// The values of a Bit.
const (
	No Bit = iota
	Yes
)

// BitOf converts a bool.
func BitOf(b bool) Bit {
	if b {
		return Yes
	}
	return No
}

// Step is what is done next.
type Step uint8

// The steps. Serve, Rest, EndSession and Wait forget what was read and give the lease
// back; but while a request of the round is open, or its successor is not saved, the
// lease is kept until it runs out: the Store may have lost the marker.
const (
	Serve      Step = iota // hand out the token: this round is done
	Load                   // read the record
	Publish                // hand out what the record holds; without an answer of the Store, what is held
	Save                   // save what Memory.Draft says
	TakeLease              // wait for the lease
	Wait                   // wait a while, then look again
	Mark                   // write the refresh marker
	Send                   // ask the server
	Rest                   // this round is done: a later one may do more
	EndSession             // this round is done: only a new login helps
)

// Decide returns the next step: that of the first row of [Table] that matches.
func Decide(f Facts) Step { return Table.decide(f) }

// A Row is one line of the decision: where all of its sets hold a fact's value, the
// step is taken. A set that is 0 holds every value.
type Row struct {
	Name    string
	Stored  set[Stored]
	Order   set[Order]
	Marker  set[Marker]
	Token   set[Token]
	Lease   set[Lease]
	Grace   set[Grace]
	Care    set[Care]
	Newest  set[Newest]
	End     set[End]
	Waiting set[Bit]
	Look    set[Bit]
	Step    Step
}

// set is a set of values, as bits.
type set[T ~uint8] uint16

func of[T ~uint8](values ...T) set[T] {
	var s set[T]
	for _, v := range values {
		s |= 1 << v
	}
	return s
}

func (s set[T]) has(v T) bool { return s == 0 || s&(1<<v) != 0 }

// Matches reports whether f is in all of r's sets.
func (r *Row) Matches(f Facts) bool {
	return r.Stored.has(f.Stored) && r.Order.has(f.Order) && r.Marker.has(f.Marker) &&
		r.Token.has(f.Token) && r.Lease.has(f.Lease) && r.Grace.has(f.Grace) &&
		r.Care.has(f.Care) && r.Newest.has(f.Newest) && r.End.has(f.End) &&
		r.Waiting.has(f.Waiting) && r.Look.has(f.Look)
}

// Rows are a decision: the first that matches counts.
type Rows []Row

func (rows Rows) decide(f Facts) Step {
	for i := range rows {
		if rows[i].Matches(f) {
			return rows[i].Step
		}
	}
	return Rest
}
