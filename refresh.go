package authtrip

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
)

// A Refresher gets a new access token. [Grant] is the usual one.
//
// old is the token to be replaced, with its refresh token if it has one, and
// nil if there is none; it must not be modified. Refresh must honour ctx, which
// is nobody's request: it has a deadline of its own. A [Source] never calls it
// twice at once.
//
// An error should be a *[RefreshError]. Of any other, while old has a refresh
// token, a Source must assume that the token was spent and the answer lost;
// an *[oauth2.RetrieveError] is understood.
type Refresher interface {
	Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)
}

// RefresherFunc is a function as a [Refresher].
type RefresherFunc func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)

// Refresh implements [Refresher].
func (f RefresherFunc) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	return f(ctx, old)
}

// ReplayForever is a [Source.ReplayWindow] for servers whose refresh tokens are
// not one-time: spending one again does no harm.
const ReplayForever time.Duration = math.MaxInt64

// A Source is the living token of one subject: it hands out the token that is
// there, renews it before it ends, and asks for another when a server refused
// it. It is an [oauth2.TokenSource] and a [ContextTokenSource].
//
// A usable token costs an atomic load. One that is getting old is renewed in the
// background and served meanwhile; one that has ended makes its callers wait,
// each on its own context, for one refresh that belongs to none of them. A new
// token is stored before anybody gets it.
//
// Only Refresher is required. A Source is safe for concurrent use, must not be
// copied, and its fields must not be modified after first use. [Source.Close]
// ends it.
type Source struct {
	// Refresher gets new tokens; required.
	Refresher Refresher
	// Initial is the token at hand, from a login or from the configuration; a
	// refresh token alone will do. It is used while Store has no record. If nil,
	// the first token is asked for when it is needed.
	Initial *oauth2.Token
	// Store keeps the record between processes. If nil, it is kept in memory.
	Store Store
	// Key is the record's key in Store. If "", it is "default".
	Key string
	// Variant tells access tokens apart where one refresh token gives several, for
	// other resources or scopes (RFC 8707): Sources with the same Store and Key
	// share the refresh token, and those with the same Variant the access token
	// too. It is a name; what to ask for is the Refresher's.
	Variant string
	// EarlyRefresh is how long before its end a token is renewed. If 0, a fifth
	// of its lifetime, and at most five minutes; at most half a lifetime in any
	// case, less a random share so that replicas do not meet. Negative means not
	// before the token has ended.
	EarlyRefresh time.Duration
	// RefreshTimeout ends a refresh, whoever waits for it. If 0 or less, it is ten
	// seconds. Where another process refreshes the same token, its lease is waited
	// for before. A lease is five seconds longer than this: if that is more than
	// ReplayWindow, a process that dies in a refresh takes the login along.
	RefreshTimeout time.Duration
	// ReplayWindow is how long after a refresh token was first sent without an
	// answer it may be sent again. If 0, it is 20 seconds; negative means never;
	// [ReplayForever] suits servers that do not rotate refresh tokens, and programs
	// that would rather have a server end a login than end it themselves. A server's
	// documentation calls it leeway, grace or overlap period.
	ReplayWindow time.Duration
	// AllowRefreshWithoutStore refreshes also while Store does not answer, from what
	// is in memory, and hands out the new token before it is saved. Setting this
	// where other processes share the token can spend a one-time refresh token
	// twice, which ends the login; and a process that dies then takes the token
	// along. Without it a usable token is served and a one-time one is not spent.
	AllowRefreshWithoutStore bool
	// OnEvent, if set, is told what happens. It is called synchronously, with no
	// lock held, from several goroutines at once.
	OnEvent func(Event)

	cur     atomic.Pointer[snapshot]
	failing atomic.Pointer[failure]
	own     flight.Group[*snapshot]
	shared  *flight.Group[*snapshot] // of Sources, in place of own: less memory for each
	subject string                   // in shared
	private MemoryStore              // where Store is nil
	logins  sync.Mutex               // one SetToken at a time, or an older one could be published last

	renewing atomic.Bool                   // there is a flight: no need to ask for one
	info     atomic.Pointer[userInfoEntry] // of its user, if it is one of Sources
	pinned   atomic.Bool                   // there is something unsaved: not to be dropped

	// These belong to the flight.
	unsaved *unsaved // the token that Store did not take
	dead    *deadToken
	name    string    // see owner
	unsent  time.Time // of the mark that may or may not be in the Store
}

// failure is why the last refresh failed, and when the next may be tried.
type failure struct {
	of   *snapshot // the token that was to be replaced
	err  error
	at   time.Time
	wait time.Duration
	row  int // failures in a row
}

// failure returns the last failure to replace cur. One of an older token does not
// count any more.
func (s *Source) failure(cur *snapshot) *failure {
	if f := s.failing.Load(); f != nil && f.of == cur {
		return f
	}
	return nil
}

func (f *failure) due() bool { return f == nil || time.Since(f.at) >= f.wait }

// Token returns the token: [Source.TokenContext] without a context.
func (s *Source) Token() (*oauth2.Token, error) { return s.TokenContext(context.Background()) }

// TokenContext returns the token, which must not be modified. It blocks only if
// there is no usable token, until a refresh is done or ctx ends; if ctx ends, it
// returns the cause, and the refresh goes on.
//
// Its errors are described at [ErrReauthRequired]. After a failure, while no
// token is usable, the same error is returned at once until the next attempt is
// due.
func (s *Source) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return snap.token, nil
}

// Invalidate says that a server refused tok, so that the next caller gets
// another one. A token that is not the current one has been replaced already,
// and nothing happens.
//
// Where tokens are refused as soon as they are made, the replacement is paced:
// until it is due, the refused token stays. Invalidate never blocks.
func (s *Source) Invalidate(tok *oauth2.Token) {
	if snap := s.cur.Load(); snap != nil && tok != nil && snap.token.AccessToken == tok.AccessToken {
		s.reject(snap)
	}
}

// SetToken puts tok, the result of a new login, in place of whatever is there,
// and ends a state of failure. It returns when tok is stored; on an error the
// old token is still in place.
func (s *Source) SetToken(ctx context.Context, tok *oauth2.Token) error {
	if tok == nil || tok.AccessToken == "" && tok.RefreshToken == "" {
		return errors.New("authtrip: SetToken: token is empty")
	}
	s.logins.Lock()
	defer s.logins.Unlock()
	rec := (*record)(nil).with(tok, time.Now())
	for {
		_, version, err := s.load(ctx)
		if err != nil && version == "" && !errors.Is(err, ErrNotFound) {
			return err
		}
		// A record that is there and cannot be read is replaced as well.
		version, err = s.store().Save(ctx, s.key(), rec.encode(s.Variant), version)
		if errors.Is(err, ErrConflict) {
			continue // a refresh was faster; the new login still wins
		}
		if err != nil {
			return fmt.Errorf("authtrip: SetToken: %w", err)
		}
		s.cur.Store(s.newSnapshot(rec, version))
		s.emit(Event{Kind: EventTokenObtained})
		return nil
	}
}

// Forget removes the token from the Store and from memory, as at the end of a
// login; other processes notice at their next refresh. After it every caller gets
// [ErrReauthRequired] until [Source.SetToken].
//
// It returns what it removed, for the server to revoke; nil if there was nothing,
// or nothing that can be read. On an error the token is still in place.
func (s *Source) Forget(ctx context.Context) (*oauth2.Token, error) {
	s.logins.Lock()
	defer s.logins.Unlock()
	for {
		rec, version, err := s.load(ctx)
		if err == nil || version != "" {
			err = s.store().Delete(ctx, s.key(), version)
		}
		if errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("authtrip: Forget: %w", err)
		}
		gone := s.newSnapshot(&record{}, "")
		gone.forgotten = true
		old := s.cur.Swap(gone)
		switch {
		case rec != nil:
			return rec.token(), nil
		case old != nil && !old.forgotten:
			return old.token, nil
		case old == nil:
			return s.Initial, nil
		}
		return nil, nil
	}
}

// Close ends the Source: it blocks until a refresh in flight is done, which takes
// RefreshTimeout and the time to save at most, as a refresh that is cut short can
// lose a token. One that waits for another process ends at once, with [ErrClosed].
// After it a token that is still usable is served, and no other is asked for.
//
// A Source that is one of [Sources] ends with them, and not by this.
func (s *Source) Close() error {
	if s.shared == nil {
		s.own.Close()
	}
	return nil
}

func (s *Source) flights() *flight.Group[*snapshot] {
	if s.shared != nil {
		return s.shared
	}
	return &s.own
}

// snapshot is the way of every request.
func (s *Source) snapshot(ctx context.Context) (*snapshot, error) {
	snap := s.cur.Load()
	if snap.fresh() {
		return snap, nil
	}
	if snap.usable() {
		if !s.renewing.Load() && s.failure(snap).due() {
			s.flights().Start(ctx, s.subject, s.flightTimeout(), func(ctx context.Context) (*snapshot, error) {
				return s.renew(ctx, snap)
			})
		}
		return snap, nil
	}
	if f := s.failure(snap); !f.due() {
		return nil, f.err
	}
	got, err := s.flights().Do(ctx, s.subject, s.flightTimeout(), func(ctx context.Context) (*snapshot, error) {
		return s.renew(ctx, snap)
	})
	if err == nil && got.refused.Load() {
		// It was refused before its flight had ended.
		seen := got
		got, err = s.flights().Do(ctx, s.subject, s.flightTimeout(), func(ctx context.Context) (*snapshot, error) {
			return s.renew(ctx, seen)
		})
	}
	if errors.Is(err, flight.ErrClosed) {
		return nil, ErrClosed
	}
	return got, err
}

// reject marks a snapshot as refused by a server, unless it replaced a refused
// one that was refused so lately that another try would be one of a series.
func (s *Source) reject(snap *snapshot) {
	if snap.refusals > 0 {
		snap.judge(false)
	}
	if snap.verdict.Load() == verdictRefused && time.Since(snap.born) < snap.patience {
		return
	}
	if !snap.refused.Swap(true) {
		s.emit(Event{Kind: EventTokenRefused})
	}
}

// backoff is the wait after n failures in a row: a quarter of a second,
// doubling, up to half a minute, less a random share.
func backoff(n int) time.Duration {
	d := min(250*time.Millisecond<<min(max(n-1, 0), 10), 30*time.Second)
	return d - time.Duration(rand.Int64N(int64(d)/5))
}

func (s *Source) timeout() time.Duration {
	if s.RefreshTimeout <= 0 {
		return 10 * time.Second
	}
	return s.RefreshTimeout
}
