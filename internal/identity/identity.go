// Package identity is how the endpoints of an authorization server are reached: their URLs,
// and the client that asks them.
package identity

import (
	"errors"
	"net/http"
	"net/url"
	"sync"

	"example.com/authtrip/internal/origin"
)

// URL parses the URL of an endpoint that gets credentials. Rule 19: plain http is for
// this machine, where loopback is set, and for anybody where insecure is. The text of an
// error goes on behind what the URL is.
func URL(raw string, loopback, insecure bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("is not an absolute https URL")
	}
	if u.User != nil || u.Fragment != "" {
		return nil, errors.New("must have no user and no fragment")
	}
	if u.Scheme == "http" && !insecure && (!loopback || !origin.Loopback(u.Hostname())) {
		return nil, errors.New("is plain http: use https, or set AllowInsecureHTTP for a network that nobody else can read")
	}
	return u, nil
}

// Client returns c for identity endpoints: without its redirects, as credentials would
// follow (rule 20), and without its cookies, as one user's request would carry
// another one's.
func Client(c *http.Client) *http.Client {
	quiet := new(http.Client)
	if c != nil {
		*quiet = *c
	}
	quiet.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	quiet.Jar = nil
	base := quiet.Transport
	if base == nil {
		base = transport()
	}
	// Behind a func, as retryablehttp closes the idle connections of a client
	// whose request has failed: here they belong to the whole program.
	quiet.Transport = roundTripFunc(func(req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err == nil && resp != nil && resp.StatusCode >= 300 && resp.StatusCode < 400 {
			resp.Header.Del("Location") // http.Client would read it, and quote it in an error
		}
		return resp, err
	})
	return quiet
}

// maxIdle is how many idle connections are kept to one identity endpoint. Of
// [http.DefaultTransport] it would be two, and of many refreshes at once most would dial.
const maxIdle = 100

// transport returns http.DefaultTransport with a larger pool of connections: the same for
// the whole process, or each would have a pool of its own. Where a program has put something else in
// its place, that is used as it is.
func transport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	return pool.of(t)
}

// pool is the one clone of http.DefaultTransport.
var pool clone //nolint:gochecknoglobals // connections are shared by a process, as those of http.DefaultTransport

type clone struct {
	mu       sync.Mutex
	original *http.Transport
	copy     *http.Transport
}

// of returns the clone of t, which is made anew if http.DefaultTransport has become another one.
func (c *clone) of(t *http.Transport) *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.original != t {
		c.original, c.copy = t, t.Clone()
		c.copy.MaxIdleConnsPerHost = max(t.MaxIdleConnsPerHost, maxIdle)
		if c.copy.MaxIdleConns > 0 {
			c.copy.MaxIdleConns = max(t.MaxIdleConns, 2*maxIdle)
		}
	}
	return c.copy
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
