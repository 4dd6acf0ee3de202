package authtrip

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/wire"
)

// userInfoEndpoint asks a server who a token's user is. It does not judge the answer.
type userInfoEndpoint struct {
	url       string
	findURL   func(context.Context) (string, error) // in place of url
	plainHTTP bool

	tokens    tokens
	client    *retryablehttp.Client
	verifyJWT func(ctx context.Context, raw string) (claims []byte, err error)
}

func newUserInfoEndpoint(u *UserInfoSource) (*userInfoEndpoint, error) {
	e := &userInfoEndpoint{url: u.URL, findURL: u.FindURL, plainHTTP: u.AllowInsecureHTTP, tokens: tokensOf(u.Source), verifyJWT: u.VerifyJWT}
	// A request that got no answer is sent again: it is a GET.
	e.client = identityClient(&http.Client{Transport: u.Base}, func(ctx context.Context, _ *http.Response, err error) (bool, error) {
		return err != nil && ctx.Err() == nil, nil
	})
	e.client.PrepareRetry = func(req *http.Request) error {
		if snap, ok := req.Context().Value(provenKey{}).(*snapshot); ok {
			return snap.authorize(req)
		}
		return nil
	}
	if e.findURL != nil {
		return e, nil
	}
	_, err := identityURL("UserInfoSource.URL", e.url, e.plainHTTP)
	return e, err
}

// locate returns the URL to ask.
func (e *userInfoEndpoint) locate(ctx context.Context) (string, error) {
	if e.findURL == nil {
		return e.url, nil
	}
	found, err := e.findURL(ctx)
	if err == nil {
		_, err = identityURL("the result of UserInfoSource.FindURL", found, e.plainHTTP)
	}
	return found, err
}

// ask sends the token of snap, and once more the one that follows it if that is
// rejected. It returns the claims, and the token that they are the answer to: that one
// may be another user's.
func (e *userInfoEndpoint) ask(ctx context.Context, url string, snap *snapshot) (*snapshot, []byte, error) {
	resp, err := e.send(ctx, url, snap) //nolint:bodyclose // read closes it
	if err != nil {
		return snap, nil, err
	}
	if blamed, _ := blamesToken(Challenges(resp.Header), snap.prover != nil); blamed && resp.StatusCode == http.StatusUnauthorized {
		wire.Drain(resp.Body, maxDrain)
		next, nextErr := replacement(ctx, e.tokens, snap)
		if nextErr != nil {
			return snap, nil, &UserInfoError{StatusCode: resp.StatusCode, Err: fmt.Errorf("the token was rejected: %w", nextErr)}
		}
		snap = next
		if resp, err = e.send(ctx, url, snap); err != nil { //nolint:bodyclose // read closes it
			return snap, nil, err
		}
		if resp.StatusCode == http.StatusUnauthorized {
			e.tokens.rejected(snap)
		} else {
			e.tokens.accepted(snap)
		}
	}
	claims, err := e.read(ctx, resp)
	return snap, claims, err
}

// provenKey is the key of a context under which the snapshot of a bound token is.
type provenKey struct{}

// send sends one request, and once more with another proof if the server wants that.
func (e *userInfoEndpoint) send(ctx context.Context, url string, snap *snapshot) (*http.Response, error) {
	if snap.err != nil {
		return nil, snap.err
	}
	if snap.prover == nil {
		return e.sendOnce(ctx, url, snap)
	}
	ctx = context.WithValue(ctx, provenKey{}, snap)
	resp, err := e.sendOnce(ctx, url, snap)
	if err != nil || !snap.prover.Answered(resp.Request, resp, proofError(resp)) {
		return resp, err
	}
	wire.Drain(resp.Body, maxDrain)
	if resp, err = e.sendOnce(ctx, url, snap); err == nil {
		snap.prover.Answered(resp.Request, resp, proofError(resp))
	}
	return resp, err
}

func (e *userInfoEndpoint) sendOnce(ctx context.Context, url string, snap *snapshot) (*http.Response, error) {
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, &UserInfoError{Err: bare(err)}
	}
	if err = snap.authorize(req.Request); err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if e.verifyJWT != nil {
		req.Header.Set("Accept", "application/json, application/jwt")
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, &UserInfoError{Err: bare(err)}
	}
	return resp, nil
}

// read returns the claims in a response, and closes it.
func (e *userInfoEndpoint) read(ctx context.Context, resp *http.Response) ([]byte, error) {
	defer wire.Drain(resp.Body, 0)
	claims, err := e.claims(ctx, resp)
	if err != nil {
		return nil, &UserInfoError{
			StatusCode: resp.StatusCode,
			RetryAfter: wire.RetryAfter(resp.Header, time.Now()),
			Err:        err,
		}
	}
	return claims, nil
}

func (e *userInfoEndpoint) claims(ctx context.Context, resp *http.Response) ([]byte, error) {
	if err := wantOK(resp.StatusCode); err != nil {
		return nil, err
	}
	body, err := wire.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	switch mediaType := wire.MediaType(resp.Header); mediaType {
	case "application/json":
		return body, nil
	case "application/jwt":
		if e.verifyJWT == nil {
			return nil, errors.New("the answer is a signed JWT: set UserInfoSource.VerifyJWT")
		}
		// Awaited, so that a panic or a hang in there is a failure like any other.
		return flight.Await(ctx, func() ([]byte, error) { return e.verifyJWT(ctx, string(body)) })
	default:
		return nil, fmt.Errorf("Content-Type is %s, want application/json", mediaType)
	}
}

// wantOK returns an error that says what to do about any status but 200.
func wantOK(status int) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized:
		return errors.New("the token was rejected")
	case status == http.StatusForbidden:
		return errors.New("the token may not read user info: the login has to ask for scope openid, or for the provider's own")
	case status >= 300 && status < 400:
		return errors.New("the endpoint redirects, which is never followed with credentials: set UserInfoSource.URL to where it points")
	}
	return errors.New("want status 200")
}
