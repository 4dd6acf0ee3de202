package lifecycle

// Sets that several rows share.
const (
	answered  set[Stored] = 1<<HasRecord | 1<<HasNothing | 1<<Tombstone
	unsaved   set[Newest] = 1<<Held | 1<<Loose
	usable    set[Token]  = 1<<Fresh | 1<<Due
	inDoubt   set[Marker] = 1<<ReadyAgain | 1<<Answered | 1<<Used | 1<<OtherOld
	guarded   set[Care]   = 1<<Careful | 1<<StoreMayFail
	something set[Token]  = 1<<Fresh | 1<<Due | 1<<Over
	over      set[End]    = 1<<Refused | 1<<Ended | 1<<LoggedOut
)

// Table is the decision, row by row. docs/protocol.md explains it.
var Table = Rows{ //nolint:gochecknoglobals // a constant, if Go had those of this type
	// Before the Store is read.
	{Name: "a look is asked for", Stored: of(NotAsked), Look: of(Yes), Step: Load},
	{Name: "the next attempt is not due", Stored: of(NotAsked), Waiting: of(Yes), Step: Rest},
	{Name: "fresh, nothing to do", Stored: of(NotAsked), Token: of(Fresh), Newest: of(Settled), Step: Serve},
	{Name: "read the record", Stored: of(NotAsked), Step: Load},

	// The Store cannot be relied on.
	{Name: "no answer: nothing is known", Stored: of(NoAnswer), Care: of(Careful), Step: Rest},
	{Name: "unreadable: nothing is known", Stored: of(Unreadable), Care: guarded, Step: Rest},
	{Name: "handed out before it is saved", Stored: of(NoAnswer, Unreadable), Newest: of(Held), Step: Publish},

	// Somebody knows better.
	{Name: "newer than what is known here", Stored: of(HasRecord, Tombstone), Order: of(Newer), Step: Publish},
	{Name: "logged out", Stored: of(Tombstone), Order: of(Same), Step: EndSession},

	// This process knows better.
	{Name: "it was saved", Stored: of(HasRecord), Order: of(Same), Newest: unsaved, Step: Publish},
	{Name: "a successor is saved over any marker", Stored: answered, Newest: unsaved, Step: Save},
	{Name: "a logout that the Store has lost", Stored: of(HasRecord, Tombstone), Order: of(Older), End: of(LoggedOut), Step: Save},

	// The session is over.
	{Name: "the record does not say yet that it is over", Stored: of(HasRecord), Order: of(Same), End: of(Refused), Step: Save},
	{Name: "over, and the access token too", Stored: answered, End: over, Token: of(Over), Step: EndSession},
	{Name: "over, and nobody asks, or the Store does not", End: over, Step: Rest},

	// A record that was lost, wholly or in its last writes.
	{Name: "put back what was lost", Stored: of(HasNothing), Token: something, Care: guarded, Step: Save},
	{Name: "put back what was newer", Stored: of(HasRecord, Tombstone), Order: of(Older), Care: guarded, Step: Save},

	{Name: "fresh", Token: of(Fresh), Step: Serve},

	// What can be sent again at no loss needs no marker and no lease.
	{Name: "free, and not due", Care: of(Free), Waiting: of(Yes), Step: Rest},
	{Name: "free", Care: of(Free), Step: Send},
	{Name: "nobody has logged in, and an attempt is not due", Stored: of(HasNothing), Token: of(None), Waiting: of(Yes), Step: Rest},
	{Name: "nobody has logged in: the Refresher says what to do", Stored: of(HasNothing), Token: of(None), Step: Send},

	// A refresh token that was sent, or may be on its way.
	{Name: "the marker is taken back", Stored: of(HasRecord), Marker: of(Ready, ReadyAgain), Waiting: of(Yes), Step: Save},
	{Name: "nobody need wait for what was answered", Stored: of(HasRecord), Marker: of(Answered), Step: Save},
	{Name: "a resend is near", Marker: inDoubt, Grace: of(Open), Waiting: of(Yes), Step: Wait},
	{Name: "not due", Waiting: of(Yes), Step: Rest},
	{Name: "never resent", Marker: inDoubt, Grace: of(Never), Step: Rest},
	{Name: "served while its outcome is unknown", Marker: inDoubt, Token: usable, Grace: of(Closed), Step: Rest},
	{Name: "without a Store, and nothing known", Stored: of(NoAnswer), Token: of(None), Step: Rest},
	{Name: "without a Store", Stored: of(NoAnswer), Step: Send},
	{Name: "take the lease", Lease: of(NotTaken), Step: TakeLease},
	{Name: "somebody has the lease", Lease: of(Theirs), Step: Wait},
	{Name: "somebody may be sending", Marker: of(OtherRecent), Step: Wait},
	{Name: "marked", Marker: of(Ready, ReadyAgain), Step: Send},
	{Name: "mark", Step: Mark},
}
