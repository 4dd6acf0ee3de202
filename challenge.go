package authtrip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/challenge"
	"example.com/authtrip/internal/origin"
	"example.com/authtrip/internal/wire"
)

// A Challenge is what a server wants of a token, from the WWW-Authenticate header
// of a response (RFC 9110, section 11.6.1; RFC 6750, section 3). A parameter that
// the server did not send is "".
type Challenge struct {
	Scheme           string        // such as Bearer or DPoP, as the server wrote it
	Realm            string        // RFC 9110, section 11.5
	Error            string        // such as invalid_token or insufficient_scope
	Description      string        // error_description
	Scope            string        // the scope that is needed
	ACRValues        []string      // the authentication that is needed: RFC 9470, section 3
	MaxAge           time.Duration // how old it may be; negative if the server did not say
	Claims           string        // a claims challenge (OpenID CAEP, Microsoft Entra), as it was sent
	ResourceMetadata string        // the URL of the resource's metadata: RFC 9728, section 5.1
}

// Challenges returns the challenges of a response's header in the order in which
// the server wrote them. Use it on a response that a [Transport] returned with
// status 401 or 403, to see what a new login has to ask for.
func Challenges(h http.Header) []Challenge {
	parsed := challenge.Parse(h["Www-Authenticate"])
	all := make([]Challenge, len(parsed))
	for i, p := range parsed {
		all[i] = Challenge{
			Scheme:           p.Scheme,
			Realm:            p.Param("realm"),
			Error:            p.Param("error"),
			Description:      p.Param("error_description"),
			Scope:            p.Param("scope"),
			ACRValues:        strings.Fields(p.Param("acr_values")),
			MaxAge:           -1,
			Claims:           p.Param("claims"),
			ResourceMetadata: p.Param("resource_metadata"),
		}
		if n, err := strconv.ParseUint(p.Param("max_age"), 10, 32); err == nil {
			all[i].MaxAge = time.Duration(n) * time.Second
		}
	}
	return all
}

// blamesToken reports whether a new token of the same kind may cure the 401 with
// these challenges: the server says invalid_token, or nothing (RFC 6750, section
// 3.1). Otherwise it returns the challenge that says what is wanted instead. bound says
// that the token was one with a proof, of which a challenge of DPoP speaks.
// Rules 35, 36, 37.
func blamesToken(all []Challenge, bound bool) (bool, Challenge) {
	if bound {
		return blamesBound(all)
	}
	bearer := false
	for _, c := range all {
		if !strings.EqualFold(c.Scheme, "Bearer") {
			continue
		}
		bearer = true
		if c.Claims != "" || c.Error != "" && c.Error != "invalid_token" {
			return false, c
		}
	}
	if !bearer {
		for _, c := range all {
			// A resource that asks for a DPoP proof does not want another bearer token.
			if strings.EqualFold(c.Scheme, "DPoP") {
				return false, c
			}
		}
	}
	return true, Challenge{}
}

// wantsMore returns the challenge of a 403 that a token with more scope may answer.
func wantsMore(all []Challenge) (bool, Challenge) {
	for _, c := range all {
		if c.Claims != "" || c.Error == "insufficient_scope" {
			return true, c
		}
	}
	return false, Challenge{}
}

// An attempt is a request that was sent with a token.
type attempt struct {
	req, out *http.Request // the caller's, and the copy with the token
	given    *snapshot     // the token of Source
	snap     *snapshot     // the one that was sent: given, or what OnChallenge returned before
	kept     *keptBody     // nil if the body can be had again, or cannot be kept
}

// challenged handles a 401 or 403. It returns resp as it came, or the response to a second try.
func (t *Transport) challenged(ctx context.Context, resp *http.Response, try attempt) (*http.Response, error) {
	blamed, more, c := verdict(resp, try.snap.bound != nil)
	if !blamed && !more || try.snap.bound != nil && aboutProof(c.Error) {
		return resp, nil
	}
	ahead := readAhead(resp)
	var next *snapshot
	var err error
	if blamed {
		next, err = t.fresh(ctx, try)
	} else {
		next, err = t.raised.ask(ctx, t.OnChallenge, try, c)
	}
	var again *http.Request
	if err == nil {
		again, err = try.again(ctx, next)
	}
	if err != nil {
		return t.unanswered(ctx, resp, err)
	}
	// The answer to a refused request is short; read to its end, its connection
	// carries the retry.
	ahead.drop()
	start := time.Now()
	if next.bound != nil {
		resp, err = t.sendProven(ctx, again, try, next)
	} else {
		resp, err = t.send(again)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case !blamed: // not a token of Source
	case resp.StatusCode == http.StatusUnauthorized:
		if rejected, _, _ := verdict(resp, next.bound != nil); rejected { // or it wants more, or a better proof
			t.tokens().rejected(next)
		}
	default:
		t.tokens().accepted(next)
	}
	t.emit(Event{Kind: EventRequestRetried, Duration: time.Since(start), StatusCode: resp.StatusCode})
	return resp, nil
}

// verdict reports whether a 401 or 403 blames the token, or wants one with more scope or of a
// stronger authentication, as the challenge says.
func verdict(resp *http.Response, bound bool) (blamed, more bool, c Challenge) {
	all := Challenges(resp.Header)
	if resp.StatusCode == http.StatusUnauthorized {
		blamed, c = blamesToken(all, bound)
		return blamed, !blamed, c
	}
	more, c = wantsMore(all)
	return false, more, c
}

// unanswered is what the caller gets where there is no second try: the response as it came, while
// OnEvent gets the reason, or the error of a context that has ended.
func (t *Transport) unanswered(ctx context.Context, resp *http.Response, reason error) (*http.Response, error) {
	if ctx.Err() == nil {
		t.emit(Event{Kind: EventRequestNotRetried, StatusCode: resp.StatusCode, Err: reason})
		return resp, nil
	}
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	return nil, context.Cause(ctx)
}

// fresh returns the token that follows the one that was rejected.
func (t *Transport) fresh(ctx context.Context, try attempt) (*snapshot, error) {
	if try.snap == try.given {
		return replacement(ctx, t.tokens(), try.snap)
	}
	// What OnChallenge returned is over; that of Source was not rejected.
	t.raised.drop(try)
	next, err := t.tokens().snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return next, next.err()
}

// replacement returns the token that follows the refused one.
func replacement(ctx context.Context, from tokens, refused *snapshot) (*snapshot, error) {
	from.rejected(refused)
	next, err := from.snapshot(ctx)
	switch {
	case err != nil:
		return nil, err
	case next.err() != nil:
		return nil, next.err()
	case next.access() == refused.access():
		return nil, errors.New("authtrip: the token was rejected, and there is no other one yet")
	}
	return next, nil
}

// again returns a copy of the request with another token and its body from the start.
// The body is asked for again even where the first may be unread: HTTP/2 sends a
// drained one as an empty one, without an error.
func (a attempt) again(ctx context.Context, snap *snapshot) (*http.Request, error) {
	again := new(http.Request)
	*again = *a.out
	again.Header = maps.Clone(a.out.Header)
	if err := snap.authorize(again); err != nil {
		return nil, err
	}
	var err error
	switch {
	case a.req.Body == nil || a.req.Body == http.NoBody:
	case a.kept != nil:
		again.Body, err = a.kept.again(ctx, snap.bound != nil)
	case a.req.GetBody == nil:
		err = errors.New("authtrip: the request's body cannot be sent twice: set GetBody, or ContentLength and RetryBodyLimit")
	default:
		if again.Body, err = a.req.GetBody(); err != nil {
			err = fmt.Errorf("authtrip: the request's GetBody: %w", err)
		}
	}
	return again, err
}

func (t *Transport) emit(e Event) {
	if hook := hookOf(t.OnEvent, t.Source); hook != nil {
		hook(e)
	}
}

// maxStepUps is how many tokens of OnChallenge are remembered.
const maxStepUps = 1000

// stepUps are the tokens that OnChallenge has returned, so that later requests need not be rejected
// first. Each stands in for one token of Source at one origin: when Source has another one, for
// whatever reason, it no longer does.
type stepUps struct {
	any atomic.Bool // there may be one: spares requests the lock
	mu  sync.Mutex
	all map[stepUpKey]*stepUp
}

type stepUpKey struct {
	token string // the access token of Source
	to    origin.Origin
}

// stepUp is one call of OnChallenge.
type stepUp struct {
	challenge Challenge
	ctx       context.Context // of the request that it was called for
	done      chan struct{}   // closed when it has returned: what follows is set
	snap      *snapshot
	err       error
}

func keyOf(req *http.Request, given *snapshot) stepUpKey {
	return stepUpKey{given.access(), origin.Of(req.URL)}
}

// get returns the token that stands in for given, nil if there is none.
func (u *stepUps) get(req *http.Request, given *snapshot) *snapshot {
	if !u.any.Load() {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if up := u.all[keyOf(req, given)]; up.usable() {
		return up.snap
	}
	return nil
}

// usable reports whether there is a token.
func (up *stepUp) usable() bool {
	return up != nil && up.over() && up.err == nil && up.snap.token().Valid()
}

// ask returns a token that answers the challenge: one that somebody else has got meanwhile, or that of
// a call that is under way for the same challenge, or the one of a call of its own.
func (u *stepUps) ask(ctx context.Context, hook func(*http.Request, Challenge) (*oauth2.Token, error), try attempt, c Challenge) (*snapshot, error) {
	if hook == nil {
		return nil, fmt.Errorf("authtrip: the server wants more than a fresh token: %s", wire.Code(c.Error))
	}
	for {
		up, mine := u.join(try, c)
		if mine {
			u.call(hook, try, up)
			return up.snap, up.err
		}
		select {
		case <-up.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		switch {
		case up.err != nil && up.ctx.Err() != nil: // that request's caller has left
		case !up.challenge.same(c) && (up.err != nil || up.snap == try.snap):
		default:
			return up.snap, up.err
		}
	}
}

// join returns the call to wait for, or a new one that is the caller's own to make.
func (u *stepUps) join(try attempt, c Challenge) (up *stepUp, mine bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := keyOf(try.req, try.given)
	up = u.all[key]
	if up != nil && (!up.over() || up.usable() && up.snap != try.snap) {
		return up, false
	}
	if u.all == nil {
		u.all = make(map[stepUpKey]*stepUp)
		u.any.Store(true)
	}
	for old, other := range u.all {
		if len(u.all) < maxStepUps {
			break
		}
		if other.over() {
			delete(u.all, old)
		}
	}
	up = &stepUp{challenge: c, ctx: try.req.Context(), done: make(chan struct{})}
	u.all[key] = up
	return up, true
}

// over reports whether the call has returned.
func (up *stepUp) over() bool {
	select {
	case <-up.done:
		return true
	default:
		return false
	}
}

// call asks OnChallenge, and lets go who waits for it even if that panics.
func (u *stepUps) call(hook func(*http.Request, Challenge) (*oauth2.Token, error), try attempt, up *stepUp) {
	up.err = errors.New("authtrip: Transport.OnChallenge returned no token")
	defer func() {
		close(up.done)
		if up.err != nil {
			u.remove(keyOf(try.req, try.given), up)
		}
	}()
	tok, err := hook(try.req, up.challenge)
	switch {
	case err != nil:
		up.err = fmt.Errorf("authtrip: Transport.OnChallenge: %w", err)
	case tok != nil:
		up.snap = new(snapshot)
		up.snap.made.Store(tok)
		up.snap.bind(try.given.binder())
		up.err = up.snap.err()
	}
}

// drop forgets the token that was sent, unless there is another one.
func (u *stepUps) drop(try attempt) {
	key := keyOf(try.req, try.given)
	u.mu.Lock()
	defer u.mu.Unlock()
	if up := u.all[key]; up.usable() && up.snap == try.snap {
		delete(u.all, key)
	}
}

func (u *stepUps) remove(key stepUpKey, up *stepUp) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all[key] == up {
		delete(u.all, key)
	}
}

// same reports whether two challenges want the same.
func (c Challenge) same(other Challenge) bool {
	return c.Error == other.Error && c.Scope == other.Scope && c.Claims == other.Claims &&
		c.MaxAge == other.MaxAge && slices.Equal(c.ACRValues, other.ACRValues)
}
