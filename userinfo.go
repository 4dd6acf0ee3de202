package authtrip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
)

// UserInfo is what the server says of the user whom a token speaks for (OpenID
// Connect Core 1.0, section 5.3). It is shared and must not be modified.
type UserInfo struct {
	// Issuer and Subject together name the user; nothing else does (section 5.7).
	Issuer, Subject string
	// FetchedAt is when the server said so.
	FetchedAt time.Time
	// Stale is set where the server could not be asked again in time, and this is
	// the last good answer.
	Stale bool

	claims []byte
}

func (u *UserInfo) age() time.Duration { return time.Since(u.FetchedAt) }

// String says nothing of the user: it is what a log gets.
func (u *UserInfo) String() string { return "authtrip.UserInfo" }

// LogValue implements [slog.LogValuer] as String does.
func (u *UserInfo) LogValue() slog.Value { return slog.StringValue(u.String()) }

// Claims decodes all claims into v, as [json.Unmarshal] does.
func (u *UserInfo) Claims(v any) error {
	if err := json.Unmarshal(u.claims, v); err != nil {
		return fmt.Errorf("authtrip: user info: %w", err)
	}
	return nil
}

// A SubjectError is user info that is not of the token's user (OpenID Connect
// Core 1.0, section 5.3.2). Nothing of it is used or kept. Its text does not name
// the subjects.
type SubjectError struct {
	Want, Got string // Got is "" if there was no sub, or one that is not a string
}

func (e *SubjectError) Error() string {
	if e.Got == "" {
		return "authtrip: user info: sub is missing, empty or not a string"
	}
	return "authtrip: user info: sub is not that of the id_token"
}

// A UserInfoError is a user info request that failed.
type UserInfoError struct {
	// StatusCode is that of the answer, 0 if there was none.
	StatusCode int
	// RetryAfter is the wait the server asked for, 0 if it did not.
	RetryAfter time.Duration
	// Err is the cause.
	Err error
}

func (e *UserInfoError) Error() string {
	cause := strings.ReplaceAll(e.Err.Error(), "authtrip: ", "")
	if e.StatusCode == 0 {
		return "authtrip: user info: " + cause
	}
	return "authtrip: user info: status " + strconv.Itoa(e.StatusCode) + ": " + cause
}

// Unwrap returns the cause.
func (e *UserInfoError) Unwrap() error { return e.Err }

// A UserInfoSource answers who the token of a Source speaks for. What the server
// says is verified, and kept until TTL has passed or the token with which it was
// fetched has ended or was refused. However many ask at once, one request is
// sent.
//
// URL and Source are required. A UserInfoSource is safe for concurrent use, must
// not be copied, and its fields must not be modified after first use.
// [UserInfoSource.Close] ends it.
type UserInfoSource struct {
	// URL is the user info endpoint; required, unless FindURL is set.
	URL string
	// FindURL, if set, is asked for the endpoint in place of URL, each time before a
	// request is sent: its server's metadata may not have been read yet.
	FindURL func(context.Context) (string, error)
	// Source supplies the tokens; required. A [Source] tells when another user
	// has logged in; of any other, each new access token is asked about anew. With
	// [Sources] there is one answer for each subject, and should be one
	// UserInfoSource for all: another would take its place.
	Source oauth2.TokenSource
	// Base sends the requests, which carry the token to the URL and nowhere else.
	// If nil, [http.DefaultTransport] does.
	Base http.RoundTripper
	// Issuer is the server's; it is part of the user's name. If "", it is that of
	// the token's id_token.
	Issuer string
	// Subject is the sub that the user info must have. If "", it is that of the
	// token's id_token; a token without one is an error then, as there would be
	// nothing to compare with.
	Subject string
	// TTL is how long an answer is good. If 0, it is five minutes; negative means
	// that each call asks.
	TTL time.Duration
	// Cache shares answers between processes. If nil, they are kept in memory. A
	// Cache that fails is done without.
	Cache Cache
	// Users, if set, records what is fetched, to be read back by the user's name. One
	// that fails is done without.
	Users *Users
	// VerifyJWT verifies user info that comes as a signed JWT: signature, iss and
	// aud, and returns its claims. If nil, a JWT is refused.
	VerifyJWT func(ctx context.Context, raw string) (claims []byte, err error)
	// AllowInsecureHTTP permits a URL of plain http that is not on this machine.
	// Setting this sends tokens in clear text.
	AllowInsecureHTTP bool
	// OnEvent, if set, is told what happens. It is called synchronously, with no
	// lock held, from several goroutines at once.
	OnEvent func(Event)

	prepare sync.Once // of the three below
	tokens  tokens
	client  *retryablehttp.Client
	invalid error

	cur     atomic.Pointer[userInfoEntry]
	failing atomic.Pointer[userInfoFailure]
	flights flight.Group[*UserInfo]
}

const (
	// userInfoTimeout ends a fetch, whoever waits for it.
	userInfoTimeout = 10 * time.Second
	// userInfoCacheTimeout is what of that a Cache may take for one call.
	userInfoCacheTimeout = time.Second
)

// sameLogin reports whether two tokens certainly speak for the same user.
func sameLogin(a, b *snapshot) bool {
	return a == b || a.login != "" && a.login == b.login && a.of == b.of
}

// last returns the last answer, if it was given to u.
func (u *UserInfoSource) last(snap *snapshot) *userInfoEntry {
	if e := u.slot(snap).Load(); e != nil && e.asker == u {
		return e
	}
	return nil
}

// slot is where the last answer for the user of snap is kept: with each of many
// Sources its own.
func (u *UserInfoSource) slot(snap *snapshot) *atomic.Pointer[userInfoEntry] {
	if snap.of != nil && snap.of.name != "" {
		return &snap.of.info
	}
	return &u.cur
}

// userInfoEntry is an answer and how long it counts.
type userInfoEntry struct {
	asker *UserInfoSource
	info  *UserInfo
	snap  *snapshot // with which it was fetched
	since time.Time // with a monotonic reading
	ttl   time.Duration
}

// of reports whether the answer is of the user for whom snap speaks.
func (e *userInfoEntry) of(snap *snapshot) bool { return e != nil && sameLogin(e.snap, snap) }

func (e *userInfoEntry) good(snap *snapshot) bool {
	return e.of(snap) && !e.snap.refused.Load() && time.Since(e.since) < e.ttl
}

// userInfoFailure is why the last fetch failed.
type userInfoFailure struct {
	failure
	snap *snapshot // with which it was tried
}

// of reports whether a fetch with snap would be another one in a row. An endpoint
// that is down or busy is so for every user.
func (f *userInfoFailure) of(snap *snapshot) bool {
	if f == nil {
		return false
	}
	if e, ok := errors.AsType[*UserInfoError](f.err); ok {
		switch code := e.StatusCode; {
		case code == 0, code == http.StatusTooManyRequests, code >= 500:
			return true
		}
	}
	return sameLogin(f.snap, snap)
}

func (f *userInfoFailure) paces(snap *snapshot) bool { return f.of(snap) && !f.due() }

// UserInfo returns what the server says of the user. It blocks if that has to be
// fetched, or a token has to be, until that is done or ctx ends.
//
// If the fetch fails or takes longer than ctx, and there is an answer from
// before, of the same user, that is returned with Stale set. After a failure the
// next fetch is paced. If the user info is of somebody else, or the token is
// refused for good, the answer from before is gone too.
//
// Its errors are *[UserInfoError], *[SubjectError], those of Source and FindURL,
// and plain ones that name the field that is configured wrongly.
func (u *UserInfoSource) UserInfo(ctx context.Context) (*UserInfo, error) {
	u.prepare.Do(u.configure)
	if u.invalid != nil {
		return nil, u.invalid
	}
	snap, err := u.tokens.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if e := u.last(snap); e.good(snap) {
		if u.OnEvent != nil {
			u.OnEvent(Event{Kind: EventUserInfoHit, Age: e.info.age()})
		}
		return e.info, nil
	}
	if f := u.failing.Load(); f.paces(snap) {
		return u.stale(snap, f.err)
	}
	info, err := u.flights.Do(ctx, flightKey(snap), userInfoTimeout, func(ctx context.Context) (*UserInfo, error) {
		return u.renew(ctx, snap)
	})
	switch {
	case err == nil:
		return info, nil
	case errors.Is(err, flight.ErrClosed):
		return nil, ErrClosed
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, err
	}
	return u.stale(snap, err)
}

// Close blocks until a fetch in flight is done, which takes ten seconds at most.
// After it an answer that is still good is served, and none is fetched.
func (u *UserInfoSource) Close() error {
	u.flights.Close()
	return nil
}

func (u *UserInfoSource) configure() {
	if u.Source == nil {
		u.invalid = errors.New("authtrip: UserInfoSource.Source is nil")
		return
	}
	if u.FindURL == nil {
		_, u.invalid = identityURL("UserInfoSource.URL", u.URL, u.AllowInsecureHTTP)
	}
	u.tokens = tokensOf(u.Source)
	// A request that got no answer is sent again: it is a GET.
	u.client = identityClient(&http.Client{Transport: u.Base}, func(ctx context.Context, _ *http.Response, err error) (bool, error) {
		return err != nil && ctx.Err() == nil, nil
	})
}

// flightKey names the user: two users' answers must not be collapsed into one.
func flightKey(snap *snapshot) string {
	if snap.login == "" {
		return snap.token.AccessToken
	}
	return fmt.Sprintf("%p %s", snap.of, snap.login)
}

// stale returns the last good answer, if it is of the same user, and err if there
// is none.
func (u *UserInfoSource) stale(snap *snapshot, err error) (*UserInfo, error) {
	e := u.last(snap)
	if !e.of(snap) {
		return nil, err
	}
	old := *e.info
	old.Stale = true
	u.emit(Event{Kind: EventUserInfoStale, Age: old.age(), Err: err})
	return &old, nil
}

func (u *UserInfoSource) emit(e Event) {
	if u.OnEvent != nil {
		u.OnEvent(e)
	}
}
