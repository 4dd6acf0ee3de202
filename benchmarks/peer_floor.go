package main

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync/atomic"
	"time"
)

// basePeer is no wrapper at all: what is left if nothing is done.
type basePeer struct{}

func (basePeer) Name() string                           { return "no wrapper" }
func (basePeer) Module() string                         { return "" }
func (basePeer) Wrap(u User) (http.RoundTripper, error) { return u.Base, nil }

// floorPeer is the least work that a correct RoundTripper can do, with a token that
// it fetches once: one atomic load, one clock read, one shallow copy of the request,
// one clone of its header, and a value built once.
type floorPeer struct{}

func (floorPeer) Name() string   { return "floor" }
func (floorPeer) Module() string { return "" }

func (floorPeer) Wrap(u User) (http.RoundTripper, error) {
	tok, err := u.Token(context.Background())
	if err != nil {
		return nil, err
	}
	f := &floor{base: u.Base}
	f.cur.Store(&floorToken{header: []string{"Bearer " + tok.AccessToken}, born: time.Now(), lifetime: time.Until(tok.Expiry)})
	return f, nil
}

type floor struct {
	cur  atomic.Pointer[floorToken]
	base http.RoundTripper
}

type floorToken struct {
	header   []string
	born     time.Time
	lifetime time.Duration
}

var errExpired = errors.New("the floor's token has expired")

func (f *floor) RoundTrip(req *http.Request) (*http.Response, error) {
	tok := f.cur.Load()
	if time.Since(tok.born) >= tok.lifetime {
		return nil, errExpired
	}
	out := new(http.Request)
	*out = *req
	if out.Header = maps.Clone(req.Header); out.Header == nil {
		out.Header = make(http.Header, 1)
	}
	out.Header["Authorization"] = tok.header
	return f.base.RoundTrip(out)
}

// channelPeer is the floor of a stampede: the first one fetches the token, the others
// wait for a channel to be closed.
type channelPeer struct{ floorPeer }

func (channelPeer) Wrap(u User) (http.RoundTripper, error) {
	first, err := floorPeer{}.Wrap(u)
	return &channelFloor{user: u, first: first, done: make(chan struct{})}, err
}

type channelFloor struct {
	user  User
	first http.RoundTripper
	asked atomic.Bool
	done  chan struct{}
	next  http.RoundTripper // written before done is closed
}

func (f *channelFloor) RoundTrip(req *http.Request) (*http.Response, error) {
	if resp, err := f.first.RoundTrip(req); !errors.Is(err, errExpired) {
		return resp, err
	}
	if !f.asked.Swap(true) {
		next, err := floorPeer{}.Wrap(f.user)
		if err != nil {
			return nil, err
		}
		f.next = next
		close(f.done)
	}
	<-f.done
	return f.next.RoundTrip(req)
}
