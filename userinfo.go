package authtrip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/digest"
	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/wire"
)

// A SubjectError means that user info is not about the token's user (OpenID Connect Core
// 1.0, section 5.3.2), or names no user. Nothing of it is used or kept. The text of the
// error names no user.
type SubjectError struct {
	// Want is the token's user; "" if any would do. Got is the user in the answer; "" if
	// it names none, as the claim is missing, empty, there twice, or of another type.
	Want, Got string
	// Claim is the claim that names the user: "sub", or [UserInfoSource.SubjectClaim].
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

// A UserInfoError is a user info request that failed. Its text holds no token. Of the
// answer it has only the status and the media type.
type UserInfoError struct {
	// StatusCode is the answer's, 0 if there was none.
	StatusCode int
	// RetryAfter is how long the server asked to wait, 0 if it did not.
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

// A UserInfoSource finds out who the token's user is. It asks the server, verifies the
// answer, and keeps it until TTL has passed, or the token with which it was fetched
// expires or is rejected. For each user it sends one request, however many callers wait
// for it.
//
// With [Sources] the answer for each key is kept in memory as long as its session is.
// Otherwise the answers for the last 5,000 users are kept at least, and for 10,000 at
// most; one that is not used for an hour may be dropped. Cache may keep them longer.
//
// URL and Source are required. A UserInfoSource is safe for concurrent use, must
// not be copied, and its fields must not be modified after first use.
// [UserInfoSource.Close] ends it.
type UserInfoSource struct {
	// URL is the user info endpoint; required, unless FindURL is set.
	URL string
	// FindURL, if set, returns the endpoint, and URL is ignored. It is called each time
	// before the Cache or the server is asked, so the server from which it gets the endpoint
	// need not be up when the program starts.
	FindURL func(context.Context) (string, error)
	// Source supplies the tokens; required. A [Source] and [Sources] know which tokens are
	// of one session: an answer stays good after a refresh, and none stays good after a new
	// login. With a third-party source each access token has an answer of its own.
	Source oauth2.TokenSource
	// Base sends the requests. The token goes to the endpoint and nowhere else: no
	// redirect is followed. If nil, Base is [http.DefaultTransport].
	Base http.RoundTripper
	// Issuer becomes UserInfo.Issuer. If "", that is the iss of the token's ID token.
	Issuer string
	// Subject is the user whom the answer must name. If "", it is the sub of the token's ID
	// token. If there is no ID token either, that is an error, unless SubjectClaim is set.
	Subject string
	// SubjectClaim is for a provider without OpenID Connect. It is the claim that stands in
	// for sub, such as "id" for GitHub's /user. Its value is a string or a number. The exact
	// text of it becomes UserInfo.Subject. Choose one that never changes and is never given
	// to another user. Issuer is required then: a name that the program gives to the
	// provider.
	//
	// Setting this gives up what an ID token verifies: that the answer is about the user
	// who logged in. Two checks remain. The answer comes from the endpoint, over https.
	// And a session has one user: if Subject is "", the first answer after a login names
	// the user, and a later one that names another is a [SubjectError].
	//
	// The first answer is remembered in memory. After a restart and in another process the
	// next answer counts as the first. So it does when [Sources] has dropped the session, or
	// this UserInfoSource the answer. With a third-party source it is the first of each
	// access token. An ID token is used only if SubjectClaim is "sub".
	SubjectClaim string
	// TTL is how long an answer is good. If 0, it is five minutes; if negative, each
	// call sends a request.
	TTL time.Duration
	// Cache shares answers between processes, for as long as they are good. A Cache that
	// fails is ignored, and an event tells of it. If nil, answers are kept in memory only.
	Cache Cache
	// Users, if set, records each answer that was fetched, to be read back without a token.
	// It needs an issuer: Issuer, or that of the ID token. If Users fails, that is ignored,
	// and an event tells of it.
	Users *Users
	// VerifyJWT verifies user info that is a signed JWT (signature, iss and aud), and
	// returns its claims. If nil, a JWT is an error.
	VerifyJWT func(ctx context.Context, raw string) (claims []byte, err error)
	// AllowInsecureHTTP permits an endpoint of plain http that is not on localhost.
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
	untold  untold
}

const (
	// userInfoTimeout ends a fetch, whoever waits for it.
	userInfoTimeout = 10 * time.Second
	// userInfoCacheTimeout is what of that a Cache may take for one call.
	userInfoCacheTimeout = time.Second
)

// UserInfo returns what the server says of the token's user. If there is no good answer
// in memory, it blocks until there is one or ctx ends.
//
// If the user info endpoint cannot be asked, or does not answer before ctx's deadline,
// UserInfo returns its last good answer for the same user with Stale set, and an error
// only if there is none. After a [SubjectError] or a status of 401 the last good answer
// is not used again.
//
// After a failed request the next one is backed off, at least for as long as Retry-After
// asks. If there was no answer, or status 429 or 5xx, or FindURL failed, the pause is for
// every user, and a request for one of them makes the next attempt. After any other
// failure it is for that user only.
//
// The error is a *[UserInfoError], a *[SubjectError], one of Source or FindURL, or a
// plain one that names the field that is configured wrongly.
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
	info, err := u.join(ctx, snap)
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

// Close blocks until the requests in flight are done, ten seconds at most. After it an
// answer that is still good is returned; otherwise the error is [ErrClosed].
func (u *UserInfoSource) Close() error {
	u.flights.Close()
	return nil
}

// String says nothing of users and tokens: it is what a log gets.
func (u *UserInfoSource) String() string { return "authtrip.UserInfoSource" }

// GoString implements [fmt.GoStringer] as String does.
func (u *UserInfoSource) GoString() string { return u.String() }

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

// flightKey names the user: two users must not wait for one answer.
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
	u.tell()
	return &old, nil
}

// join waits for a flight, or for the end of ctx.
func (u *UserInfoSource) join(ctx context.Context, snap *snapshot) (*UserInfo, error) {
	done := u.flights.Start(ctx, flightKey(snap), userInfoTimeout, func(ctx context.Context) (*UserInfo, error) {
		return u.fetch(ctx, snap)
	})
	select {
	case r := <-done:
		u.tell()
		info, _ := r.Val.(*UserInfo)
		return info, r.Err
	case <-ctx.Done():
		go func() {
			<-done
			u.tell()
		}()
		return nil, context.Cause(ctx)
	}
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
	snap, info, err := u.ask(ctx, url, snap)
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

// ask sends the request. It returns with which token it was answered: after a rejected
// one that may be another user's, who has logged in meanwhile.
func (u *UserInfoSource) ask(ctx context.Context, url string, snap *snapshot) (*snapshot, *UserInfo, error) {
	snap, claims, err := u.endpoint.ask(ctx, url, snap)
	if err != nil {
		return snap, nil, err
	}
	want, err := u.wanted(snap)
	if err != nil {
		return snap, nil, err
	}
	info, err := want.read(claims, time.Now())
	return snap, info, err
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
	switch {
	case snap.lifetime > 0:
		ttl = min(ttl, snap.lifetime-time.Since(snap.born))
	case !snap.token().Expiry.IsZero():
		ttl = min(ttl, time.Until(snap.token().Expiry))
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
		if claims, err := wire.ParseIDClaims(extra(snap.token(), "id_token")); err == nil {
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
	return "userinfo:" + digest.Of(u.Issuer, url, snap.access())
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
		u.emit(Event{Kind: EventUserInfoCacheFailed, Err: err})
	}
}

func (u *UserInfoSource) cacheFailed(err error) {
	if err != nil {
		u.emit(Event{Kind: EventUserInfoCacheFailed, Err: fmt.Errorf("authtrip: UserInfoSource.Cache: %w", err)})
	}
}

// emit keeps an event until tell: a hook may call back, and would wait for the flight that
// waits for it.
func (u *UserInfoSource) emit(e Event) {
	if hookOf(u.OnEvent, u.Source) != nil {
		u.untold.add(e)
	}
}

// tell calls the hook with what is kept.
func (u *UserInfoSource) tell() {
	if hook := hookOf(u.OnEvent, u.Source); hook != nil {
		for _, e := range u.untold.take() {
			hook(e)
		}
	}
}
