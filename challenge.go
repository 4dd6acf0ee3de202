package authtrip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/authtrip/internal/challenge"
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
// 3.1). Otherwise it returns the challenge that says what is wanted instead.
// Rules 35, 36, 37.
func blamesToken(all []Challenge) (bool, Challenge) {
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

// wantsMore returns the challenge of a 403 that a token of more power may answer.
func wantsMore(all []Challenge) (bool, Challenge) {
	for _, c := range all {
		if c.Claims != "" || c.Error == "insufficient_scope" {
			return true, c
		}
	}
	return false, Challenge{}
}

// challenged handles a 401 or 403 to out, which is req with the token in snap. It
// returns resp untouched, or the response to a second try.
func (t *Transport) challenged(resp *http.Response, req, out *http.Request, snap *snapshot) (*http.Response, error) {
	all := Challenges(resp.Header)
	var next *snapshot
	var err error
	if resp.StatusCode == http.StatusUnauthorized {
		blamed, c := blamesToken(all)
		if blamed {
			next, err = replacement(out.Context(), t.tokens(), snap)
		} else {
			next, err = t.answer(req, c)
		}
	} else if more, c := wantsMore(all); more {
		next, err = t.answer(req, c)
	} else {
		return resp, nil
	}
	if ctxErr := out.Context().Err(); ctxErr != nil && err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	var again *http.Request
	if err == nil {
		again, err = replay(out, next)
	}
	if err != nil {
		t.emit(Event{Kind: EventRequestRefused, StatusCode: resp.StatusCode, Err: err})
		return resp, nil //nolint:nilerr // the caller gets the server's answer, and OnEvent the reason
	}
	// The answer to a refused request is short; read to its end, its connection
	// carries the replay.
	wire.Drain(resp.Body, maxDrain)
	start := time.Now()
	resp, err = t.base().RoundTrip(again)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		next.judge(false)
	} else {
		t.tokens().accepted(next)
	}
	t.emit(Event{Kind: EventRequestReplayed, Duration: time.Since(start), StatusCode: resp.StatusCode})
	return resp, nil
}

// maxDrain is how much of a refused response is read for its connection's sake.
const maxDrain = 64 << 10

// replacement returns the token that follows the refused one.
func replacement(ctx context.Context, from tokens, refused *snapshot) (*snapshot, error) {
	from.rejected(refused)
	next, err := from.snapshot(ctx)
	switch {
	case err != nil:
		return nil, err
	case next.err != nil:
		return nil, next.err
	case next.token.AccessToken == refused.token.AccessToken:
		return nil, errors.New("authtrip: the token was refused, and there is no other one yet")
	}
	return next, nil
}

// answer asks OnChallenge for a token of more power.
func (t *Transport) answer(req *http.Request, c Challenge) (*snapshot, error) {
	if t.OnChallenge == nil {
		return nil, fmt.Errorf("authtrip: the server wants more than a fresh token: %s", wire.Code(c.Error))
	}
	tok, err := t.OnChallenge(req, c)
	if err != nil {
		return nil, fmt.Errorf("authtrip: Transport.OnChallenge: %w", err)
	}
	if tok == nil {
		return nil, errors.New("authtrip: Transport.OnChallenge returned no token")
	}
	next := &snapshot{token: tok}
	next.header, next.err = authorization(tok)
	return next, next.err
}

// replay returns a copy of out with another token and its body from the start.
// The body is asked for again even where out's may be unread: HTTP/2 sends a
// drained one as an empty one, without an error.
func replay(out *http.Request, snap *snapshot) (*http.Request, error) {
	again := new(http.Request)
	*again = *out
	again.Header = maps.Clone(out.Header)
	again.Header["Authorization"] = snap.header
	if out.Body == nil || out.Body == http.NoBody {
		return again, nil
	}
	if out.GetBody == nil {
		return nil, errors.New("authtrip: the request's body cannot be sent twice: set GetBody, or ContentLength and MaxReplayBody")
	}
	body, err := out.GetBody()
	if err != nil {
		return nil, fmt.Errorf("authtrip: the request's GetBody: %w", err)
	}
	again.Body = body
	return again, nil
}

func (t *Transport) emit(e Event) {
	if t.OnEvent != nil {
		t.OnEvent(e)
	}
}
