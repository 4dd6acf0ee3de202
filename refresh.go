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
// old is the token to be replaced, with its refresh token if it has one. It is nil if
// there is none, and must not be modified. Refresh must honour ctx. That ctx has a
// deadline of its own, and does not end with the request that needs the token. A [Source]
// does not call Refresh again before it has returned or ctx has ended.
//
// An error should be a *[RefreshError]; an *[oauth2.RetrieveError] is understood. Its
// Code invalid_grant ends the session. After a StatusCode of 500 or more, or any other
// error, the outcome is unknown: if old has a refresh token, a Source must assume that
// the server has used it. A [Repeatable] Refresher is exempt.
type Refresher interface {
	Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)
}

// Repeatable is implemented by a [Refresher] that knows whether it can be asked again
// without loss. It can if it does not send the refresh token of old, or if that token
// can be used many times. [Grant] and the result of [FromTokenSource] implement it. A
// [Source] assumes of any other Refresher that it sends the refresh token of old, if
// there is one.
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

// A Source hands out the access token of one session. It refreshes the token before it
// expires, and replaces it when an API has rejected it. It is an [oauth2.TokenSource]
// and a [ContextTokenSource].
//
// A usable token costs an atomic load. One that is due for refresh is refreshed in the
// background, and handed out meanwhile. When it has expired, callers wait for one
// refresh. All of them share it, each waits on its own context, and none can cancel it.
// A new token is saved before anybody gets it.
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
	// Variant names one of several access tokens that a session has, for other resources
	// or scopes (RFC 8707). It is only a name: the Refresher says what to ask for.
	// Sources with the same Store and Key share the refresh token, and those with the
	// same Variant the access token too. SetToken and Forget of one are noticed by the
	// others at their next refresh, and at once with Watch.
	Variant string
	// Initial is a token from a configuration. It is imported once: it is used only if
	// Store has never had a session under Key, so not after Forget either. Pass the
	// result of a login to SetToken instead. If nil, the first token is asked for when
	// it is needed.
	Initial *oauth2.Token
	// EarlyRefresh is how long before its expiry a token is due for refresh. If 0, it is
	// a fifth of the lifetime, and at most five minutes. It is never more than half a
	// lifetime, and shortened by a random share so that replicas do not meet. Negative
	// means that a token is refreshed when it has expired.
	EarlyRefresh time.Duration
	// RefreshTimeout is how long callers wait for a refresh. If 0 or less, it is ten
	// seconds; a day at most. An answer that comes up to two seconds later is still used.
	// If another process is refreshing the same token, callers wait for that first.
	RefreshTimeout time.Duration
	// GracePeriod is how long the server takes a refresh token again after its first
	// use. Servers call it leeway, grace, reuse interval or overlap period. While it
	// runs, a refresh token that was sent without an answer is sent again, twice. Beyond
	// that it is sent again only while the access token is not usable, backed off. If 0,
	// it is 20 seconds. [GraceForever] suits servers that do not rotate refresh tokens.
	// Negative means that no refresh token is ever sent again: after a lost answer only a
	// login helps ([ErrInDoubt] and [ErrReauthRequired]). A refresh token that a refresh
	// has left as it was is sent again in any case.
	GracePeriod time.Duration
	// AllowRefreshWithoutStore refreshes also while Store does not answer, and hands
	// out the new token before it is saved. Setting this has two dangers. Where other
	// processes share the session, a refresh token can be used twice, which ends the
	// session at servers that rotate. And a process that dies takes the new token with
	// it. Without it, a usable token is handed out and no refresh token is sent.
	AllowRefreshWithoutStore bool
	// OnEvent, if set, is told what happens. It is called synchronously, with no lock held,
	// from several goroutines at once. Some of them are the Source's own, so a panic in it
	// ends the program.
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
	own := &session{set: set}
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

// TokenContext returns the token, which must not be modified. If there is no usable
// token, it blocks until a refresh is done or ctx ends. If ctx ends, it returns the cause,
// and the refresh goes on.
//
// Its errors are described at [ErrReauthRequired]. After a failure, and while no token is
// usable, it returns the same error at once until the next attempt is due.
func (s *Source) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return snap.token(), nil
}

// Refresh gets a new token now, even if the old one is usable, and returns it.
// Concurrent calls share one refresh, and join one that is in flight. The result is
// never the token that was to be replaced. The old token stays in use until there is a
// new one: if an API rejected it, use Invalidate.
//
// It blocks until the refresh is done or ctx ends. Its errors are those of TokenContext.
// After a failure it returns that failure until the next attempt is due.
func (s *Source) Refresh(ctx context.Context) (*oauth2.Token, error) {
	own, err := s.session()
	if err != nil {
		return nil, err
	}
	snap, err := own.refresh(ctx)
	if err != nil {
		return nil, err
	}
	return snap.token(), nil
}

// Invalidate says that an API rejected tok, so that the next caller gets another one.
// If the token was replaced meanwhile, nothing happens.
//
// If new tokens are rejected again and again, refreshes are backed off. Until the next one
// is due, the rejected token stays. Invalidate never blocks.
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
		if snap := own.cur.Load(); snap != nil && snap.access() == tok.AccessToken {
			s.rejected(snap)
			return
		}
	}
}

// SetToken begins a session with tok, the result of a login. It always wins: over the
// record in the Store, over a refresh in flight, over a session that has ended. It
// returns when tok is saved. On an error the old token is still in place,
// unless the Store has saved tok and its answer was lost. Other
// processes notice at their next refresh, and at once with [Source.Watch].
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

// Forget ends the session: it is the logout. It removes the token from the Store and from
// memory, and leaves a tombstone in the Store, so that neither another process nor
// Initial brings the session back. After it every caller gets [ErrLoggedOut] until
// SetToken. Other processes notice at their next refresh, and at once with
// [Source.Watch]. The server is not told: revoke the token that Forget returns.
//
// It returns the newest token that it removed. That is nil if there was none, or none
// that could be read. If this process is refreshing the token, Forget waits for it, two
// and a half seconds at most, and returns the new one. After an error the token is still
// in place, unless the Store has saved the logout and its answer was lost.
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

// Close stops refreshes. The session stays in the Store; Forget ends it.
//
// It blocks until an in-flight refresh is done, as a refresh that is cut short can lose a
// token. That takes RefreshTimeout and the time to save at most. A token that could not
// be saved is saved now, if the Store takes it. A refresh that waits for another process
// ends at once, with [ErrClosed]. After Close a token that is still usable is handed out,
// and otherwise the error is ErrClosed.
//
// For a Source that [Sources.Source] returned Close does nothing: close the Sources.
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

// String returns a text for logs that shows nothing of the token.
func (s *Source) String() string { return "authtrip.Source" }

// GoString implements [fmt.GoStringer] as String does.
func (s *Source) GoString() string { return s.String() }

// LogValue implements [slog.LogValuer] as String does.
func (s *Source) LogValue() slog.Value { return slog.StringValue(s.String()) }

var _ fmt.Stringer = (*Source)(nil)
