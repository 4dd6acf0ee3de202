package authtrip

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/wire"
)

// This file is what happens in a UserInfoSource's flight, of which there is one
// at a time for each user: look into the Cache, ask the server, verify, keep.

// renew runs in the flight.
func (u *UserInfoSource) renew(ctx context.Context, snap *snapshot) (*UserInfo, error) {
	// The caller may have looked just before the last flight landed.
	if e := u.last(snap); e.good(snap) {
		return e.info, nil
	}
	if f := u.failing.Load(); f.paces(snap) {
		return nil, f.err
	}
	// What is not in order here is so before anything is sent.
	if _, _, err := u.user(snap); err != nil {
		return nil, err
	}
	start := time.Now()
	if info := u.recall(ctx, snap); info != nil {
		u.keep(snap, info)
		u.emit(Event{Kind: EventUserInfoHit, Duration: time.Since(start), Age: info.age()})
		return info, nil
	}
	var info *UserInfo
	snap, resp, err := u.ask(ctx, snap) //nolint:bodyclose // read closes it
	if err == nil {
		info, err = u.read(ctx, resp, snap)
	}
	if err != nil {
		u.failed(err, snap, time.Since(start))
		return nil, err
	}
	if f := u.failing.Load(); f.of(snap) {
		u.failing.CompareAndSwap(f, nil)
	}
	u.share(ctx, snap, info, u.keep(snap, info))
	u.record(ctx, info)
	u.emit(Event{Kind: EventUserInfoMiss, Duration: time.Since(start)})
	return info, nil
}

// failed records an error, paces what follows it, and ends the answer from before
// where the error says that it is no longer true.
func (u *UserInfoSource) failed(err error, snap *snapshot, took time.Duration) {
	f := &userInfoFailure{failure{err: err, at: time.Now(), row: 1}, snap}
	if last := u.failing.Load(); last.of(snap) {
		f.row = last.row + 1
	}
	f.wait = backoff(f.row)
	event := Event{Kind: EventUserInfoFailed, Duration: took, Err: err}
	if e, ok := errors.AsType[*UserInfoError](err); ok {
		f.wait = max(f.wait, e.RetryAfter)
		event.StatusCode = e.StatusCode
	}
	_, wrongUser := errors.AsType[*SubjectError](err)
	if wrongUser || event.StatusCode == http.StatusUnauthorized {
		if e := u.last(snap); e.of(snap) {
			u.slot(snap).CompareAndSwap(e, nil)
		}
	}
	u.failing.Store(f)
	u.emit(event)
}

// user returns the name that the answer to this token must have. Rule 48.
func (u *UserInfoSource) user(snap *snapshot) (issuer, subject string, err error) {
	issuer, subject = u.Issuer, u.Subject
	claims, err := wire.ParseIDClaims(extra(snap.token, "id_token"))
	if subject == "" && (err != nil || claims.Subject == "") {
		return "", "", errors.New("authtrip: UserInfoSource.Subject is empty and the token has no id_token: there is nothing to compare sub with")
	}
	return cmp.Or(issuer, claims.Issuer), cmp.Or(subject, claims.Subject), nil
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
	u.slot(snap).Store(&userInfoEntry{asker: u, info: info, snap: snap, since: time.Now(), ttl: ttl})
	return ttl
}

func (u *UserInfoSource) ttl() time.Duration { return cmp.Or(u.TTL, 5*time.Minute) }

func (u *UserInfoSource) cacheKey(snap *snapshot) string {
	return "userinfo:" + hashed(u.Issuer, u.URL, snap.token.AccessToken)
}

// share puts an answer into the Cache.
func (u *UserInfoSource) share(ctx context.Context, snap *snapshot, info *UserInfo, ttl time.Duration) {
	if u.Cache == nil || ttl <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, userInfoCacheTimeout)
	defer cancel()
	u.cacheFailed(u.Cache.Set(ctx, u.cacheKey(snap), info.encode(), ttl))
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

// recall looks into the Cache. Whatever is wrong there, the server knows better.
func (u *UserInfoSource) recall(ctx context.Context, snap *snapshot) *UserInfo {
	if u.Cache == nil || u.TTL < 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, userInfoCacheTimeout)
	defer cancel()
	b, err := u.Cache.Get(ctx, u.cacheKey(snap))
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
	info, err = u.verify(info.claims, snap, info.FetchedAt)
	if err != nil {
		return nil
	}
	return info
}

func (u *UserInfoSource) cacheFailed(err error) {
	if err != nil {
		u.emit(Event{Kind: EventUserInfoFailed, Err: fmt.Errorf("authtrip: UserInfoSource.Cache: %w", err)})
	}
}

// ask sends the request, and once more with another token if the first one is
// refused. It returns the answer and the token that it is the answer to.
func (u *UserInfoSource) ask(ctx context.Context, snap *snapshot) (*snapshot, *http.Response, error) {
	resp, err := u.send(ctx, snap)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return snap, resp, err
	}
	if blamed, _ := blamesToken(Challenges(resp.Header)); !blamed {
		return snap, resp, nil
	}
	wire.Drain(resp.Body, maxDrain)
	next, err := replacement(ctx, u.tokens, snap)
	if err != nil {
		return snap, nil, &UserInfoError{StatusCode: resp.StatusCode, Err: fmt.Errorf("the token was refused: %w", err)}
	}
	if resp, err = u.send(ctx, next); err == nil {
		next.judge(resp.StatusCode != http.StatusUnauthorized)
	}
	return next, resp, err
}

func (u *UserInfoSource) send(ctx context.Context, snap *snapshot) (*http.Response, error) {
	if snap.err != nil {
		return nil, snap.err
	}
	endpoint, err := u.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return nil, &UserInfoError{Err: bare(err)}
	}
	req.Header["Authorization"] = snap.header
	req.Header.Set("Accept", "application/json")
	if u.VerifyJWT != nil {
		req.Header.Set("Accept", "application/json, application/jwt")
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return nil, &UserInfoError{Err: bare(err)}
	}
	return resp, nil
}

func (u *UserInfoSource) endpoint(ctx context.Context) (string, error) {
	if u.FindURL == nil {
		return u.URL, nil
	}
	found, err := u.FindURL(ctx)
	if err == nil {
		_, err = identityURL("the result of UserInfoSource.FindURL", found, u.AllowInsecureHTTP)
	}
	return found, err
}

// read returns the user info in an answer to snap.
func (u *UserInfoSource) read(ctx context.Context, resp *http.Response, snap *snapshot) (*UserInfo, error) {
	defer wire.Drain(resp.Body, 0)
	claims, err := u.claims(ctx, resp)
	if err != nil {
		return nil, &UserInfoError{
			StatusCode: resp.StatusCode,
			RetryAfter: wire.RetryAfter(resp.Header, time.Now()),
			Err:        err,
		}
	}
	return u.verify(claims, snap, time.Now())
}

// claims returns the claims in a response.
func (u *UserInfoSource) claims(ctx context.Context, resp *http.Response) ([]byte, error) {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, errors.New("the token was refused")
	case resp.StatusCode == http.StatusForbidden:
		return nil, errors.New("the token may not read user info: the login has to ask for scope openid")
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
		// Awaited, so that a panic or a hang in there is a failure like any other.
		return flight.Await(ctx, func() ([]byte, error) { return u.VerifyJWT(ctx, string(body)) })
	default:
		return nil, fmt.Errorf("Content-Type is %s, want application/json", mediaType)
	}
}

// verify holds the claims' sub against the one that is wanted. Rule 48.
func (u *UserInfoSource) verify(claims []byte, snap *snapshot, fetched time.Time) (*UserInfo, error) {
	issuer, want, err := u.user(snap)
	if err != nil {
		return nil, err
	}
	// Not a struct, of which encoding/json would fill sub from "SUB" as well.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(claims, &members); err != nil {
		return nil, &UserInfoError{StatusCode: http.StatusOK, Err: errors.New("the answer is not a JSON object")}
	}
	var got string
	if json.Unmarshal(members["sub"], &got) != nil || got != want {
		return nil, &SubjectError{Want: want, Got: got}
	}
	return &UserInfo{Issuer: issuer, Subject: got, FetchedAt: fetched, claims: claims}, nil
}
