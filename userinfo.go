package authtrip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/origin"
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
	Want, Got string // Got is "" if there was no sub
}

func (e *SubjectError) Error() string {
	if e.Got == "" {
		return "authtrip: user info: sub is missing"
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
	if e.StatusCode == 0 {
		return "authtrip: user info: " + e.Err.Error()
	}
	return "authtrip: user info: status " + strconv.Itoa(e.StatusCode) + ": " + e.Err.Error()
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
	// URL is the user info endpoint; required.
	URL string
	// Source supplies the tokens; required. A [Source] tells when another user
	// has logged in; of any other, each new access token is asked about anew.
	Source oauth2.TokenSource
	// Base sends the requests, with the token put in by a [Transport] that sends
	// it to the URL's origin only. If nil, [http.DefaultTransport] does.
	Base http.RoundTripper
	// Issuer is the server's; it is part of the user's name.
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
	// VerifyJWT verifies user info that comes as a signed JWT: signature, iss and
	// aud, and returns its claims. If nil, a JWT is refused.
	VerifyJWT func(ctx context.Context, raw string) (claims []byte, err error)
	// AllowInsecureHTTP permits a URL of plain http that is not on this machine.
	// Setting this sends tokens in clear text.
	AllowInsecureHTTP bool
	// OnEvent, if set, is told what happens. It is called synchronously, with no
	// lock held, from several goroutines at once.
	OnEvent func(Event)

	prepare   sync.Once // of the two below
	transport *Transport
	invalid   error

	cur     atomic.Pointer[userInfoEntry]
	failing atomic.Pointer[failure]
	flights flight.Group[*UserInfo]
}

// userInfoEntry is an answer and how long it counts.
type userInfoEntry struct {
	info  *UserInfo
	snap  *snapshot // with which it was fetched
	since time.Time // with a monotonic reading
	ttl   time.Duration
}

// of reports whether the answer is of the user for whom snap speaks.
func (e *userInfoEntry) of(snap *snapshot) bool {
	if e == nil {
		return false
	}
	return e.snap == snap || e.snap.login != 0 && e.snap.login == snap.login
}

func (e *userInfoEntry) good(snap *snapshot) bool {
	return e.of(snap) && !e.snap.refused.Load() && time.Since(e.since) < e.ttl
}

const userInfoTimeout = 10 * time.Second

// UserInfo returns what the server says of the user. It blocks if that has to be
// fetched, or a token has to be, until that is done or ctx ends.
//
// If the fetch fails and there is an answer from before, of the same user, it is
// returned with Stale set, and the next fetch is paced. Its errors are
// *[UserInfoError], *[SubjectError], those of Source, and plain ones that name
// the field that is configured wrongly.
func (u *UserInfoSource) UserInfo(ctx context.Context) (*UserInfo, error) {
	u.prepare.Do(u.configure)
	if u.invalid != nil {
		return nil, u.invalid
	}
	snap, err := u.transport.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if e := u.cur.Load(); e.good(snap) {
		if u.OnEvent != nil {
			u.OnEvent(Event{Kind: EventUserInfoHit, Age: time.Since(e.since)})
		}
		return e.info, nil
	}
	if f := u.failing.Load(); !f.due() {
		return u.stale(snap, f.err)
	}
	// Two users' answers must not be collapsed into one.
	key := strconv.FormatUint(snap.login, 10)
	if snap.login == 0 {
		key = snap.token.AccessToken
	}
	info, err := u.flights.Do(ctx, key, userInfoTimeout, func(ctx context.Context) (*UserInfo, error) {
		return u.renew(ctx, snap)
	})
	if err != nil {
		return u.stale(snap, err)
	}
	return info, nil
}

// Close blocks until a fetch in flight is done, which takes ten seconds at most.
// After it nothing is fetched any more.
func (u *UserInfoSource) Close() error {
	u.flights.Close()
	return nil
}

func (u *UserInfoSource) configure() {
	if u.Source == nil {
		u.invalid = errors.New("authtrip: UserInfoSource.Source is nil")
		return
	}
	endpoint, err := identityURL("UserInfoSource.URL", u.URL, u.AllowInsecureHTTP)
	if err != nil {
		u.invalid = err
		return
	}
	u.transport = &Transport{
		Source:            u.Source,
		Base:              u.Base,
		Origins:           []string{origin.Of(endpoint).String()},
		AllowInsecureHTTP: u.AllowInsecureHTTP,
		OnEvent:           u.OnEvent,
	}
}

// stale returns the last good answer, if it is of the same user, and err if there
// is none. A login that has ended ends the answers too.
func (u *UserInfoSource) stale(snap *snapshot, err error) (*UserInfo, error) {
	e := u.cur.Load()
	_, wrongUser := errors.AsType[*SubjectError](err)
	if !e.of(snap) || wrongUser || errors.Is(err, ErrReauthRequired) || errors.Is(err, context.Canceled) {
		return nil, err
	}
	old := *e.info
	old.Stale = true
	u.emit(Event{Kind: EventUserInfoStale, Age: time.Since(e.since), Err: err})
	return &old, nil
}

// renew runs in the flight.
func (u *UserInfoSource) renew(ctx context.Context, snap *snapshot) (*UserInfo, error) {
	// The caller may have looked just before the last flight landed.
	if e := u.cur.Load(); e.good(snap) {
		return e.info, nil
	}
	last := u.failing.Load()
	if !last.due() {
		return nil, last.err
	}
	want, err := u.subject(snap)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	info := u.recall(ctx, snap, want)
	kind := EventUserInfoHit
	if info == nil {
		kind = EventUserInfoMiss
		info, err = u.fetch(ctx, want)
	}
	if err != nil {
		u.failed(err, last, time.Since(start))
		return nil, err
	}
	u.failing.Store(nil)
	u.keep(ctx, snap, info, kind)
	u.emit(Event{Kind: kind, Duration: time.Since(start)})
	return info, nil
}

func (u *UserInfoSource) failed(err error, last *failure, took time.Duration) {
	f := &failure{err: err, at: time.Now(), row: 1}
	if last != nil {
		f.row = last.row + 1
	}
	f.wait = backoff(f.row)
	event := Event{Kind: EventUserInfoFailed, Duration: took, Err: err}
	if ue, ok := errors.AsType[*UserInfoError](err); ok {
		f.wait = max(f.wait, ue.RetryAfter)
		event.StatusCode = ue.StatusCode
	}
	u.failing.Store(f)
	u.emit(event)
}

// subject returns the sub that the answer must have. Rule 48.
func (u *UserInfoSource) subject(snap *snapshot) (string, error) {
	if u.Subject != "" {
		return u.Subject, nil
	}
	claims, err := wire.ParseIDClaims(extra(snap.token, "id_token"))
	if err != nil || claims.Subject == "" {
		return "", errors.New("authtrip: UserInfoSource.Subject is empty and the token has no id_token: there is nothing to compare sub with")
	}
	return claims.Subject, nil
}

// keep puts an answer where the next call finds it.
func (u *UserInfoSource) keep(ctx context.Context, snap *snapshot, info *UserInfo, kind EventKind) {
	ttl := u.TTL
	if ttl == 0 {
		ttl = 5 * time.Minute
	}
	ttl -= time.Since(info.FetchedAt)
	if snap.lifetime > 0 {
		ttl = min(ttl, snap.lifetime-time.Since(snap.born))
	}
	u.cur.Store(&userInfoEntry{info: info, snap: snap, since: time.Now(), ttl: ttl})
	if u.Cache == nil || kind == EventUserInfoHit || ttl <= 0 {
		return
	}
	doc, err := json.Marshal(userInfoDocument{recordFormat, info.Subject, info.FetchedAt, info.claims})
	if err == nil {
		err = u.Cache.Set(ctx, u.cacheKey(snap), doc, ttl)
	}
	if err != nil {
		u.emit(Event{Kind: EventUserInfoFailed, Err: fmt.Errorf("authtrip: UserInfoSource.Cache: %w", err)})
	}
}

// userInfoDocument is what is kept in a Cache, under a key that says nothing.
type userInfoDocument struct {
	Format    int             `json:"format"`
	Subject   string          `json:"sub"`
	FetchedAt time.Time       `json:"fetched_at"`
	Claims    json.RawMessage `json:"claims"`
}

func (u *UserInfoSource) cacheKey(snap *snapshot) string {
	return "userinfo:" + hashed(u.Issuer, u.URL, snap.token.AccessToken)
}

// recall looks into the Cache. Whatever is wrong there, the server knows better.
func (u *UserInfoSource) recall(ctx context.Context, snap *snapshot, want string) *UserInfo {
	if u.Cache == nil || u.TTL < 0 {
		return nil
	}
	b, err := u.Cache.Get(ctx, u.cacheKey(snap))
	if err != nil {
		return nil
	}
	var doc userInfoDocument
	if json.Unmarshal(b, &doc) != nil || doc.Format != recordFormat || doc.Subject != want {
		return nil
	}
	return &UserInfo{Issuer: u.Issuer, Subject: doc.Subject, FetchedAt: doc.FetchedAt, claims: doc.Claims}
}

// fetch asks the server. A request that failed without an answer is sent again,
// up to twice: it is a GET.
func (u *UserInfoSource) fetch(ctx context.Context, want string) (*UserInfo, error) {
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, u.URL, nil)
	if err != nil {
		return nil, &UserInfoError{Err: bare(err)}
	}
	req.Header.Set("Accept", "application/json")
	if u.VerifyJWT != nil {
		req.Header.Set("Accept", "application/json, application/jwt")
	}
	resp, err := identityClient(&http.Client{Transport: u.transport}, retryUnanswered).Do(req)
	if err != nil {
		return nil, userInfoFailure(err)
	}
	defer wire.Drain(resp.Body, 0)
	claims, err := u.read(ctx, resp)
	if err != nil {
		return nil, &UserInfoError{
			StatusCode: resp.StatusCode,
			RetryAfter: wire.RetryAfter(resp.Header, time.Now()),
			Err:        err,
		}
	}
	return u.verify(claims, want)
}

// retryUnanswered is a retry policy: not an answer of whatever status, and not a
// token that could not be had.
func retryUnanswered(ctx context.Context, _ *http.Response, err error) (bool, error) {
	_, noToken := errors.AsType[*RefreshError](err)
	return err != nil && !noToken && ctx.Err() == nil, nil
}

func userInfoFailure(err error) error {
	if re, ok := errors.AsType[*RefreshError](err); ok {
		return re
	}
	return &UserInfoError{Err: bare(err)}
}

// read returns the claims in a response.
func (u *UserInfoSource) read(ctx context.Context, resp *http.Response) ([]byte, error) {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, errors.New("the token was refused")
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, errors.New("the endpoint redirects, which is never followed with credentials: set UserInfoSource.URL to where it points")
	case resp.StatusCode != http.StatusOK:
		return nil, errors.New("want status 200")
	}
	body, err := wire.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	switch mediaType := wire.MediaType(resp.Header); mediaType {
	case "application/json":
		return body, nil
	case "application/jwt":
		if u.VerifyJWT == nil {
			return nil, errors.New("the answer is a signed JWT: set UserInfoSource.VerifyJWT")
		}
		return u.VerifyJWT(ctx, string(body))
	default:
		return nil, fmt.Errorf("Content-Type is %s, want application/json", mediaType)
	}
}

// verify holds the claims' sub against the one that is wanted.
func (u *UserInfoSource) verify(claims []byte, want string) (*UserInfo, error) {
	var c struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(claims, &c); err != nil {
		return nil, &UserInfoError{StatusCode: http.StatusOK, Err: errors.New("the answer is not a JSON object with a string sub")}
	}
	if c.Subject == "" || c.Subject != want {
		return nil, &SubjectError{Want: want, Got: c.Subject}
	}
	return &UserInfo{Issuer: u.Issuer, Subject: c.Subject, FetchedAt: time.Now(), claims: claims}, nil
}

func (u *UserInfoSource) emit(e Event) {
	if u.OnEvent != nil {
		u.OnEvent(e)
	}
}
