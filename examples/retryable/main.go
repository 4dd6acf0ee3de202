// Retryable shows hashicorp/go-retryablehttp around an authtrip.Transport: it repeats the
// requests that a busy server did not answer, if twice is the same as once. A rejected token
// is not its business: when a 401 gets here, the Transport has tried another token already,
// or there is none.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: new(moody)})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	client := newClient(&authtrip.Transport{Source: src, Origins: []string{s.URL}})
	return s.Play(ctx, w, func(ctx context.Context) error {
		answer, err := scene.Get(ctx, client, s.URL)
		fmt.Fprintln(w, answer)
		return err
	})
}

// newClient returns a client that retries outside of transport, so that each try
// carries the token of its time.
func newClient(transport http.RoundTripper) *http.Client {
	retries := retryablehttp.NewClient()
	retries.HTTPClient = &http.Client{Transport: transport, CheckRedirect: useLast}
	retries.Logger = nil // else all URLs go to stderr
	retries.RetryMax = 3
	retries.RetryWaitMin, retries.RetryWaitMax = 20*time.Millisecond, 2*time.Second
	retries.Backoff = func(least, most time.Duration, n int, resp *http.Response) time.Duration {
		return min(retryablehttp.DefaultBackoff(least, most, n, resp), most) // Retry-After, too
	}
	retries.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if errors.Is(err, authtrip.ErrReauthRequired) {
			return false, nil // the user has to log in again
		}
		return retryablehttp.DefaultRetryPolicy(ctx, resp, err) // not for a 401
	}
	retries.ErrorHandler = retryablehttp.PassthroughErrorHandler // the last answer, as it came
	return &http.Client{Transport: idempotent{&retryablehttp.RoundTripper{Client: retries}, transport}}
}

// useLast leaves redirects to the outer client.
func useLast(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// idempotent retries where twice is the same as once (RFC 9110, section 9.2.2).
type idempotent struct{ retrying, once http.RoundTripper }

func (t idempotent) RoundTrip(req *http.Request) (*http.Response, error) {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return t.retrying.RoundTrip(req)
	}
	return t.once.RoundTrip(req)
}
