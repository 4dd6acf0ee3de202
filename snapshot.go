package authtrip

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/lifecycle"
	"example.com/authtrip/internal/wire"
)

// A snapshot is one token as it is handed out. It never changes, but for what
// servers said of it.
type snapshot struct {
	// First what every request reads: among many sessions it is one line of the
	// processor's cache.

	header [1]string // the Authorization header's value; "": there is none, see err

	// All times count from born, which has a monotonic reading: steps of the clock do
	// no harm.
	born    time.Time
	next    atomic.Int64 // when a reader has to do something: refresh, or a look at the Store
	refused atomic.Bool  // by an API, and to be replaced

	refresh  time.Duration // when it is due for refresh
	lifetime time.Duration // when it expires
	asked    atomic.Int64  // when the Store was looked at last

	bound *binding // of a bound token; nil of any other
	of    *session // whose it is; nil if a third-party source made the token
	rec   *record  // what the Store holds of it; nil if a third-party source made it
	// The token as programs get it. Of a record it is made when somebody asks for it:
	// requests need the header alone.
	made atomic.Pointer[oauth2.Token]

	// Of a token that replaced a rejected one:
	verdict  atomic.Int32  // what its first use came to
	refusals int32         // how many in succession were rejected when they were new
	patience time.Duration // how long it is kept if it is one of them
}

const (
	verdictUnknown int32 = iota
	verdictAccepted
	verdictRefused
)

// fresh reports whether a reader may take the token and go.
func (snap *snapshot) fresh() bool {
	return snap != nil && !snap.refused.Load() && time.Since(snap.born) < time.Duration(snap.next.Load())
}

func (snap *snapshot) usable() bool {
	return snap != nil && !snap.refused.Load() && time.Since(snap.born) < snap.lifetime
}

// due reports whether the token is due for refresh.
func (snap *snapshot) due() bool { return time.Since(snap.born) >= snap.refresh }

// lookDue reports whether the Store has to be looked at, before the token is due for
// refresh. It works for nil.
func (snap *snapshot) lookDue() bool {
	return snap != nil && !snap.loggedOut() && !snap.due() && time.Since(snap.born) >= time.Duration(snap.next.Load())
}

// looked says that the Store was looked at just now.
func (snap *snapshot) looked() {
	now := time.Since(snap.born)
	snap.asked.Store(int64(now))
	snap.next.Store(int64(min(snap.refresh, now+lookInterval)))
}

// position orders the snapshot among those of its session. It works for nil.
func (snap *snapshot) position() lifecycle.Position {
	if snap == nil {
		return lifecycle.Position{}
	}
	return snap.rec.position()
}

// loggedOut reports whether the snapshot stands for a logout.
func (snap *snapshot) loggedOut() bool { return snap != nil && snap.rec != nil && snap.rec.LoggedOut }

// judge records what the first use of a new token came to. One that was accepted
// once is a good one, whatever happens to it later.
func (snap *snapshot) judge(ok bool) {
	v := verdictRefused
	if ok {
		v = verdictAccepted
	}
	snap.verdict.CompareAndSwap(verdictUnknown, v)
}

// token returns the token, always the same one.
func (snap *snapshot) token() *oauth2.Token {
	if tok := snap.made.Load(); tok != nil {
		return tok
	}
	snap.made.CompareAndSwap(nil, snap.rec.token())
	return snap.made.Load()
}

// access returns the access token.
func (snap *snapshot) access() string {
	if snap.rec != nil {
		return string(snap.rec.AccessToken)
	}
	return snap.made.Load().AccessToken
}

// login returns the name of the login that the token comes from: the same until another
// user may have logged in. It is "" where that is not known.
func (snap *snapshot) login() string {
	if snap.rec == nil {
		return ""
	}
	return snap.rec.Login
}

// value returns the Authorization header's value, shared by all requests. Its capacity
// is 1, so that nobody can append to it in place.
func (snap *snapshot) value() []string { return snap.header[:] }

// err returns why the token has no header; nil if it has one.
func (snap *snapshot) err() error {
	if snap.header[0] != "" {
		return nil
	}
	if snap.bound != nil {
		return snap.bound.err
	}
	var err error
	if snap.rec != nil {
		_, err = authorization(snap.rec.TokenType, string(snap.rec.AccessToken))
	} else {
		_, err = headerOf(snap.token())
	}
	return err
}

// newSnapshot makes of a record what a request needs.
func newSnapshot(of *session, rec *record, early time.Duration) *snapshot {
	now := time.Now()
	own := *rec
	snap := &snapshot{of: of, rec: &own, born: now}
	of.set.common.share(&own)
	if rec.isBound() {
		snap.bind(snap.binder())
	} else if value, err := authorization(rec.TokenType, string(rec.AccessToken)); err == nil {
		// One string holds the header, of which the token is the tail, and the other
		// secrets: among many users half the memory, and one block of the allocator's.
		all := value + rec.Login + string(rec.RefreshToken)
		login := len(value) + len(rec.Login)
		snap.header[0], own.AccessToken = all[:len(value)], text(all[len(bearer):len(value)])
		own.Login, own.RefreshToken = all[len(value):login], text(all[login:])
	}
	switch {
	case rec.AccessToken == "":
	case rec.Expiry == 0:
		snap.refresh, snap.lifetime = math.MaxInt64, math.MaxInt64
	default:
		total := rec.Expiry.time().Sub(rec.ObtainedAt.time())
		// By another machine's clock it may seem to live longer than it does.
		left := min(rec.Expiry.time().Sub(now), total)
		// What is on its way when a token expires is rejected, so it expires a little
		// early.
		snap.lifetime = left - min(total/20, 10*time.Second)
		snap.refresh = min(left-earlyShare(early, total), snap.lifetime)
	}
	snap.next.Store(int64(snap.refresh))
	return snap
}

// replaces reports whether snap is another token than old, or the same one that a server has
// given once more. Both may be nil.
func (snap *snapshot) replaces(old *snapshot) bool {
	if snap == nil || old == nil {
		return snap != old
	}
	return snap.access() != old.access() || snap.rec.ObtainedAt != old.rec.ObtainedAt
}

// follow takes over what is known of the snapshot before: one with the same access
// token keeps its times, unless a server has given it again, and what servers said of it;
// and one that replaces a rejected token counts how many were rejected before it.
func (snap *snapshot) follow(old *snapshot) {
	switch {
	case old == nil || old.rec == nil:
	case old.access() == snap.access() && old.rec.Login == snap.rec.Login:
		if old.rec.ObtainedAt == snap.rec.ObtainedAt { // or the server has extended its life
			snap.born, snap.refresh, snap.lifetime = old.born, old.refresh, old.lifetime
			snap.next.Store(old.next.Load())
			snap.asked.Store(old.asked.Load())
		}
		snap.refused.Store(old.refused.Load())
		snap.verdict.Store(old.verdict.Load())
		snap.refusals, snap.patience = old.refusals, old.patience
	case old.rec.Login == snap.rec.Login && (old.refused.Load() || old.verdict.Load() == verdictRefused):
		snap.refusals = 1
		if old.verdict.Load() == verdictRefused {
			snap.refusals = old.refusals + 1
		}
		snap.patience = pauseAfter(int(snap.refusals))
	}
}

// earlyShare is how long before its expiry a token of this lifetime is refreshed.
func earlyShare(early, total time.Duration) time.Duration {
	d := min(early, total/2)
	switch {
	case d < 0:
		return 0
	case d == 0:
		d = min(total/5, 5*time.Minute)
	}
	return d - time.Duration(random(int64(d)/5+1))
}

const (
	bearer     = "Bearer "
	dpopScheme = "DPoP "
)

// authorization is the value of the Authorization header, built once for all
// requests.
func authorization(tokenType, access string) (string, error) {
	if tokenType != "" && !strings.EqualFold(tokenType, "bearer") {
		return "", fmt.Errorf("authtrip: token has type %q, want Bearer", wire.Clean(tokenType))
	}
	return headerValue(bearer, access)
}

// headerValue is a scheme with a space after it, and the token.
func headerValue(scheme, access string) (string, error) {
	if access == "" {
		return "", errors.New("authtrip: token has no access token")
	}
	for i := range access {
		if c := access[i]; c <= ' ' || c > '~' {
			return "", fmt.Errorf("authtrip: access token has a character at position %d that no header can carry", i)
		}
	}
	return scheme + access, nil
}
