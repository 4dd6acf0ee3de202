package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip"
)

// A Peer is one library, used through its public API as its documentation shows.
// Each has a file of its own.
type Peer interface {
	// Name is the heading of its column.
	Name() string
	// Module is the path of its module, "" for the floors.
	Module() string
	// Wrap returns what sends the requests of one user.
	Wrap(u User) (http.RoundTripper, error)
}

// A CrowdPeer has a way of its own to serve many users. For the others there is a
// map, see userMap.
type CrowdPeer interface {
	Peer
	// WrapCrowd returns what sends the requests of up to max users, and what ends it.
	WrapCrowd(base http.RoundTripper, fetch func(ctx context.Context, user string) (*oauth2.Token, error), max int) (rt http.RoundTripper, end func())
}

// A User is what a Peer gets to work with: the same for all of them.
type User struct {
	// Base sends the requests.
	Base http.RoundTripper
	// Endpoint is where tokens come from. A peer that asks token endpoints itself
	// does so; the others get Token as their function.
	Endpoint *Endpoint
	// Fetch, if set, is where tokens come from instead of Endpoint, without any
	// network.
	Fetch func(ctx context.Context) (*oauth2.Token, error)
	// Margin is how long before its expiry a token is due for refresh. If 0, the peer's own
	// default counts; a peer that has no such setting ignores it.
	Margin time.Duration
	// Store, if set, is where the tokens are kept that several processes share. A
	// peer that has nothing of the kind ignores it.
	Store authtrip.Store
}

// Token gets a new token, as an application would that gives a library a function
// to call.
func (u User) Token(ctx context.Context) (*oauth2.Token, error) {
	if u.Fetch != nil {
		return u.Fetch(ctx)
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, u.Endpoint.Client)
	if u.Endpoint.RefreshToken != "" {
		return u.Endpoint.refresh(ctx)
	}
	return u.Endpoint.program().Token(ctx)
}

// An Endpoint is a token endpoint and what it takes to use it.
type Endpoint struct {
	URL    string
	Client *http.Client
	// RefreshToken makes it the grant of a user who has logged in. If "", it is
	// that of a program: client credentials.
	RefreshToken string

	next atomic.Pointer[string] // the refresh token that came last, as they may rotate
}

func (e *Endpoint) refresh(ctx context.Context) (*oauth2.Token, error) {
	old := &oauth2.Token{RefreshToken: e.RefreshToken}
	if next := e.next.Load(); next != nil {
		old.RefreshToken = *next
	}
	tok, err := e.user().TokenSource(ctx, old).Token()
	if err == nil {
		e.next.Store(&tok.RefreshToken)
	}
	return tok, err
}

func (e *Endpoint) program() *clientcredentials.Config {
	return &clientcredentials.Config{ClientID: "client", ClientSecret: "secret", TokenURL: e.URL, AuthStyle: oauth2.AuthStyleInHeader}
}

func (e *Endpoint) user() *oauth2.Config {
	return &oauth2.Config{ClientID: "client", ClientSecret: "secret", Endpoint: oauth2.Endpoint{TokenURL: e.URL, AuthStyle: oauth2.AuthStyleInHeader}}
}

// tokenSource is User.Token as x/oauth2 and those that stand on it want it.
type tokenSource struct{ user User }

func (s tokenSource) Token() (*oauth2.Token, error) { return s.user.Token(context.Background()) }

// peers returns all of them in the order of the table.
func peers() []Peer {
	return []Peer{basePeer{}, floorPeer{}, authtripPeer{}, oauth2Peer{}, googlePeer{}, azcorePeer{}, smithyPeer{}, clientGoPeer{}}
}

// libraries returns those that get tokens by themselves.
func libraries() []Peer { return peers()[2:] }

type userKey struct{}

// withUser returns a context whose requests are of that user.
func withUser(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, userKey{}, name)
}

func userOf(ctx context.Context) string {
	name, _ := ctx.Value(userKey{}).(string)
	return name
}

// userMap is how an application serves many users with a library that is for one:
// a map of what Wrap returns.
type userMap struct {
	wrap func(name string) (http.RoundTripper, error)

	mu    sync.RWMutex // guards users
	users map[string]http.RoundTripper
}

func (m *userMap) RoundTrip(req *http.Request) (*http.Response, error) {
	name := userOf(req.Context())
	m.mu.RLock()
	rt := m.users[name]
	m.mu.RUnlock()
	if rt == nil {
		made, err := m.wrap(name)
		if err != nil {
			return nil, err
		}
		m.mu.Lock()
		if rt = m.users[name]; rt == nil {
			rt = made
			m.users[name] = rt
		}
		m.mu.Unlock()
	}
	return rt.RoundTrip(req)
}

// crowdOf returns what sends the requests of many users, and what ends it.
func crowdOf(p Peer, base http.RoundTripper, fetch func(ctx context.Context, user string) (*oauth2.Token, error), size int) (rt http.RoundTripper, end func()) {
	if c, ok := p.(CrowdPeer); ok {
		return c.WrapCrowd(base, fetch, size)
	}
	return &userMap{users: make(map[string]http.RoundTripper), wrap: func(name string) (http.RoundTripper, error) {
		return p.Wrap(User{Base: base, Fetch: func(ctx context.Context) (*oauth2.Token, error) { return fetch(ctx, name) }})
	}}, func() {}
}
