package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// Symptom: a Store that panicked once, without leases, left a session whose every round
// panicked: no token until the program was restarted.
func TestPanicOfTheStoreEndsWithItsRound(t *testing.T) {
	for _, op := range []string{"load", "save"} {
		for n := range 3 {
			t.Run(fmt.Sprint(op, " ", n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := new(steps)
					src := &authtrip.Source{Refresher: &replying{}, Store: leaseless{store}, Key: "k"}
					defer func() { _ = src.Close() }()
					old := live("old")
					old.Expiry = time.Now().Add(-time.Hour)
					if err := src.SetToken(t.Context(), old); err != nil {
						t.Fatal(err)
					}
					left := n
					store.before = func(_ context.Context, what string) error {
						if what == op {
							if left--; left == -1 {
								panic("a bug of the Store")
							}
						}
						return nil
					}
					var err error
					for range 60 {
						if _, err = src.Token(); err == nil {
							break
						}
						wait(time.Second)
					}
					if err != nil {
						t.Error("a minute after the panic:", err)
					}
				})
			})
		}
	}
}

// TestPanicIsNotTriedAgainForItsCaller: each caller had a Store that panics asked four times.
func TestPanicIsNotTriedAgainForItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, n := new(steps), 0
		store.before = func(context.Context, string) error { n++; panic("a bug of the Store") }
		src := &authtrip.Source{Refresher: &replying{}, Store: store, Key: "k"}
		defer func() { _ = src.Close() }()
		if _, err := src.Token(); err == nil || n != 1 {
			t.Errorf("Token() error = %v, the Store was asked %d times, want an error and once", err, n)
		}
	})
}

// Symptom: an OnEvent hook of a UserInfoSource that called it back, or Close, waited for the
// request that waited for the hook.
func TestHookOfAUserInfoSourceMayCallBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind authtrip.EventKind
		call func(u *authtrip.UserInfoSource)
	}{
		{"UserInfo", authtrip.EventUserInfoCacheFailed, func(u *authtrip.UserInfoSource) { _, _ = u.UserInfo(context.Background()) }},
		{"Close", authtrip.EventUserInfoMiss, func(u *authtrip.UserInfoSource) { _ = u.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var u *authtrip.UserInfoSource
				var called atomic.Bool
				u = &authtrip.UserInfoSource{
					URL: "https://as.example/userinfo", Subject: "alice", Issuer: "i",
					Source: oauth2.StaticTokenSource(live("a")),
					Cache:  deadCache{},
					Base: roundTrip(func(req *http.Request) (*http.Response, error) {
						return jsonAnswer(req, `{"sub":"alice"}`), nil
					}),
					OnEvent: func(e authtrip.Event) {
						if e.Kind == tt.kind && !called.Swap(true) {
							tt.call(u)
						}
					},
				}
				wantBack(t, "UserInfo", func() { _, _ = u.UserInfo(t.Context()) })
				if !called.Load() {
					t.Error("the hook was not called")
				}
			})
		})
	}
}

type deadCache struct{}

func (deadCache) Get(context.Context, string) ([]byte, error) { return nil, errors.New("down") }
func (deadCache) Set(context.Context, string, []byte, time.Duration) error {
	return errors.New("down")
}
func (deadCache) Take(context.Context, string) ([]byte, error) { return nil, errors.New("down") }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func jsonAnswer(req *http.Request, body string) *http.Response {
	rec := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: req}
	rec.Body = readCloser{strings.NewReader(body)}
	return rec
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// Symptom: fmt showed access tokens of a Transport after a step-up and of a UserInfoSource,
// all records of a MemoryStore, and the keys of a Sealed.
func TestPrintingWhatHoldsSecretsShowsNone(t *testing.T) {
	const secret = "secret-secret-secret"
	tok := &oauth2.Token{AccessToken: secret, RefreshToken: secret, Expiry: time.Now().Add(time.Hour)}
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := jsonAnswer(req, `{"sub":"alice"}`)
		if req.URL.Path == "/more" && req.Header.Get("Authorization") == "Bearer "+secret {
			resp.StatusCode = http.StatusForbidden
			resp.Header.Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
		}
		return resp, nil
	})
	transport := &authtrip.Transport{Source: oauth2.StaticTokenSource(tok), Base: base, OnChallenge: func(*http.Request, authtrip.Challenge) (*oauth2.Token, error) {
		return &oauth2.Token{AccessToken: secret + "2"}, nil
	}}
	if resp, err := (&http.Client{Transport: transport}).Get("https://api.example/more"); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(err)
	}
	info := &authtrip.UserInfoSource{URL: "https://as.example/userinfo", Subject: "alice", Issuer: "i", Source: oauth2.StaticTokenSource(tok), Base: base}
	if _, err := info.UserInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
	store := new(authtrip.MemoryStore)
	if err := (&authtrip.Source{Refresher: &replying{}, Store: store, Key: "k"}).SetToken(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	key := []byte("secret-secret-secret-secret-32-b")
	for _, v := range []any{
		transport, info, store,
		&authtrip.Sealed{Store: store, Keys: [][]byte{key}, NameKey: key},
		&authtrip.SealedCache{Keys: [][]byte{key}, NameKey: key},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			text := fmt.Sprintf(verb, v)
			for _, shown := range []string{secret, fmt.Sprintf("%d", key), string(key), fmt.Sprintf("%#v", key)[len("[]byte"):]} {
				if strings.Contains(text, shown) {
					t.Errorf("%s of %T shows a secret", verb, v)
					break
				}
			}
		}
	}
}

// Symptom: another session of the same refresh token had refreshed while a request was on its
// way; the access token stayed the same, and when the API rejected it, the 401 reached the
// caller, and the rejected token stayed in use.
func TestRejectedTokenThatWasPublishedAgainIsReplaced(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		store := new(authtrip.MemoryStore)
		files := &authtrip.Source{Refresher: r.src.Refresher, Initial: r.src.Initial, Store: store, Key: "alice", Variant: "files"}
		mail := &authtrip.Source{Refresher: r.src.Refresher, Store: store, Key: "alice", Variant: "mail"}
		r.others = append(r.others, files, mail)
		if _, err := files.Token(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = files.Watch(ctx) }()
		synctest.Wait()
		n := 0
		r.transport.Source = files
		r.transport.Base = roundTrip(func(req *http.Request) (*http.Response, error) {
			if n++; n == 1 {
				if _, err := mail.Token(); err != nil {
					t.Error(err)
				}
				wait(time.Second)
				resp := jsonAnswer(req, "")
				resp.StatusCode = http.StatusUnauthorized
				return resp, nil
			}
			return jsonAnswer(req, "{}"), nil
		})
		if code, err := r.get(t.Context()); err != nil || code != http.StatusOK {
			t.Errorf("GET = %d, %v, want 200 with another token", code, err)
		}
		cancel()
		synctest.Wait()
	})
}

// Nothing, a panic and the token that was to be replaced end no session.
func TestOddAnswersOfARefresher(t *testing.T) {
	for name, f := range map[string]authtrip.RefresherFunc{
		"nothing":    func(context.Context, *oauth2.Token) (*oauth2.Token, error) { return nil, nil },
		"a panic":    func(context.Context, *oauth2.Token) (*oauth2.Token, error) { panic("a bug") },
		"an old one": func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) { return old, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := &authtrip.Source{Refresher: f}
				old := live("old")
				old.Expiry = time.Now().Add(-time.Hour)
				if err := src.SetToken(t.Context(), old); err != nil {
					t.Fatal(err)
				}
				for range 50 {
					_, err := src.Token()
					if errors.Is(err, authtrip.ErrReauthRequired) {
						t.Fatal(err)
					}
					wait(time.Second)
				}
				_ = src.Close()
			})
		})
	}
}
