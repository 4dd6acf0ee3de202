package lifecycle

// The exploration runs the shipped decision and the shipped memory through a model
// of everything around them: the loop (model_loop_test.go), the server
// (model_server_test.go), the Store (model_store_test.go) and what can go wrong
// (model_faults_test.go). A world is one state of all that. It is a value: a copy is
// another state.

const (
	maxProcs  = 3
	maxTokens = 10
	maxLogins = 4
	maxGhosts = 2
)

// A world is one state of the model.
type world struct {
	procs  [maxProcs]process
	store  store
	before store // the Store as it was before its last write
	lease  lease
	tokens [maxTokens]token // by the number of the token; 0 is none
	logins [maxLogins]login // as the server counts them
	ghosts [maxGhosts]request
	spent  [numFaults]uint8
	ntok   uint8
	nlog   uint8
	blind  bool // something was sent without a marker, as the program chose
	erased bool // the Store has lost what somebody wrote
}

// A process is one replica: its memory, and what the loop keeps beside it.
type process struct {
	m         Memory
	known     uint8 // the token at m.Known
	published uint8 // the token that is handed out
	access    Token // how its access token stands
	life      uint8 // how often the process was started
	readVer   uint8 // the version that was read in this round
	readTok   uint8 // the token in it
	seenVer   uint8 // the version whose age is measured
	old       bool  // it was seen unchanged for a span
	looked    bool  // the last round ended well, with the Store as it is now
	waiting   bool  // the next attempt is not due
	window    bool  // the grace period of the known token, counted from the first send
	sending   bool  // the loop waits for the answer to req
	holds     bool  // the lease is this round's
	unsent    bool  // under this round's marker nothing is on its way any more
	req       request
}

// A request is a refresh token on its way to the server, or the answer on its way back.
type request struct {
	at     reqState
	tok    uint8
	answer uint8 // the token in the answer; 0 is a no
	by     uint8 // the process
	resend bool  // sent because the grace period is open
	parent Position
}

type reqState uint8

const (
	noRequest reqState = iota
	onItsWay
	processed // the answer is on its way
)

// A store is the record in the Store.
type store struct {
	rec Record
	tok uint8
	ver uint8 // 0: there is no record
}

type lease struct {
	holder uint8 // process + 1
	life   uint8 // which of its lives
}

// A token is what the server's ledger, and the one of the invariants, say of it.
type token struct {
	login  uint8 // of the server
	gen    uint8
	parent uint8
	child  uint8 // the last successor
	by     uint8 // the process that asked for it
	used   bool
	open   bool // the server's grace period, since it was used
	saved  bool // some Store has had it
}

// A login is one session at the server.
type login struct {
	number uint8 // in Position.Login
	dead   bool  // revoked
	out    bool  // logged out by the program
}

// A fault has a budget in each configuration.
type fault uint8

const (
	crash       fault = iota // a process stops, and starts anew
	lostMessage              // a request or an answer is lost
	lateAnswer               // an answer comes after the loop has given up
	notTaken                 // the connection is refused, or a 429
	storeFails               // a call of the Store fails, done or not
	lostWrite                // the Store fails over and loses its last write
	lostRecord               // the Store loses the record
	restored                 // an old record is restored, and the Store says so
	stall                    // a process stops between two steps for longer than its lease
	newLogin                 // SetToken
	logout                   // Forget
	serverEnds               // the server ends the session by itself
	// Broken promises of time.
	shortSpan    // a span passes although a flight is not over
	shortLease   // a lease ends although its holder is at work
	shortWindow  // the server's grace period is shorter than said
	silentLoss   // the Store loses its last two writes, the marker among them
	lateStraggle // an answer comes after its span
	numFaults
)

// A serverKind is how a server treats a used refresh token.
type serverKind uint8

const (
	strict      serverKind = iota // reuse revokes the session
	graceSame                     // the parent of the unused token gets the same successor
	graceSecond                   // it gets another successor
	reusable                      // refresh tokens are not rotated
)

// A config is one exploration.
type config struct {
	name        string
	procs       int
	generations uint8 // tokens of the last generation do not expire
	server      serverKind
	care        Care
	grace       Grace // Open: for ever; Closed: the window if the server has one
	leases      bool
	initial     bool // Source.Initial
	variants    bool // each process has a variant of its own
	start       startKind
	budget      [numFaults]uint8
	rows        Rows
	decided     *Decision
	limit       int
	slip        slip // a mistake of the loop
}

type startKind uint8

const (
	allHave startKind = iota // everybody has the first token, and it is saved
	stored                   // the Store has a record, and nobody has read it
	nothing                  // nobody has logged in
)

// Decision caches what rows decide: a row is looked up for each state.
type Decision [1 << 21]uint8

func (f Facts) index() int {
	i := int(f.Stored)
	i = i*3 + int(f.Order)
	i = i*7 + int(f.Marker)
	i = i*4 + int(f.Token)
	i = i*3 + int(f.Lease)
	i = i*3 + int(f.Grace)
	i = i*3 + int(f.Care)
	i = i*3 + int(f.Newest)
	i = i*4 + int(f.End)
	i = i*2 + int(f.Waiting)
	return i*2 + int(f.Look)
}

func (cfg *config) decide(f Facts) Step {
	i := f.index()
	if s := cfg.decided[i]; s != 0 {
		return Step(s - 1)
	}
	s := cfg.rows.decide(f)
	cfg.decided[i] = uint8(s) + 1
	return s
}

// windowed reports whether the server takes a used refresh token for a while.
func (cfg *config) windowed() bool {
	return cfg.grace == Closed && (cfg.server == graceSame || cfg.server == graceSecond)
}

func name(proc int, life uint8) string {
	const names = "abcdefghijklmnopqrstuvwxyz"
	i := proc + maxProcs*int(life)
	return names[i : i+1]
}

// writer tells whose marker it is: the process, and whether it still runs.
func (w *world) writer(owner string) (proc int, alive bool) {
	proc = int(owner[0]-'a') % maxProcs
	return proc, w.procs[proc].m.Self == owner
}

func (cfg *config) first() world {
	var w world
	for i := range cfg.procs {
		w.procs[i].m.Self = name(i, 0)
	}
	if cfg.start == nothing && !cfg.initial {
		return w
	}
	w.ntok, w.nlog = 1, 1
	w.logins[1].number = 1
	w.tokens[1] = token{login: 1}
	if cfg.start == nothing {
		return w
	}
	w.tokens[1].saved = true
	w.store = store{rec: Record{Position: Position{Login: 1}}, tok: 1, ver: 1}
	w.before = w.store
	if cfg.start == stored {
		return w
	}
	for i := range cfg.procs {
		p := &w.procs[i]
		p.m.Know(Position{Login: 1})
		p.known, p.published, p.access, p.looked = 1, 1, Fresh, true
	}
	return w
}

// position returns the position that a token has by the server's ledger.
func (w *world) position(t uint8) Position {
	tok := w.tokens[t]
	return Position{uint64(w.logins[tok.login].number), uint64(tok.gen)}
}

// issue makes the next token. It returns 0 if the model has no room for it.
func (w *world) issue(t token) uint8 {
	if w.ntok+1 >= maxTokens {
		return 0
	}
	w.ntok++
	w.tokens[w.ntok] = t
	return w.ntok
}
