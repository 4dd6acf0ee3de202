package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// The benchmarks measure what stands between http.Client and the network, so
// that there is no network: the base answers at once. Side by side in one run are
//
//	base      nothing but the base; what it takes is to be subtracted
//	floor     the least that a correct RoundTripper can do
//	authtrip  Transport with a Source
//	sources   Transport with the Sources of many subjects
//	oauth2    oauth2.Transport with the source that oauth2.Config makes
//
// The token has 900 bytes, as a JWT has.

// BenchmarkRoundTrip is the hot path: the token is valid.
func BenchmarkRoundTrip(b *testing.B) {
	for _, w := range wrappers() {
		b.Run(w.name, func(b *testing.B) {
			for _, n := range []int{0, 5, 20} {
				b.Run("headers="+strconv.Itoa(n), func(b *testing.B) {
					rt := w.wrap(stub)
					req, p := newProbe(b, n)
					b.ReportAllocs()
					for b.Loop() {
						if _, err := rt.RoundTrip(req); err != nil {
							b.Fatal(err)
						}
					}
					p.check(b, w)
				})
			}
			b.Run("parallel", func(b *testing.B) {
				rt := w.wrap(stub)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					req, p := newProbe(b, 5)
					for pb.Next() {
						if _, err := rt.RoundTrip(req); err != nil {
							b.Error(err)
							return
						}
						p.check(b, w)
					}
				})
			})
		})
	}
}

// BenchmarkToken is a Source by itself.
func BenchmarkToken(b *testing.B) {
	b.Run("valid", func(b *testing.B) {
		src := newValidSource()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := src.TokenContext(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReplay is a request whose token was revoked: 401, refresh, second try.
// The base of it is the two answers.
func BenchmarkReplay(b *testing.B) {
	a := new(revoker)
	for _, w := range []wrapper{
		{name: "base", wrap: func(base http.RoundTripper) http.RoundTripper { return base }},
		{name: "authtrip", wrap: func(base http.RoundTripper) http.RoundTripper {
			return &authtrip.Transport{Source: a.source(), Base: base}
		}},
	} {
		b.Run(w.name, func(b *testing.B) {
			rt := w.wrap(a)
			req, _ := newProbe(b, 5)
			b.ReportAllocs()
			for b.Loop() {
				a.revoke()
				resp, err := rt.RoundTrip(req)
				if w.name == "base" {
					_, err = rt.RoundTrip(req)
				} else if err == nil && resp.StatusCode != http.StatusOK {
					err = errors.New(resp.Status)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStorm is that many requests at once with a token that was revoked: one
// of them refreshes it. An operation is the whole storm.
func BenchmarkStorm(b *testing.B) {
	for _, n := range []int{50, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			a := new(revoker)
			rt := &authtrip.Transport{Source: a.source(), Base: a}
			reqs := make([]*http.Request, n)
			for i := range reqs {
				reqs[i], _ = newProbe(b, 5)
			}
			storms := 0
			b.ReportAllocs()
			for b.Loop() {
				storms++
				a.revoke()
				crowd(n, func(i int) {
					if resp, err := rt.RoundTrip(reqs[i]); err != nil || resp.StatusCode != http.StatusOK {
						b.Errorf("RoundTrip() = %v, %v", resp, err)
					}
				})
			}
			// The first one is for the first token.
			if got := int(a.grants.Load()); got != storms {
				b.Errorf("token requests = %d in %d storms", got, storms)
			}
		})
	}
}

// BenchmarkUserInfo is the answer to who the user is, from memory.
func BenchmarkUserInfo(b *testing.B) {
	b.Run("hit", func(b *testing.B) {
		info := newUserInfo(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := info.UserInfo(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestAllocations holds the hot path to what cannot be had for less: the copies
// of the request and of its header.
func TestAllocations(t *testing.T) {
	allocs := func(t *testing.T, f func() error) float64 {
		t.Helper()
		return testing.AllocsPerRun(200, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, n := range []int{0, 5, 20} {
		got := make(map[string]float64)
		for _, w := range wrappers() {
			rt := w.wrap(stub)
			req, p := newProbe(t, n)
			got[w.name] = allocs(t, func() error { _, err := rt.RoundTrip(req); return err })
			p.check(t, w)
		}
		if raceEnabled {
			continue
		}
		for _, name := range []string{"authtrip", "sources"} {
			if got[name] > got["floor"] || n == 5 && got[name] > 3 {
				t.Errorf("%s, %d headers: %v allocations, want at most %v, and 3 for 5", name, n, got[name], got["floor"])
			}
		}
	}
	src, info := newValidSource(), newUserInfo(t)
	for name, f := range map[string]func() error{
		"Token":    func() error { _, err := src.TokenContext(t.Context()); return err },
		"UserInfo": func() error { _, err := info.UserInfo(t.Context()); return err },
	} {
		if got := allocs(t, f); got != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
}

var (
	benchToken  = strings.Repeat("eyJhbGciOiJFUzI1NiIs", 45)
	benchHeader = "Bearer " + benchToken
)

// A wrapper is one of those that are compared.
type wrapper struct {
	name string
	wrap func(http.RoundTripper) http.RoundTripper
}

func wrappers() []wrapper {
	return []wrapper{
		{"base", func(base http.RoundTripper) http.RoundTripper { return base }},
		{"floor", func(base http.RoundTripper) http.RoundTripper {
			f := &floor{base: base}
			f.cur.Store(&floorToken{header: []string{benchHeader}, born: time.Now(), lifetime: time.Hour})
			return f
		}},
		{"authtrip", func(base http.RoundTripper) http.RoundTripper {
			return &authtrip.Transport{Source: newValidSource(), Base: base}
		}},
		{"sources", func(base http.RoundTripper) http.RoundTripper {
			return &authtrip.Transport{Base: base, Source: &authtrip.Sources{
				New: func(string) (*authtrip.Source, error) {
					src := newValidSource()
					src.Store, src.Key = new(authtrip.MemoryStore), "alice"
					return src, nil
				},
			}}
		}},
		{"oauth2", func(base http.RoundTripper) http.RoundTripper {
			return &oauth2.Transport{Source: new(oauth2.Config).TokenSource(context.Background(), validToken()), Base: base}
		}},
	}
}

func validToken() *oauth2.Token {
	return &oauth2.Token{AccessToken: benchToken, RefreshToken: "refresh", Expiry: time.Now().Add(time.Hour)}
}

func newValidSource() *authtrip.Source {
	return &authtrip.Source{
		Initial: validToken(),
		Refresher: authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
			return nil, errors.New("a valid token was refreshed")
		}),
	}
}

// floor is the least work: one atomic load, one clock read, one shallow copy of
// the request, one clone of its header, a value that was built before.
type floor struct {
	cur  atomic.Pointer[floorToken]
	base http.RoundTripper
}

type floorToken struct {
	header   []string
	born     time.Time
	lifetime time.Duration
}

func (f *floor) RoundTrip(req *http.Request) (*http.Response, error) {
	tok := f.cur.Load()
	if time.Since(tok.born) >= tok.lifetime {
		return nil, errors.New("expired")
	}
	out := new(http.Request)
	*out = *req
	if out.Header = maps.Clone(req.Header); out.Header == nil {
		out.Header = make(http.Header, 1)
	}
	out.Header["Authorization"] = tok.header
	return f.base.RoundTrip(out)
}

// A probe is in the context of a request; it brings the answer, so that nothing
// is allocated for it, and takes back which token arrived.
type probe struct {
	resp   http.Response
	header string
}

type probeKey struct{}

func newProbe(tb testing.TB, headers int) (*http.Request, *probe) {
	tb.Helper()
	p := &probe{resp: http.Response{StatusCode: http.StatusOK, Body: http.NoBody}}
	ctx := context.WithValue(authtrip.WithKey(context.Background(), "alice"), probeKey{}, p)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.example.com/v1/books", http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range headers {
		req.Header.Set(fmt.Sprintf("X-Header-%d", i), "value")
	}
	return req, p
}

func (p *probe) check(tb testing.TB, w wrapper) {
	if w.name != "base" && p.header != benchHeader {
		tb.Errorf("%s: the base got Authorization %q", w.name, p.header)
	}
}

// stub answers what the probe brings.
var stub = roundTripFunc(func(req *http.Request) (*http.Response, error) {
	p := req.Context().Value(probeKey{}).(*probe)
	if v := req.Header["Authorization"]; len(v) == 1 {
		p.header = v[0]
	}
	return &p.resp, nil
})

// A revoker is a server of both kinds, without a network: it grants tokens, and
// accepts the last one if that was not revoked.
type revoker struct {
	grants atomic.Int64
	valid  atomic.Pointer[string]
}

func (a *revoker) revoke() { a.valid.Store(new(string)) }

func (a *revoker) source() *authtrip.Source {
	return &authtrip.Source{Refresher: a, Initial: validToken()}
}

func (a *revoker) Refresh(context.Context, *oauth2.Token) (*oauth2.Token, error) {
	tok := validToken()
	tok.AccessToken += strconv.FormatInt(a.grants.Add(1), 10)
	header := "Bearer " + tok.AccessToken
	a.valid.Store(&header)
	return tok, nil
}

func (a *revoker) RoundTrip(req *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Request: req}
	if v := req.Header["Authorization"]; len(v) == 1 && v[0] == *a.valid.Load() {
		resp.StatusCode = http.StatusOK
		return resp, nil
	}
	resp.Header = http.Header{"Www-Authenticate": {authtriptest.InvalidToken}}
	return resp, nil
}

// newUserInfo has an answer in memory.
func newUserInfo(tb testing.TB) *authtrip.UserInfoSource {
	tb.Helper()
	info := &authtrip.UserInfoSource{
		URL:     "https://as.example/userinfo",
		Subject: "alice",
		Source:  newValidSource(),
		Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.Header().Set("Content-Type", "application/json")
			_, err := w.WriteString(`{"sub":"alice"}`)
			return w.Result(), err
		}),
	}
	if _, err := info.UserInfo(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return info
}
