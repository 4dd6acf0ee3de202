package oteltrip_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

const server = "https://as.example"

// TestNoSecretAndNoUserIsRecorded lets a server, an API and a Store go wrong, each
// of which says in its errors what it should not, and searches all that was
// recorded for what was sent.
func TestNoSecretAndNoUserIsRecorded(t *testing.T) {
	t.Parallel()
	b := newBench()
	seen := secrets{all: map[string]bool{"alice": true, "client-secret": true}}
	synctest.Test(t, func(t *testing.T) {
		srv := &authtriptest.Server{Rotate: true, Lifetime: time.Hour, OnRequest: seen.collect}
		network := authtriptest.NewNetwork(t)
		network.Handle(server, srv)
		grant := authtrip.RefreshToken(srv.Config(server))
		grant.HTTPClient = &http.Client{Transport: network}
		store := &gossip{}
		src := &authtrip.Source{Refresher: grant, Initial: srv.Issue("alice"), Store: store, Key: "alice", OnEvent: b.Event}
		client := &http.Client{Transport: &authtrip.Transport{Source: src, Base: network, OnEvent: b.Event}}
		info := &authtrip.UserInfoSource{
			URL: server + authtriptest.UserInfoPath, Source: src, Base: network, OnEvent: b.Event, TTL: time.Minute,
			Cache: gossipCache{},
		}
		leak := authtriptest.Fault{Status: 400, JSON: map[string]any{
			"error": src.Initial.AccessToken, "error_description": "alice " + src.Initial.RefreshToken,
		}}
		for _, happens := range []func(){
			func() {},
			func() { srv.RevokeAll() },
			func() { srv.FailAlways(authtriptest.UserInfoPath, authtriptest.Fault{Status: 500}) },
			func() {
				srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{JSON: map[string]any{"sub": "mallory"}})
			},
			func() { srv.FailAlways(authtriptest.TokenPath, leak) },
			func() { store.fails(true) },
			func() { srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Reset: true}) },
		} {
			happens()
			for _, wait := range []time.Duration{time.Second, 31 * time.Minute, 31 * time.Minute} {
				<-time.After(wait)
				if resp, err := client.Get(server + authtriptest.APIPath); err == nil {
					_ = resp.Body.Close()
				}
				_, _ = info.UserInfo(t.Context())
			}
			srv.Heal(authtriptest.TokenPath)
			srv.Heal(authtriptest.UserInfoPath)
			store.fails(false)
			<-time.After(time.Minute)
			if tok, err := src.Token(); err == nil {
				seen.add(tok.AccessToken, tok.RefreshToken)
			}
		}
		if err := errors.Join(src.Close(), info.Close()); err != nil {
			t.Error(err)
		}
	})
	all := b.everything(t)
	for secret := range seen.all {
		if strings.Contains(all, secret) {
			t.Errorf("a secret or a user of length %d was recorded", len(secret))
		}
	}
	if len(seen.all) < 8 {
		t.Errorf("only %d secrets were sent: the story is too short", len(seen.all))
	}
	outcomes := make(map[string]bool)
	for name := range b.series(t) {
		metric, _, _ := strings.Cut(name, " ")
		outcomes[metric] = true
		if _, rest, ok := strings.Cut(name, "authtrip.refresh.outcome="); ok {
			outcome, _, _ := strings.Cut(rest, " ")
			outcomes[outcome] = true
		}
	}
	for _, want := range []string{
		"authtrip.request.rejections", "authtrip.userinfo.fetch.duration", "authtrip.userinfo.cache.failures",
		"authtrip.userinfo.stale.age", "refreshed", "failed", "reauth_required",
	} {
		if !outcomes[want] {
			t.Errorf("the story has no %s: %v", want, b.series(t))
		}
	}
}

// secrets are what was sent.
type secrets struct {
	mu  sync.Mutex
	all map[string]bool
}

func (s *secrets) add(all ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range all {
		if v != "" {
			s.all[v] = true
			s.all[url.QueryEscape(v)] = true
			s.all[base64.StdEncoding.EncodeToString([]byte(v))] = true
		}
	}
}

func (s *secrets) collect(r *http.Request) {
	_ = r.ParseForm()
	_, password, _ := r.BasicAuth()
	_, bearer, _ := strings.Cut(r.Header.Get("Authorization"), "Bearer ")
	s.add(password, bearer, r.PostForm.Get("refresh_token"), r.PostForm.Get("client_secret"))
}

// gossip is a Store whose errors name what it was asked for.
type gossip struct {
	authtrip.MemoryStore

	mu   sync.Mutex
	down bool
}

func (g *gossip) fails(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = down
}

func (g *gossip) Load(ctx context.Context, key string) ([]byte, string, error) {
	value, version, err := g.MemoryStore.Load(ctx, key)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down {
		return nil, "", fmt.Errorf("GET %s: was %s", key, value)
	}
	return value, version, err
}

// gossipCache never works.
type gossipCache struct{}

func (gossipCache) Get(_ context.Context, key string) ([]byte, error) {
	return nil, fmt.Errorf("GET %s for alice", key)
}

func (gossipCache) Set(_ context.Context, key string, value []byte, _ time.Duration) error {
	return fmt.Errorf("SET %s %s", key, value)
}

func (gossipCache) Take(_ context.Context, key string) ([]byte, error) {
	return nil, fmt.Errorf("TAKE %s", key)
}
