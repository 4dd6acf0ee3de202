package authtrip_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// levels is what LogEvents promises.
var levels = map[authtrip.EventKind]slog.Level{
	authtrip.EventTokenObtained:  slog.LevelDebug,
	authtrip.EventTokenRefreshed: slog.LevelDebug,
	authtrip.EventUserInfoHit:    slog.LevelDebug,
	authtrip.EventUserInfoMiss:   slog.LevelDebug,

	authtrip.EventTokenLoaded:    slog.LevelInfo,
	authtrip.EventTokenRejected:  slog.LevelInfo,
	authtrip.EventRequestRetried: slog.LevelInfo,
	authtrip.EventUserInfoStale:  slog.LevelInfo,

	authtrip.EventRefreshFailed:       slog.LevelWarn,
	authtrip.EventRefreshUnknown:      slog.LevelWarn,
	authtrip.EventRequestNotRetried:   slog.LevelWarn,
	authtrip.EventUserInfoFailed:      slog.LevelWarn,
	authtrip.EventUserInfoCacheFailed: slog.LevelWarn,
	authtrip.EventSessionStarted:      slog.LevelDebug,
	authtrip.EventSessionLoggedOut:    slog.LevelDebug,
	authtrip.EventSessionExpiring:     slog.LevelInfo,
	authtrip.EventTokenUnsaved:        slog.LevelError,
	authtrip.EventReauthRequired:      slog.LevelError,
	authtrip.EventTokenNotSaved:       slog.LevelError,
	authtrip.EventKind("unknown"):     slog.LevelDebug,
}

func TestLogEventsHasALevelForEachKind(t *testing.T) {
	for kind, want := range levels {
		var out bytes.Buffer
		authtrip.LogEvents(logTo(&out))(authtrip.Event{Kind: kind})
		var line struct{ Level, Event string }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatalf("%q: %v", out.String(), err)
		}
		if line.Level != want.String() || line.Event != string(kind) {
			t.Errorf("%s is logged as %s at %s, want %s", kind, line.Event, line.Level, want)
		}
	}
}

func TestLogEventsWritesWhatIsThereAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		event authtrip.Event
		want  string
	}{
		"least": {
			authtrip.Event{Kind: authtrip.EventTokenObtained},
			`level=DEBUG msg=authtrip event=token_obtained`,
		},
		"most": {
			authtrip.Event{
				Kind: authtrip.EventRefreshFailed, Duration: 1500 * time.Millisecond, Requests: 2, Age: time.Minute,
				StatusCode: 503, Code: "temporarily_unavailable", Err: errors.New("authtrip: busy"),
			},
			`level=WARN msg=authtrip event=refresh_failed duration=1.5s requests=2 age=1m0s status=503 code=temporarily_unavailable error="authtrip: busy"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			h := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})
			authtrip.LogEvents(slog.New(h))(c.event)
			if got := strings.TrimSpace(out.String()); got != c.want {
				t.Errorf("line = %s\nwant   %s", got, c.want)
			}
		})
	}
}

func TestLogEventsWithoutALoggerIsTheDefaultOne(t *testing.T) {
	hook := authtrip.LogEvents(nil)
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(logTo(&out)) // after the hook was made
	defer slog.SetDefault(before)
	hook(authtrip.Event{Kind: authtrip.EventTokenRejected})
	if !strings.Contains(out.String(), "token_rejected") {
		t.Errorf("output = %q, want the event", out.String())
	}
}

// logTo writes everything to w, as JSON.
func logTo(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// secrets are what a server was sent.
type secrets struct {
	mu  sync.Mutex
	all map[string]bool
}

func (s *secrets) collect(r *http.Request) {
	_ = r.ParseForm()
	_, password, _ := r.BasicAuth()
	_, bearer, _ := strings.Cut(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range []string{password, bearer, r.PostForm.Get("refresh_token"), r.PostForm.Get("client_secret")} {
		if v != "" {
			s.all[v] = true
		}
	}
}

func TestLogOfALongStoryHoldsNoSecretAndNoUser(t *testing.T) {
	sent := &secrets{all: map[string]bool{"alice": true, "mallory": true}}
	srv := rotating(time.Hour)
	srv.OnRequest = sent.collect
	var mu sync.Mutex
	var out bytes.Buffer
	log := authtrip.LogEvents(logTo(&out))
	hook := func(e authtrip.Event) {
		mu.Lock()
		defer mu.Unlock()
		log(e)
	}
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		story(t, r, hook)
		for _, token := range []string{r.src.Initial.AccessToken, r.src.Initial.RefreshToken} {
			sent.all[token] = true
		}
	})
	for secret := range sent.all {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log holds a secret or a user of length %d", len(secret))
		}
	}
	if len(sent.all) < 8 {
		t.Errorf("only %d secrets were sent: the story is too short", len(sent.all))
	}
	for kind := range levels {
		// These take a Store or a crash, and log nothing of their own.
		other := []authtrip.EventKind{authtrip.EventTokenLoaded, "unknown"}
		if !slices.Contains(other, kind) && !strings.Contains(out.String(), `"`+string(kind)+`"`) {
			t.Errorf("the story has no %s", kind)
		}
	}
}

// story lets everything happen that can go wrong.
func story(t *testing.T, r *rig, hook func(authtrip.Event)) {
	t.Helper()
	store := &flakyStore{}
	r.src = &authtrip.Source{Refresher: r.src.Refresher, Initial: r.src.Initial, Key: "alice", Store: store, OnEvent: hook}
	r.client = &http.Client{Transport: &authtrip.Transport{Source: r.src, Base: r.net, OnEvent: hook}}
	info := &authtrip.UserInfoSource{URL: userInfoURL, Source: r.src, Base: r.net, OnEvent: hook, TTL: time.Minute}
	defer info.Close()
	leaky := func(s string) map[string]any {
		return map[string]any{"error": s, "error_description": "for alice: " + r.src.Initial.RefreshToken}
	}
	chapters := []func(){
		func() {},
		func() {
			_ = r.src.SetToken(t.Context(), r.srv.Issue("alice"))
			users := &authtrip.Users{Cache: new(brokenCache)}
			broken := &authtrip.UserInfoSource{URL: userInfoURL, Source: r.src, Base: r.net, OnEvent: hook, Users: users}
			defer broken.Close()
			_, _ = broken.UserInfo(t.Context())
			tok := r.srv.Issue("alice")
			ends := authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
				return tok.WithExtra(map[string]any{"refresh_expires_in": 3600.0}), nil
			})
			soon := &authtrip.Source{Refresher: ends, OnEvent: hook}
			defer soon.Close()
			_ = soon.SetToken(t.Context(), r.srv.Issue("alice"))
			_, _ = soon.Refresh(t.Context())
			_, _ = soon.Forget(t.Context())
			loose := &authtrip.Source{Refresher: authtrip.FromTokenSource(oauth2.StaticTokenSource(tok)), Store: &flakyStore{err: errors.New("down")}, Key: "app", OnEvent: hook}
			defer loose.Close()
			_, _ = loose.Token()
		},
		func() { r.srv.RevokeAll() },
		func() { expire(r) },
		func() {
			r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{JSON: map[string]any{"sub": "mallory"}})
		},
		func() { r.srv.Fail(authtriptest.UserInfoPath, authtriptest.Fault{Status: 503}) },
		func() {
			r.srv.Fail(authtriptest.UserInfoPath, answers("text/html; a="+r.src.Initial.AccessToken, "alice"))
		},
		func() {
			r.srv.RevokeAll()
			r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_client", JSON: leaky("invalid_client")})
		},
		func() {
			store.fail(errors.New("connection refused"))
			expire(r)
		},
		func() {
			r.srv.RevokeAll()
			_, _ = r.get(t.Context())
			wait(57 * time.Minute) // the new token is getting old
			r.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Reset: true})
		},
	}
	for _, happens := range chapters {
		happens()
		for range 3 {
			_, _ = r.get(t.Context())
			_, _ = info.UserInfo(t.Context())
		}
		wait(2 * time.Minute)
		_, _ = info.UserInfo(t.Context())
		r.srv.Heal(authtriptest.TokenPath)
		r.srv.Heal(authtriptest.UserInfoPath)
		store.fail(nil)
		wait(2 * time.Minute)
		_, _ = r.get(t.Context())
	}
	wait(time.Minute)
	if err := r.src.Close(); err != nil {
		t.Error(err)
	}
}

// flakyStore takes no new tokens while it fails; markers and reads go through.
type flakyStore struct {
	authtrip.MemoryStore

	mu  sync.Mutex
	err error
}

func (s *flakyStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *flakyStore) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil && !bytes.Contains(value, []byte(`"refresh_marker"`)) {
		return "", err
	}
	return s.MemoryStore.Save(ctx, key, value, version)
}

// brokenCache takes nothing.
type brokenCache struct{ authtrip.MemoryCache }

func (*brokenCache) Set(context.Context, string, []byte, time.Duration) error {
	return errors.New("connection refused")
}

// TestEventCountsNoRequestThatWasNotSent: the end of a session without a refresh token said
// that it took one.
func TestEventCountsNoRequestThatWasNotSent(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		var told []authtrip.Event
		src := &authtrip.Source{
			Refresher: r.src.Refresher,
			Initial:   &oauth2.Token{AccessToken: "a", Expiry: time.Now().Add(-time.Hour)},
			OnEvent:   func(e authtrip.Event) { told = append(told, e) },
		}
		r.others = append(r.others, src)
		_, err := src.Token()
		wantIs(t, err, authtrip.ErrReauthRequired)
		for _, e := range told {
			if e.Requests != 0 {
				t.Errorf("%s after %d requests, want none", e.Kind, e.Requests)
			}
		}
		if len(told) == 0 {
			t.Error("no event tells of the end")
		}
	})
}
