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
	of     *session // whose it is; nil if a third-party source made the token
	token  *oauth2.Token
	header []string // the Authorization header's value; shared, cap 1
	prover Prover   // of a bound token; nil of any other
	err    error    // why there is no header
	rec    *record  // what the Store holds of it
	login  string   // the record's: the same until another user may have logged in; "": not known

	// All times count from born, which has a monotonic reading: steps of the clock do
	// no harm.
	born     time.Time
	refresh  time.Duration // when it is due for refresh
	lifetime time.Duration // when it expires
	next     atomic.Int64  // when a reader has to do something: refresh, or a look at the Store
	asked    atomic.Int64  // when the Store was looked at last

	refused atomic.Bool // by an API, and to be replaced

	// Of a token that replaced a rejected one:
	verdict  atomic.Int32  // what its first use came to
	refusals int           // how many in succession were rejected when they were new
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

// newSnapshot makes of a record what a request needs.
func newSnapshot(of *session, rec *record, early time.Duration) *snapshot {
	now := time.Now()
	own := *rec
	snap := &snapshot{of: of, token: rec.token(), rec: &own, login: rec.Login, born: now}
	if isBound(snap.token) {
		snap.bind(snap.binder())
	} else {
		snap.header, snap.err = authorization(snap.token)
	}
	if snap.err == nil {
		// The token is the header's tail: among many users, half the memory.
		snap.token.AccessToken = snap.header[0][len(snap.header[0])-len(rec.AccessToken):]
		own.AccessToken = text(snap.token.AccessToken)
	}
	switch {
	case rec.AccessToken == "":
	case rec.Expiry.IsZero():
		snap.refresh, snap.lifetime = math.MaxInt64, math.MaxInt64
	default:
		total := rec.Expiry.Sub(rec.ObtainedAt)
		// By another machine's clock it may seem to live longer than it does.
		left := min(rec.Expiry.Sub(now), total)
		// What is on its way when a token expires is rejected, so it expires a little
		// early.
		snap.lifetime = left - min(total/20, 10*time.Second)
		snap.refresh = min(left-earlyShare(early, total), snap.lifetime)
	}
	snap.next.Store(int64(snap.refresh))
	return snap
}

// follow takes over what is known of the snapshot before: one with the same access
// token keeps its times and what servers said of it, and one that replaces a rejected
// token counts how many were rejected before it.
func (snap *snapshot) follow(old *snapshot) {
	switch {
	case old == nil || old.rec == nil:
	case old.token.AccessToken == snap.token.AccessToken && old.login == snap.login:
		snap.born, snap.refresh, snap.lifetime = old.born, old.refresh, old.lifetime
		snap.next.Store(old.next.Load())
		snap.asked.Store(old.asked.Load())
		snap.refused.Store(old.refused.Load())
		snap.verdict.Store(old.verdict.Load())
		snap.refusals, snap.patience = old.refusals, old.patience
	case old.login == snap.login && (old.refused.Load() || old.verdict.Load() == verdictRefused):
		snap.refusals = 1
		if old.verdict.Load() == verdictRefused {
			snap.refusals = old.refusals + 1
		}
		snap.patience = backoff(snap.refusals)
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
// requests. Its capacity is 1, so that nobody can append to it in place.
func authorization(tok *oauth2.Token) ([]string, error) {
	if tok.TokenType != "" && !strings.EqualFold(tok.TokenType, "bearer") {
		return nil, fmt.Errorf("authtrip: token has type %q, want Bearer", wire.Clean(tok.TokenType))
	}
	return headerValue(bearer, tok)
}

// headerValue is a scheme with a space after it, and the token.
func headerValue(scheme string, tok *oauth2.Token) ([]string, error) {
	if tok.AccessToken == "" {
		return nil, errors.New("authtrip: token has no access token")
	}
	for i := range tok.AccessToken {
		if c := tok.AccessToken[i]; c <= ' ' || c > '~' {
			return nil, fmt.Errorf("authtrip: access token has a character at position %d that no header can carry", i)
		}
	}
	return append(make([]string, 0, 1), scheme+tok.AccessToken), nil
}
