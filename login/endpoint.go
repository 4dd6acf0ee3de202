package login

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/internal/identity"
	"example.com/authtrip/internal/wire"
)

// endpointTimeout ends a request of which the caller's context knows no earlier
// end.
const endpointTimeout = 30 * time.Second

// fetch gets a document that a server publishes. A fetch that got no answer is
// tried once more.
func fetch(ctx context.Context, c *http.Client, name, at string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, &EndpointError{Endpoint: name, Err: wire.Cause(err)}
	}
	req.Header.Set("Accept", "application/json")
	a, err := send(c, req, name)
	if ee, ok := errors.AsType[*EndpointError](err); ok && ee.StatusCode == 0 && ctx.Err() == nil {
		a, err = send(c, req.Clone(ctx), name)
	}
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, a.fail(name, errors.New("want status 200"))
	}
	return a.body, nil
}

// An answer is a response that was read to its end.
type answer struct {
	status    int
	header    http.Header
	mediaType string
	retry     time.Duration
	body      []byte
}

// send sends a request to an endpoint and reads what it answers.
func send(c *http.Client, req *http.Request, name string) (*answer, error) {
	resp, err := identity.Client(c).Do(req)
	if err != nil {
		return nil, &EndpointError{Endpoint: name, Err: fmt.Errorf("no answer: %w", wire.Cause(err))}
	}
	defer func() { _ = resp.Body.Close() }()
	a := &answer{
		status:    resp.StatusCode,
		header:    resp.Header,
		mediaType: wire.MediaType(resp.Header),
		retry:     wire.RetryAfter(resp.Header, time.Now()),
	}
	if a.status >= 300 && a.status < 400 {
		return nil, a.fail(name, errors.New("it redirects, which is never followed"))
	}
	body, err := wire.ReadAll(resp.Body)
	if err != nil {
		return nil, a.fail(name, wire.Cause(err))
	}
	a.body = body
	return a, nil
}

func (a *answer) fail(name string, err error) *EndpointError {
	e := &EndpointError{Endpoint: name, StatusCode: a.status, RetryAfter: a.retry, Err: err}
	if a.status != http.StatusOK {
		e.Code, e.Description = wire.Error(a.body)
	}
	return e
}

// post sends form to an endpoint as this client. It is sent once: what it asks
// for may have been done when the answer is lost.
func (c *Client) post(ctx context.Context, name string, form url.Values, accept string) (*answer, error) {
	return c.postBound(ctx, name, form, accept, nil)
}

// postBound is post with a proof of prover, if there is one, and once more with another
// proof where the server wants that.
func (c *Client) postBound(ctx context.Context, name string, form url.Values, accept string, prover authtrip.Prover) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
	defer cancel()
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	auth, err := c.auth(m)
	if err != nil {
		return nil, err
	}
	endpoint, err := c.Provider.endpoint(m, name, auth.certificate())
	if err != nil {
		return nil, err
	}
	a, again, err := auth.postOnce(ctx, name, endpoint.String(), form, accept, prover)
	if again {
		a, _, err = auth.postOnce(ctx, name, endpoint.String(), form, accept, prover)
	}
	return a, err
}

func (a *clientAuth) postOnce(ctx context.Context, name, endpoint string, form url.Values, accept string, prover authtrip.Prover) (got *answer, again bool, err error) {
	header := http.Header{
		"Accept":        {accept},
		"Content-Type":  {"application/x-www-form-urlencoded"},
		"Cache-Control": {"no-store"},
	}
	form = maps.Clone(form) // the client's assertion is another one each time
	if err = a.apply(ctx, header, form); err != nil {
		return nil, false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, false, &EndpointError{Endpoint: name, Err: wire.Cause(err)}
	}
	req.Header = header
	if prover == nil {
		got, err = send(a.httpClient(), req, name)
		return got, false, err
	}
	if err = prover.Prove(req); err != nil {
		return nil, false, fmt.Errorf("login: Client.DPoP: %w", err)
	}
	if got, err = send(a.httpClient(), req, name); err != nil {
		return nil, false, err
	}
	code := ""
	if got.status >= http.StatusBadRequest {
		code, _ = wire.Error(got.body)
	}
	return got, prover.Answered(req, &http.Response{StatusCode: got.status, Header: got.header}, code), nil
}
