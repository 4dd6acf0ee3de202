package authtrip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
)

// A Refresher gets a new access token. [Grant] is the usual one.
//
// old is the token to be replaced, with its refresh token if it has one, and nil if
// there is none; it must not be modified. Refresh must honour ctx, which is nobody's
// request: it has a deadline of its own. A [Source] does not call it again before it
// has returned or ctx has ended.
//
// An error should be a *[RefreshError]; an *[oauth2.RetrieveError] is understood. Of
// any other error, while old has a refresh token, a Source must assume that the
// server has used it and that the answer was lost, unless the Refresher is
// [Repeatable].
type Refresher interface {
	Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)
}

// Repeatable is implemented by a [Refresher] that knows whether it can be asked again at
// no loss: it does not send the refresh token of old, or one that can be used many
// times. [Grant] and what [FromTokenSource] returns know. Of any other Refresher a
// [Source] assumes that it sends the refresh token of old, once there is one.
type Repeatable interface {
	Repeatable() bool
}

// RefresherFunc is a function as a [Refresher].
type RefresherFunc func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)

// Refresh implements [Refresher].
func (f RefresherFunc) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	return f(ctx, old)
}

// GraceForever is a [Source.GracePeriod] for servers whose refresh tokens can be used
// many times.
const GraceForever time.Duration = math.MaxInt64

// A Source hands out the access token of one session: it refreshes it before it
// expires, and replaces it when an API has rejected it. It is an [oauth2.TokenSource]
// and a [ContextTokenSource].
//
// A usable token costs an atomic load. One that is due for refresh is refreshed in the
// background, and handed out meanwhile. If it has expired, its callers wait, each on
// its own context, for one refresh that belongs to none of them. A new token is saved
// before anybody gets it.
//
// Only Refresher is required, and Key beside Store. A Source is safe for concurrent
// use, must not be copied, and its fields must not be modified after first use.
// [Source.Close] ends it. Printing it shows no token.
type Source struct {
	// Refresher gets new tokens; required.
	Refresher Refresher
	// Store keeps the session between processes. If nil, it is kept in memory.
	Store Store
	// Key names the session in Store; required with a Store. Sources of one Store and
	// one Key have one session: they must be of the same server and client.
	Key string
	// Variant tells access tokens of one session apart, where its refresh token gives
	// several, for other resources or scopes (RFC 8707). It is a name; what to ask for
	// is the Refresher's. Sources with the same Store and Key share the refresh token,
	// and those with the same Variant the access token too. SetToken and Forget of one
	// are noticed by the others at their next refresh, and at once with Watch.
	Variant string
	// Initial is a token from a configuration. It is imported once: it is used only if
	// Store has never had a session under Key, also after Forget. The result of a
	// login goes into SetToken. If nil, the first token is asked for when it is needed.
	Initial *oauth2.Token
	// EarlyRefresh is how long before its expiry a token is refreshed. If 0, a fifth of
	// its lifetime, and at most five minutes; at most half a lifetime in any case, less
	// a random share so that replicas do not meet. Negative means not before it has
	// expired.
	EarlyRefresh time.Duration
	// RefreshTimeout is how long callers wait for a refresh. If 0 or less, it is ten
	// seconds. An answer that comes up to two seconds later is still used. Where
	// another process refreshes the same token, that is waited for before.
	RefreshTimeout time.Duration
	// GracePeriod is how long the server takes a refresh token again after its first
	// use. Servers call it leeway, grace, reuse interval or overlap period. While it
	// runs, a refresh token that was sent without an answer is sent again, twice.
	// After it the refresh token is sent again only when the access token is no longer
	// usable. If 0, it is 20 seconds. [GraceForever] suits servers that do not rotate
	// refresh tokens. Negative means that no refresh token is ever sent again: a lost
	// answer then costs the session, as [ErrInDoubt] and [ErrReauthRequired] say.
	GracePeriod time.Duration
	// AllowRefreshWithoutStore refreshes also while Store does not answer, and hands
	// out the new token before it is saved. Setting this where other processes share
	// the session can use a refresh token twice, which ends the session at servers
	// that rotate; and a process that dies then takes the new token with it. Without
	// it, a usable token is handed out and no refresh token is sent.
	AllowRefreshWithoutStore bool
	// OnEvent, if set, is told what happens. It is called synchronously, with no
	// lock held, from several goroutines at once, some of which are the Source's own: a
	// panic in it ends the program.
	OnEvent func(Event)

	of      atomic.Pointer[session] // the session, as it was used last; nil until the first use
	prepare sync.Mutex              // one first use at a time
	among   *Sources                // whose session it is, if one of many
	private MemoryStore             // where Store is nil
	flights flight.Group[result]
	late    sync.WaitGroup
}

// session returns the session, and makes it at first use. One of Sources may have been
// dropped from memory since the last call, and be there again as another one: they know.
func (s *Source) session() (*session, error) {
	if s.among != nil {
		own, err := s.among.session(s.Key)
		if err == nil && s.of.Load() != own {
			s.of.Store(own)
		}
		return own, err
	}
	if own := s.of.Load(); own != nil {
		return own, nil
	}
	s.prepare.Lock()
	defer s.prepare.Unlock()
	if own := s.of.Load(); own != nil {
		return own, nil
	}
	if s.Store != nil && s.Key == "" {
		return nil, errors.New("authtrip: Source.Key is empty: with a Store, it names the session")
	}
	set, err := newSettings(s, &s.flights, &s.late)
	if err != nil {
		return nil, err
	}
	own := &session{set: set, key: s.Key}
	if set.store == nil {
		set.store = &s.private
	}
	s.of.Store(own)
	return own, nil
}

// snapshot implements tokens.
func (s *Source) snapshot(ctx context.Context) (*snapshot, error) {
	own, err := s.session()
	if err != nil {
		return nil, err
	}
	return own.snapshot(ctx)
}

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

// Refresh replaces the token whatever its state, and returns the new one: by hand what
// happens by itself before a token expires. Concurrent calls share one refresh, also
// with one that is in flight. It is never answered with the token that it was to
// replace. It is no word against that token, which stays in use until there is
// another one: for a token that an API rejected, use Invalidate.
//
// It blocks until the refresh is done or ctx ends. Its errors are those of
// TokenContext; while an attempt after a failure is not due, it returns that failure.
func (s *Source) Refresh(ctx context.Context) (*oauth2.Token, error) {
	own, err := s.session()
	if err != nil {
		return nil, err
	}
	snap, err := own.refresh(ctx)
	if err != nil {
		return nil, err
	}
	return snap.token, nil
}

// Invalidate says that an API rejected tok, so that the next caller gets another one.
// If the token was replaced meanwhile, nothing happens.
//
// Where tokens are rejected as soon as they are made, their replacement is backed off:
// until it is due, the rejected token stays. Invalidate never blocks.
func (s *Source) Invalidate(tok *oauth2.Token) {
	if tok == nil {
		return
	}
	last := s.of.Load()
	if s.among != nil {
		_, _ = s.session() // which may be another one by now
	}
	for _, own := range []*session{last, s.of.Load()} {
		if own == nil {
			continue
		}
		if snap := own.cur.Load(); snap != nil && snap.token.AccessToken == tok.AccessToken {
			s.rejected(snap)
			return
		}
	}
}

// SetToken puts tok, the result of a login, in place of whatever is there. It always
// wins: over what the Store holds, over a refresh in flight, over a session that has
// ended. It returns when tok is saved; on an error the old token is still in place.
// Other processes notice at their next refresh, and at once with [Source.Watch].
func (s *Source) SetToken(ctx context.Context, tok *oauth2.Token) error {
	if tok == nil || tok.AccessToken == "" && tok.RefreshToken == "" {
		return errors.New("authtrip: SetToken: token is empty")
	}
	own, err := s.session()
	if err != nil {
		return err
	}
	return own.login(ctx, tok)
}

// Forget ends the session, as a logout does: it takes the token out of the Store and
// of memory, and leaves a tombstone, so that no other process and no Initial brings
// the session back. After it every caller gets [ErrLoggedOut] until SetToken. Other
// processes notice at their next refresh, and at once with [Source.Watch].
//
// It returns the newest token that it removed, for the server to revoke; nil if there
// was nothing, or nothing that can be read. A refresh of this process that is on its way
// is waited for, two and a half seconds at most, so that this is its token. On an error
// the token is still in place.
func (s *Source) Forget(ctx context.Context) (*oauth2.Token, error) {
	own, err := s.session()
	if err != nil {
		return nil, err
	}
	rec, err := own.logout(ctx)
	if rec == nil || err != nil {
		return nil, err
	}
	return rec.token(), nil
}

// Close ends the Source. It blocks until a refresh in flight is done, which takes
// RefreshTimeout and the time to save at most, as a refresh that is cut short can lose
// a token; and it tries once more to save what could not be saved. A refresh that
// waits for another process ends at once, with [ErrClosed]. After Close a token that
// is still usable is handed out, and no other is asked for.
//
// A Source that is one of [Sources] ends with them, and not by this.
func (s *Source) Close() error {
	if s.among != nil {
		return nil
	}
	s.flights.Close()
	s.late.Wait()
	if own := s.of.Load(); own != nil {
		own.close()
	}
	return nil
}

// String says nothing of the token: it is what a log gets.
func (s *Source) String() string { return "authtrip.Source" }

// GoString implements [fmt.GoStringer] as String does.
func (s *Source) GoString() string { return s.String() }

// LogValue implements [slog.LogValuer] as String does.
func (s *Source) LogValue() slog.Value { return slog.StringValue(s.String()) }

var _ fmt.Stringer = (*Source)(nil)
