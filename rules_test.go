package authtrip_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestRefreshAsksForNoScope(t *testing.T) {
	srv := rotating(time.Hour)
	srv.OnRequest = func(req *http.Request) {
		if req.PostForm.Has("scope") {
			t.Errorf("a refresh asks for the scope %q", req.PostForm.Get("scope"))
		}
	}
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		expire(r)
		r.mustGet(t)
		r.wantTokenRequests(t, 1)
	})
}

func TestTokenIsInTheHeaderAndNowhereElse(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		resp, err := r.client.Get(apiURL + "?q=1")
		if err != nil {
			t.Fatal(err)
		}
		echo := authtriptest.ReadEcho(t, resp)
		if got := echo.Header.Values("Authorization"); len(got) != 1 || !strings.HasPrefix(got[0], "Bearer ") {
			t.Errorf("Authorization headers = %d, want one with Bearer", len(got))
		}
		if !strings.HasSuffix(echo.URI, "?q=1") || echo.Length != 0 {
			t.Errorf("URI = %s with %d bytes, want it as it was", echo.URI, echo.Length)
		}
	})
}

func TestTokenRequestsAreNotCached(t *testing.T) {
	srv := rotating(time.Hour)
	var got string
	srv.OnRequest = func(req *http.Request) {
		if req.URL.Path == authtriptest.TokenPath {
			got = req.Header.Get("Cache-Control")
		}
	}
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		expire(r)
		r.mustGet(t)
		if got != "no-store" {
			t.Errorf("Cache-Control of the token request = %q, want no-store", got)
		}
	})
}

func TestDPoPTokenIsNotSentAsBearer(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"token_type": "DPoP"}})
		if _, err := r.get(t.Context()); err == nil || !strings.Contains(err.Error(), `"DPoP"`) {
			t.Errorf("error = %v, want one that names the type", err)
		}
		if got := r.srv.Counts().API; got != 0 {
			t.Errorf("API requests = %d, want 0", got)
		}
	})
}

// TestClientSecretIsFormEncodedForBasic is rule 18, with the characters that a
// naive client gets wrong.
func TestClientSecretIsFormEncodedForBasic(t *testing.T) {
	srv := &authtriptest.Server{ClientID: "c:l/i ent", ClientSecret: "s:e%c+r et&", Lifetime: time.Hour}
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		expire(r)
		r.mustGet(t)
	})
}

// TestPain02TransportsOfEachRequestShareTheFlight: a program that makes a client
// for each request still refreshes once, as the lock belongs to the Source.
func TestPain02TransportsOfEachRequestShareTheFlight(t *testing.T) {
	inBothForms(t, rotatingHourly, nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Delay: time.Second})
		crowd(100, func(int) {
			client := &http.Client{Transport: &authtrip.Transport{Source: r.src, Base: r.net}}
			resp, err := client.Get(apiURL)
			if err != nil {
				t.Error(err)
				return
			}
			if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
				t.Errorf("GET = %s, want 200", resp.Status)
			}
		})
		r.wantTokenRequests(t, 1)
	})
}

// TestPain04RefreshEndsBeforeItsLease: the server is slower than any refresh may
// take. The request is cut off before the lease has run out, which is not given back
// while the request is open.
func TestPain04RefreshEndsBeforeItsLease(t *testing.T) {
	store := new(watchedLeases)
	inBubble(t, rotating(time.Hour), func(r *rig) { r.src.Store = store }, func(t *testing.T, r *rig) {
		expire(r)
		var cutOff atomic.Int64
		grant := r.src.Refresher
		r.src.Refresher = authtrip.RefresherFunc(func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			end, _ := ctx.Deadline()
			cutOff.Store(end.UnixNano())
			return grant.Refresh(ctx, old)
		})
		r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Delay: time.Hour})
		if _, err := r.src.Token(); err == nil {
			t.Fatal("no error from a server that does not answer")
		}
		if end := time.Unix(0, cutOff.Load()); store.end.IsZero() || cutOff.Load() == 0 || end.After(store.end) {
			t.Errorf("the request is cut off at %v, the lease ends at %v", end, store.end)
		}
		if store.released {
			t.Error("the lease was given back while the request is open")
		}
	})
}

// watchedLeases is a Store that knows when its last lease ends.
type watchedLeases struct {
	authtrip.MemoryStore
	end      time.Time
	released bool
}

func (s *watchedLeases) Lease(ctx context.Context, key string, ttl time.Duration) (func(context.Context) error, error) {
	release, err := s.MemoryStore.Lease(ctx, key, ttl)
	s.end = time.Now().Add(ttl)
	return func(ctx context.Context) error {
		s.released = true
		return release(ctx)
	}, err
}

// TestPain15FailuresAreToldApart: a fault that passes, a login that has ended, a
// mistake in the configuration, and a store to be repaired.
func TestPain15FailuresAreToldApart(t *testing.T) {
	const passes, login, config, repair = "passes", "login", "config", "repair"
	kind := func(err error) string {
		_, refresh := errors.AsType[*authtrip.RefreshError](err)
		switch {
		case errors.Is(err, authtrip.ErrReauthRequired):
			return login
		case errors.Is(err, authtrip.ErrNotSaved):
			return repair
		case refresh:
			return passes
		}
		return config
	}
	for _, tt := range []struct {
		name  string
		fault authtriptest.Fault
		setup func(*rig)
		want  string
	}{
		{"busy", authtriptest.Fault{Status: http.StatusTooManyRequests}, nil, passes},
		{"down", authtriptest.Fault{Status: http.StatusServiceUnavailable}, func(r *rig) { r.src.GracePeriod = authtrip.GraceForever }, passes},
		{"logged out", authtriptest.Fault{Error: "invalid_grant"}, nil, login},
		{"no endpoint", authtriptest.Fault{}, func(r *rig) { r.src.Refresher = &authtrip.Grant{ClientID: "client"} }, config},
		{"store full", authtriptest.Fault{}, func(r *rig) { r.src.Store = &killedStore{after: 2} }, repair}, // Initial and the marker
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), tt.setup, func(t *testing.T, r *rig) {
				expire(r)
				r.srv.FailAlways(authtriptest.TokenPath, tt.fault)
				_, err := r.src.Token()
				if got := kind(err); err == nil || got != tt.want {
					t.Errorf("%v: told as %q, want %q", err, got, tt.want)
				}
			})
		})
	}
}

// TestPain17NothingIsHeldDuringTheCall: an API that streams for an hour keeps
// nobody from the token, nor from its renewal.
func TestPain17NothingIsHeldDuringTheCall(t *testing.T) {
	inBubble(t, rotating(30*time.Minute), nil, func(t *testing.T, r *rig) {
		r.srv.Fail(authtriptest.APIPath, authtriptest.Fault{Stall: time.Hour})
		resp, err := r.client.Get(apiURL)
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			start := time.Now()
			r.mustGet(t)
			if waited := time.Since(start); waited != 0 {
				t.Errorf("a request waited %v for another one's body", waited)
			}
			wait(14 * time.Minute)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Errorf("the body that streamed over a renewal: %v", err)
		}
		_ = resp.Body.Close()
	})
}

// TestPain19ClocksThatDisagree: this machine's clock is ten minutes off. Neither
// is a good token thrown away, nor is one that has ended the end of the matter.
func TestPain19ClocksThatDisagree(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  time.Duration
	}{{"ahead", 10 * time.Minute}, {"behind", -10 * time.Minute}} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rotating(5*time.Minute), func(r *rig) {
				grant := r.src.Refresher
				r.src.Initial.Expiry = r.src.Initial.Expiry.Add(-tt.off)
				// A source that takes the end from the server's clock.
				r.src.Refresher = authtrip.RefresherFunc(func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
					tok, err := grant.Refresh(ctx, old)
					if err == nil {
						tok.Expiry = tok.Expiry.Add(-tt.off)
					}
					return tok, err
				})
			}, func(t *testing.T, r *rig) {
				const lives = 12
				for range lives * 5 * 60 {
					r.mustGet(t)
					wait(time.Second)
				}
				if got := r.srv.Counts().Token; got > lives+2 {
					t.Errorf("token requests in %d lifetimes = %d", lives, got)
				}
			})
		})
	}
}

// TestPain22RefreshingIsTheCallersChoice: early, late, only when refused, never.
func TestPain22RefreshingIsTheCallersChoice(t *testing.T) {
	undated := func(r *rig) {
		grant := r.src.Refresher
		r.src.Initial.Expiry = time.Time{}
		r.src.Refresher = authtrip.RefresherFunc(func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
			tok, err := grant.Refresh(ctx, old)
			if err == nil {
				tok.Expiry = time.Time{}
			}
			return tok, err
		})
	}
	for _, tt := range []struct {
		name   string
		choose func(*rig)
		after  time.Duration // the second request; the token lives for an hour
		status int
		want   []int // token requests after each of two requests
	}{
		{"early", func(r *rig) { r.src.EarlyRefresh = 30 * time.Minute }, 37 * time.Minute, 200, []int{0, 1}},
		{"by default not so early", nil, 37 * time.Minute, 200, []int{0, 0}},
		{"late", func(r *rig) { r.src.EarlyRefresh = -1 }, 59 * time.Minute, 200, []int{0, 0}},
		{"when refused", undated, 61 * time.Minute, 200, []int{0, 1}},
		{"never", func(r *rig) {
			tok := *r.src.Initial
			r.transport.Source = oauth2.StaticTokenSource(&tok)
		}, 61 * time.Minute, 401, []int{0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rotating(time.Hour), tt.choose, func(t *testing.T, r *rig) {
				r.mustGet(t)
				r.wantTokenRequests(t, tt.want[0])
				wait(tt.after)
				if status, err := r.get(t.Context()); status != tt.status {
					t.Errorf("GET = %d, %v, want %d", status, err, tt.status)
				}
				synctest.Wait()
				r.wantTokenRequests(t, tt.want[1])
			})
		})
	}
}
