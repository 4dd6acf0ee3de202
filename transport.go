// Package authtrip gives an http.Client access tokens (OAuth 2.0). Wrap the client
// once: its requests carry a token that is refreshed before it expires, replaced when
// an API rejects it, and never carried to another origin by a redirect.
//
//	src := &authtrip.Source{
//		Refresher: authtrip.RefreshToken(conf), // an *oauth2.Config
//		Initial:   token,                       // the token at hand
//	}
//	client := &http.Client{Transport: &authtrip.Transport{Source: src}}
//
// A request takes its token from a [Source]. The Source keeps one session: it asks a
// [Refresher] for new tokens and saves them in a [Store]. The [Transport] sends the
// request, and tells the Source when an API rejected the token. The rest of the
// package is around these four: [Sources] for many sessions, [Grant] for the
// usual Refreshers, [UserInfoSource] for the token's user.
//
// A literal of [golang.org/x/oauth2.Transport] keeps its fields and their values, and a [Source]
// goes wherever an [oauth2.TokenSource] is asked for. Package
// example.com/authtrip/login logs users in.
//
// # When a token expires
//
// A usable token costs a request one atomic load. One that is due for refresh is
// refreshed in the background and still used. When it has expired, requests wait for
// one refresh. All of them share it, each waits on its own context, and none can
// cancel it. The times are fields of [Source].
//
// # When an API rejects a token
//
// The Transport reads the challenge of a 401 (RFC 6750, section 3). If it blames the
// token, three things happen:
//
//  1. The Source replaces the token that this request carried, unless it was replaced
//     already.
//  2. The request is sent once more, body and all.
//  3. The caller gets the second response.
//
// If there is no other token, or the body cannot be sent twice, the caller gets the
// 401 as it came. The limits are fields of [Transport], and [Transport.OnChallenge] answers a
// demand for more scope.
//
// # Where a token goes
//
// It goes to the origins in [Transport.Origins] and to no other. Without that list it
// goes to the origin of the request. After a redirect to another origin the request
// carries no token, even where it comes back.
//
// # What is saved, and when
//
// A [Store] keeps sessions between processes. Each record has a version, so that an
// older token never overwrites a newer one. A new token is saved before anybody gets
// it. Among processes that share a Store one refreshes, and the others load what it
// saved.
//
// # When it fails
//
// Use [errors.Is] to decide what to do: [ErrReauthRequired] means that only a login
// helps, and any other error is transient or names the field that is configured
// wrongly. Events, for logs and metrics, are described at [EventKind].
//
// # Concurrency
//
// Every type is safe for concurrent use unless it says otherwise. Do not copy one
// after first use, and do not change its fields.
package authtrip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/origin"
	"example.com/authtrip/internal/wire"
)

// A ContextTokenSource is a TokenSource that honours a request's context, and that can
// be told which token an API rejected. [Source] and [Sources] are two. A [Transport]
// uses these methods if its Source has them.
//
// Its methods are safe for concurrent use.
type ContextTokenSource interface {
	oauth2.TokenSource
	// TokenContext returns a token, which must not be modified, or an error when
	// ctx ends.
	TokenContext(ctx context.Context) (*oauth2.Token, error)
	// Invalidate says that an API rejected tok. If the token was replaced meanwhile,
	// nothing happens.
	Invalidate(tok *oauth2.Token)
}

// A Transport is an [http.RoundTripper] that sends each request with an access token
// in the Authorization header (RFC 6750, section 2.1). If an API rejects the token, it
// sends the request once more, with another one.
//
// Only Source is required. A Transport is safe for concurrent use by multiple
// goroutines, must not be copied, and its fields must not be modified after
// first use. It holds nothing that must be closed.
type Transport struct {
	// Source supplies tokens; required. A [ContextTokenSource] is told of rejected tokens.
	// Any other source is asked again, in case that it has another token by then.
	Source oauth2.TokenSource
	// Base sends the requests. If nil, [http.DefaultTransport] does. It must not
	// modify the values of a request's header in place.
	Base http.RoundTripper
	// Origins are the only places that get the token, each a scheme, a host and a
	// port unless it is the scheme's own: "https://api.example.com". A request to
	// any other goes out without a token. If empty, every request gets the token,
	// but a redirected one only while every redirect stayed on the first request's
	// origin.
	//
	// With a list, a redirected request gets the token only if every request before it went
	// to one of them. A server elsewhere chooses the target, the method and the body of the
	// next request. It must not make that request with your token.
	//
	// A request whose Host field differs from the host of its URL gets the token only
	// if both are in the list, as a proxy may route by that field. Without a list the
	// Host field is trusted as the URL is.
	Origins []string
	// AllowInsecureHTTP permits plain http to hosts other than localhost and loopback
	// addresses. Setting this sends tokens in clear text. Without it such a request is
	// an error.
	AllowInsecureHTTP bool
	// RetryBodyLimit is the size, in bytes, up to which a request body without GetBody
	// is kept in memory for the retry. If 0, it is 64 KiB; negative means that no body
	// is kept. A body that is larger, or of unknown length, is sent once.
	//
	// A body is kept while it is being sent, so what it sends may depend on the answer.
	// GetBody has to return a new reader, as net/http says: Base may still be reading the
	// first one.
	RetryBodyLimit int64
	// OnChallenge, if set, is asked for a token with more scope or a stronger
	// authentication when an API demands one (insufficient_scope,
	// insufficient_user_authentication, claims). The request is sent once more with
	// the token that it returns. If it returns nil or an error, the caller gets the
	// response as it came.
	//
	// The token also serves later requests to the same origin, until it expires, is
	// rejected, or Source has another token. To keep it longer, pass it to
	// [Source.SetToken] too. Requests that get the same challenge at the same time
	// share one call. OnChallenge is called with no lock held, and should honour the
	// request's context.
	OnChallenge func(*http.Request, Challenge) (*oauth2.Token, error)
	// OnEvent, if set, is told what happens. If nil, the OnEvent of Source is. It is
	// called synchronously, with no lock held, from several goroutines at once.
	OnEvent func(Event)

	other   atomic.Pointer[thirdParty] // Source, if it makes no snapshots itself
	raised  stepUps                    // the tokens that OnChallenge has returned
	parsing sync.Once                  // of Origins into the two below
	allowed []origin.Origin
	invalid error
}

// RoundTrip implements [http.RoundTripper]. A request that has an Authorization
// header keeps it and is sent once.
//
// It blocks as Base does, and while there is no usable token. Its errors are those of
// Base, those of Source, and plain ones that name the field that is configured wrongly.
// An error of Source means that no token was available and the request was not sent.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	snap, err := t.pick(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	if snap == nil {
		return t.send(req)
	}
	try := attempt{req: req, given: snap, snap: snap}
	if t.OnChallenge != nil {
		if up := t.raised.get(req, snap); up != nil {
			try.snap = up
		}
	}
	out := new(http.Request)
	*out = *req
	if out.Header = maps.Clone(req.Header); out.Header == nil {
		out.Header = make(http.Header, 1)
	}
	out.Header["Authorization"] = try.snap.value()
	try.out = out
	if try.snap.bound != nil {
		if err = try.snap.authorize(out); err != nil {
			closeBody(req)
			return nil, err
		}
	}
	if req.Body != nil && req.GetBody == nil {
		if try.kept = t.keepBody(out); try.kept != nil {
			defer try.kept.release()
		}
	}
	var resp *http.Response
	if try.snap.bound != nil {
		resp, err = t.sendProven(req.Context(), out, try, try.snap)
	} else {
		resp, err = t.send(out)
	}
	if err != nil {
		if try.kept != nil && req.Context().Err() != nil {
			err = context.Cause(req.Context()) // and not what became of the body for it
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		resp, err = t.challenged(req.Context(), resp, try)
		if err != nil {
			return nil, err
		}
	}
	// Not out, which holds the token: a dump of the response would print it.
	resp.Request = req
	return resp, nil
}

// CloseIdleConnections closes those of Base, if it can.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// String says nothing of the tokens that OnChallenge has returned: it is what a log gets.
func (t *Transport) String() string { return "authtrip.Transport" }

// GoString implements [fmt.GoStringer] as String does.
func (t *Transport) GoString() string { return t.String() }

// send asks Base, and does not believe that there is neither an answer nor an error.
func (t *Transport) send(req *http.Request) (*http.Response, error) {
	resp, err := t.base().RoundTrip(req)
	if resp == nil && err == nil {
		return nil, errors.New("authtrip: Transport.Base returned no response and no error")
	}
	return resp, err
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

// pick returns the token for req, nil if it goes without one.
func (t *Transport) pick(req *http.Request) (*snapshot, error) {
	switch {
	case t.Source == nil:
		return nil, errors.New("authtrip: Transport.Source is nil")
	case req.URL == nil:
		return nil, errors.New("authtrip: request has no URL")
	}
	if ok, err := t.mayHave(req); !ok || err != nil {
		return nil, err
	}
	snap, err := t.tokens().snapshot(req.Context())
	if err != nil {
		return nil, err
	}
	return snap, snap.err()
}

// mayHave reports whether req gets a token. Rule 34.
func (t *Transport) mayHave(req *http.Request) (bool, error) {
	u := req.URL
	switch {
	case u.Scheme == "" || u.Host == "":
		return false, nil // it goes nowhere, as Base will say
	case u.Opaque != "" && origin.Of(u).Host == "":
		return false, nil // it is not certain where this goes
	case hasAuthorization(req.Header):
		return false, nil // the caller's own stays
	}
	if len(t.Origins) > 0 {
		t.parsing.Do(t.parseOrigins)
		if t.invalid != nil {
			return false, t.invalid
		}
		if !t.allows(req) {
			return false, nil
		}
	}
	if req.Response != nil && !t.mayFollow(req) {
		return false, nil
	}
	if u.Scheme != "https" && !t.AllowInsecureHTTP && !origin.Loopback(u.Hostname()) {
		return false, fmt.Errorf("authtrip: request to %s over %s would send the token in clear text: use https, or set Transport.AllowInsecureHTTP for a network that nobody else can read", wire.Clean(u.Host), wire.Clean(u.Scheme))
	}
	return true, nil
}

// mayFollow reports whether a redirected request gets a token.
func (t *Transport) mayFollow(req *http.Request) bool {
	if len(t.Origins) == 0 && !origin.Stayed(req) {
		return false
	}
	return origin.Hops(req, func(hop *http.Request) bool {
		// Where net/http took the caller's header from a redirected request, ours does
		// not take its place.
		return !hasAuthorization(hop.Header) && (len(t.Origins) == 0 || t.allows(hop))
	})
}

// allows reports whether req goes to one of Origins.
func (t *Transport) allows(req *http.Request) bool {
	if !slices.Contains(t.allowed, origin.Of(req.URL)) {
		return false
	}
	if req.Host == "" || req.Host == req.URL.Host {
		return true
	}
	return slices.Contains(t.allowed, origin.Of(&url.URL{Scheme: req.URL.Scheme, Host: req.Host}))
}

// hasAuthorization reports whether the caller has set the header, also where it was
// written into the map by hand. A look at every name would cost a request a third more.
func hasAuthorization(h http.Header) bool {
	return len(h["Authorization"]) > 0 || len(h["authorization"]) > 0 //nolint:staticcheck // that is the point
}

func (t *Transport) parseOrigins() {
	t.allowed = make([]origin.Origin, 0, len(t.Origins))
	for i, s := range t.Origins {
		o, err := origin.Parse(s)
		if err != nil {
			t.invalid = fmt.Errorf("authtrip: Transport.Origins[%d]: %w", i, err)
		}
		t.allowed = append(t.allowed, o)
	}
}

// tokens is where the tokens come from.
func (t *Transport) tokens() tokens {
	if own, ok := t.Source.(tokens); ok {
		return own
	}
	if other := t.other.Load(); other != nil {
		return other
	}
	t.other.CompareAndSwap(nil, &thirdParty{source: t.Source})
	return t.other.Load()
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
