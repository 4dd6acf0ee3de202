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

func (f *floor) RoundTrip(req *http.Request) (*http.Response, error) {
	tok := f.cur.Load()
	if time.Since(tok.born) >= tok.lifetime {
		return nil, errors.New("the floor's token has expired")
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
// wait for a channel to be closed. It never has a token before that.
type channelPeer struct{ floorPeer }

func (channelPeer) Wrap(u User) (http.RoundTripper, error) {
	return &channelFloor{user: u, done: make(chan struct{})}, nil
}

type channelFloor struct {
	user  User
	calls atomic.Int64 // the first one is the warm-up, with a token of its own
	done  chan struct{}
	floor http.RoundTripper // written before done is closed
}

func (f *channelFloor) RoundTrip(req *http.Request) (*http.Response, error) {
	switch f.calls.Add(1) {
	case 1:
		warm, err := floorPeer{}.Wrap(f.user)
		if err != nil {
			return nil, err
		}
		return warm.RoundTrip(req)
	case 2:
		next, err := floorPeer{}.Wrap(f.user)
		if err != nil {
			return nil, err
		}
		f.floor = next
		close(f.done)
	}
	<-f.done
	return f.floor.RoundTrip(req)
}
