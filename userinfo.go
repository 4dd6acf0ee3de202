package authtrip

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/wire"
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
	// Want is "" if any user would do. Got is "" if none is named: the claim is missing,
	// empty, there more than once, or of another type.
	Want, Got string
	// Claim is the one that names the user: "sub", or [UserInfoSource.SubjectClaim].
	Claim string
}

func (e *SubjectError) Error() string {
	switch sub := e.Claim == "" || e.Claim == "sub"; {
	case sub && e.Got == "":
		return "authtrip: user info: sub is missing, empty, there twice or not a string"
	case sub:
		return "authtrip: user info: sub is not the expected one"
	case e.Got == "":
		return "authtrip: user info: the SubjectClaim is missing, empty, there twice, or neither a string nor a number"
	}
	return "authtrip: user info: the SubjectClaim is not the expected one"
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
	// SubjectClaim is for providers without OpenID Connect, such as GitHub's /user: the
	// claim that stands in for sub, which is "id" there. Its value is a string, or a
	// number, of which the exact text is the Subject. Issuer is required with it, and
	// is a name that the program gives the provider: nobody else vouches for it.
	//
	// Setting this gives up what an ID token verifies, which is that the answer is about
	// the user who logged in. Left are the connection to URL, and that a session has one
	// user: its first answer names him, unless Subject does, and a later answer that
	// names another is a [SubjectError]. That is remembered in memory: another process,
	// a restart, or a session that [Sources] has dropped takes the next answer for the
	// first. So does each new access token of a third-party Source, as nobody can say
	// of which session it is. An ID token is used only if SubjectClaim is "sub", and
	// where there is one.
	SubjectClaim string
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

	prepare  sync.Once // of the two below
	endpoint *userInfoEndpoint
	invalid  error

	memory  userInfoMemory
	flights flight.Group[*UserInfo] // one for each user
}

const (
	// userInfoTimeout ends a fetch, whoever waits for it.
	userInfoTimeout = 10 * time.Second
	// userInfoCacheTimeout is what of that a Cache may take for one call.
	userInfoCacheTimeout = time.Second
)

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
	snap, err := u.endpoint.tokens.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if e := u.memory.known(snap); e.good() {
		if u.OnEvent != nil {
			u.OnEvent(Event{Kind: EventUserInfoHit, Age: e.info.age()})
		}
		return e.info, nil
	}
	if err = u.memory.backedOff(snap); err != nil {
		return u.stale(snap, err)
	}
	info, err := u.flights.Do(ctx, flightKey(snap), userInfoTimeout, func(ctx context.Context) (*UserInfo, error) {
		return u.fetch(ctx, snap)
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
	u.endpoint, u.invalid = newUserInfoEndpoint(u)
	if u.SubjectClaim != "" && u.Issuer == "" {
		u.invalid = errors.New("authtrip: UserInfoSource.Issuer is empty, and SubjectClaim needs it: give the provider a name")
	}
}

// flightKey names the user: two users' answers must not be collapsed into one.
func flightKey(snap *snapshot) string {
	user, _ := infoUserOf(snap)
	if user.owner == nil {
		return user.name
	}
	return fmt.Sprintf("%p %s", user.owner, user.name)
}

// stale returns the last good answer for the same user, and err if there is none.
func (u *UserInfoSource) stale(snap *snapshot, err error) (*UserInfo, error) {
	e := u.memory.known(snap)
	if e == nil || e.info == nil {
		return nil, err
	}
	old := *e.info
	old.Stale = true
	u.emit(Event{Kind: EventUserInfoStale, Age: old.age(), Err: err})
	return &old, nil
}

// fetch is the flight, of which there is one at a time for each user: look into the
// Cache, ask the server, verify, keep.
func (u *UserInfoSource) fetch(ctx context.Context, snap *snapshot) (*UserInfo, error) {
	// The caller may have looked just before the last flight landed.
	if e := u.memory.known(snap); e.good() {
		return e.info, nil
	}
	down, err := u.memory.begin(snap)
	if err != nil {
		return nil, err
	}
	defer down.end()
	// What is not in order here is so before anything is sent.
	want, err := u.wanted(snap)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	url, err := u.endpoint.locate(ctx)
	if err != nil {
		u.memory.outage(down, err) // whoever the user is
		u.emit(Event{Kind: EventUserInfoFailed, Duration: time.Since(start), Err: err})
		return nil, err
	}
	if info := u.recall(ctx, u.cacheKey(url, snap), want); info != nil {
		u.keep(snap, info)
		u.emit(Event{Kind: EventUserInfoHit, Duration: time.Since(start), Age: info.age()})
		return info, nil
	}
	var info *UserInfo
	snap, claims, err := u.endpoint.ask(ctx, url, snap)
	if err == nil {
		want, err = u.wanted(snap) // may be another token
	}
	if err == nil {
		info, err = want.read(claims, time.Now())
	}
	if hasAnswered(err) {
		u.memory.down.CompareAndSwap(down, nil)
	}
	if err != nil {
		u.failed(snap, down, err, time.Since(start))
		return nil, err
	}
	u.share(ctx, u.cacheKey(url, snap), info, u.keep(snap, info))
	u.record(ctx, info)
	u.emit(Event{Kind: EventUserInfoMiss, Duration: time.Since(start)})
	return info, nil
}

// failed keeps an error until the next attempt is due: an outage for every user, any
// other one for this user, whose last answer is gone if the error says that it is no
// longer true. last is the outage that was known before.
func (u *UserInfoSource) failed(snap *snapshot, last *setback, err error, took time.Duration) {
	event := Event{Kind: EventUserInfoFailed, Duration: took, Err: err}
	if e, ok := errors.AsType[*UserInfoError](err); ok {
		event.StatusCode = e.StatusCode
	}
	if isOutage(err) {
		u.memory.outage(last, err)
	} else {
		_, wrongUser := errors.AsType[*SubjectError](err)
		u.memory.amend(snap, func(e *userInfoEntry) {
			e.failed = newSetback(e.failed, err)
			if wrongUser || event.StatusCode == http.StatusUnauthorized {
				e.info = nil
			}
		})
	}
	u.emit(event)
}

// keep puts an answer where the next call finds it, and returns for how long.
func (u *UserInfoSource) keep(snap *snapshot, info *UserInfo) time.Duration {
	ttl := u.ttl() - max(info.age(), 0)
	switch end := snap.token.Expiry; {
	case snap.lifetime > 0:
		ttl = min(ttl, snap.lifetime-time.Since(snap.born))
	case !end.IsZero():
		ttl = min(ttl, time.Until(end))
	}
	u.memory.amend(snap, func(e *userInfoEntry) {
		e.info, e.snap, e.since, e.ttl, e.failed = info, snap, time.Now(), ttl, nil
		e.subject = info.Subject
	})
	return ttl
}

func (u *UserInfoSource) ttl() time.Duration { return cmp.Or(u.TTL, 5*time.Minute) }

// wanted returns the user whom the answer to this token must be about. With a
// SubjectClaim that may be anybody: then it is the session's first. Rule 48.
func (u *UserInfoSource) wanted(snap *snapshot) (wantedUser, error) {
	w := wantedUser{issuer: u.Issuer, subject: u.Subject, claim: cmp.Or(u.SubjectClaim, "sub"), numbers: u.SubjectClaim != ""}
	if w.claim == "sub" {
		if claims, err := wire.ParseIDClaims(extra(snap.token, "id_token")); err == nil {
			w.issuer, w.subject = cmp.Or(w.issuer, claims.Issuer), cmp.Or(w.subject, claims.Subject)
		}
	}
	if w.subject == "" && u.SubjectClaim == "" {
		return w, errors.New("authtrip: UserInfoSource.Subject is empty and the token has no id_token: there is nothing to compare sub with (a provider without OpenID Connect needs SubjectClaim)")
	}
	if e := u.memory.known(snap); e != nil {
		w.subject = cmp.Or(w.subject, e.subject)
	}
	return w, nil
}

func (u *UserInfoSource) cacheKey(url string, snap *snapshot) string {
	return "userinfo:" + hashed(u.Issuer, url, snap.token.AccessToken)
}

// share puts an answer into the Cache.
func (u *UserInfoSource) share(ctx context.Context, key string, info *UserInfo, ttl time.Duration) {
	if u.Cache == nil || ttl <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, userInfoCacheTimeout)
	defer cancel()
	u.cacheFailed(u.Cache.Set(ctx, key, encodeUserInfo(info), ttl))
}

// recall looks into the Cache. Whatever is wrong there, the server knows better.
func (u *UserInfoSource) recall(ctx context.Context, key string, want wantedUser) *UserInfo {
	if u.Cache == nil || u.TTL < 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, userInfoCacheTimeout)
	defer cancel()
	b, err := u.Cache.Get(ctx, key)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			u.cacheFailed(err)
		}
		return nil
	}
	info, err := decodeUserInfo(b)
	// The age is by the clock of whoever fetched it.
	if err != nil || info.age() >= u.ttl() || info.age() < -time.Minute {
		return nil
	}
	if info, err = want.read(info.claims, info.FetchedAt); err != nil {
		return nil
	}
	return info
}

// record puts an answer into Users.
func (u *UserInfoSource) record(ctx context.Context, info *UserInfo) {
	if u.Users == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, userInfoCacheTimeout)
	defer cancel()
	if err := u.Users.Put(ctx, info); err != nil {
		u.emit(Event{Kind: EventUserInfoFailed, Err: err})
	}
}

func (u *UserInfoSource) cacheFailed(err error) {
	if err != nil {
		u.emit(Event{Kind: EventUserInfoFailed, Err: fmt.Errorf("authtrip: UserInfoSource.Cache: %w", err)})
	}
}

func (u *UserInfoSource) emit(e Event) {
	if u.OnEvent != nil {
		u.OnEvent(e)
	}
}
