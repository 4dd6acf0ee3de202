package login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/internal/wire"
)

// endpointTimeout ends a request of which the caller's context knows no earlier
// end.
const endpointTimeout = 30 * time.Second

// quiet returns c without its redirects: an answer that redirects is an error,
// as credentials would follow. Rule 20.
func quiet(c *http.Client) *http.Client {
	q := new(http.Client)
	if c != nil {
		*q = *c
	}
	q.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	q.Jar = nil
	return q
}

// fetch gets a document that a server publishes. A fetch that got no answer is
// tried once more.
func fetch(ctx context.Context, c *http.Client, name, at string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, &EndpointError{Endpoint: name, Err: bare(err)}
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
	resp, err := quiet(c).Do(req)
	if err != nil {
		return nil, &EndpointError{Endpoint: name, Err: fmt.Errorf("no answer: %w", bare(err))}
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
		return nil, a.fail(name, bare(err))
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
		return nil, false, &EndpointError{Endpoint: name, Err: bare(err)}
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

// bare returns the error without the URL that net/http puts around it: the
// query of a URL may hold a secret.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// decode reads an answer that is a JSON object.
func (a *answer) decode(v any) error {
	if !bytes.HasPrefix(bytes.TrimLeft(a.body, " \t\r\n"), []byte("{")) {
		return errors.New("the answer is not a JSON object")
	}
	return json.Unmarshal(a.body, v)
}
