package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

func live(name string) *oauth2.Token {
	return &oauth2.Token{AccessToken: name, RefreshToken: name + "-r", Expiry: time.Now().Add(time.Hour)}
}

// evict makes a Sources with MaxSources 2 forget what it has in memory.
func evict(t *testing.T, users *authtrip.Sources) {
	t.Helper()
	for i := range 3 {
		if err := users.Source(fmt.Sprint("other", i)).SetToken(t.Context(), live("o")); err != nil {
			t.Fatal(err)
		}
	}
}

// Symptom: a session that was dropped from memory while its logout was being saved, and was
// needed again meanwhile, went on with its token after Forget had returned; after SetToken it
// went on with the token of the user before.
func TestSessionThatIsDroppedWhileItIsChangedIsChanged(t *testing.T) {
	for _, change := range []string{"Forget", "SetToken"} {
		t.Run(change, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var slow atomic.Bool
				store := &steps{}
				store.before = func(_ context.Context, op string) error {
					if op == "save" && slow.CompareAndSwap(true, false) {
						wait(time.Second)
					}
					return nil
				}
				users := &authtrip.Sources{Each: authtrip.Source{Refresher: &replying{}, Store: plain{store}}, MaxSources: 2}
				defer func() { _ = users.Close() }()
				if err := users.Source("k").SetToken(t.Context(), live("alice")); err != nil {
					t.Fatal(err)
				}
				slow.Store(true)
				done := make(chan error, 1)
				go func() {
					var err error
					if change == "Forget" {
						_, err = users.Source("k").Forget(t.Context())
					} else {
						err = users.Source("k").SetToken(t.Context(), live("bob"))
					}
					done <- err
				}()
				synctest.Wait()
				evict(t, users)
				ctx := authtrip.WithKey(t.Context(), "k")
				if _, err := users.TokenContext(ctx); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				tok, err := users.TokenContext(ctx)
				if change == "Forget" {
					wantIs(t, err, authtrip.ErrLoggedOut)
				} else if err != nil || tok.AccessToken != "bob" {
					t.Errorf("after SetToken another token is handed out, error %v", err)
				}
			})
		})
	}
}

// plain is a Store without anything beside.
type plain struct{ authtrip.Store }

// Symptom: a Watch of one session of Sources followed an object that was dropped from memory
// and had been replaced: the session that was handed out noticed no logout.
func TestWatchOfOneOfSourcesFollowsTheSessionThatIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(authtrip.MemoryStore)
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: &replying{}, Store: store}, MaxSources: 2}
		defer func() { _ = users.Close() }()
		if err := users.Source("k").SetToken(t.Context(), live("alice")); err != nil {
			t.Fatal(err)
		}
		watching, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = users.Source("k").Watch(watching) }()
		synctest.Wait()
		evict(t, users)
		ctx := authtrip.WithKey(t.Context(), "k")
		if _, err := users.TokenContext(ctx); err != nil {
			t.Fatal(err)
		}
		other := &authtrip.Source{Refresher: &replying{}, Store: store, Key: "k"}
		if _, err := other.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		_, err := users.TokenContext(ctx)
		wantIs(t, err, authtrip.ErrLoggedOut)
		cancel()
		synctest.Wait()
	})
}

// ending is a Store whose watches end when told.
type ending struct {
	authtrip.MemoryStore
	end context.CancelFunc
}

func (s *ending) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	ctx, s.end = context.WithCancel(ctx)
	return s.MemoryStore.Watch(ctx, key)
}

func (s *ending) WatchKeys(ctx context.Context) (<-chan string, func(string) string, error) {
	ctx, s.end = context.WithCancel(ctx)
	return s.MemoryStore.WatchKeys(ctx)
}

// Symptom: what changed between the end of a watch and the next Watch, which its error asks
// for, was not noticed before the next refresh.
func TestWatchThatIsCalledAgainNoticesWhatItMissed(t *testing.T) {
	for _, many := range []bool{false, true} {
		t.Run(fmt.Sprint("many:", many), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := new(ending)
				users := &authtrip.Sources{Each: authtrip.Source{Refresher: &replying{}, Store: store}}
				src := &authtrip.Source{Refresher: &replying{}, Store: store, Key: "k"}
				defer func() { _, _ = users.Close(), src.Close() }()
				ctx, cancel := context.WithCancel(authtrip.WithKey(t.Context(), "k"))
				defer cancel()
				watch, token := src.Watch, src.TokenContext
				if many {
					watch, token = users.Watch, users.TokenContext
				}
				other := &authtrip.Source{Refresher: &replying{}, Store: store, Key: "k"}
				if err := other.SetToken(t.Context(), live("alice")); err != nil {
					t.Fatal(err)
				}
				if _, err := token(ctx); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- watch(ctx) }()
				synctest.Wait()
				store.end()
				if err := <-ended; err == nil || !strings.Contains(err.Error(), "call Watch again") {
					t.Fatal("the watch ended with", err)
				}
				if _, err := other.Forget(t.Context()); err != nil {
					t.Fatal(err)
				}
				go func() { _ = watch(ctx) }()
				wait(time.Second)
				_, err := token(ctx)
				wantIs(t, err, authtrip.ErrLoggedOut)
				cancel()
				synctest.Wait()
			})
		})
	}
}

// Symptom: Watch after Close, and one that Close had overtaken, returned an error that was
// not ErrClosed: a loop that waits for that never ended.
func TestWatchAfterCloseIsErrClosed(t *testing.T) {
	store := new(authtrip.MemoryStore)
	src := &authtrip.Source{Refresher: &replying{}, Store: store, Key: "k"}
	users := &authtrip.Sources{Each: authtrip.Source{Refresher: &replying{}, Store: slowWatch{store}}}
	slow := &authtrip.Source{Refresher: &replying{}, Store: slowWatch{store}, Key: "k"}
	_, _, _ = src.Close(), users.Close(), slow.Close()
	for range 100 {
		if err := src.Watch(t.Context()); !errors.Is(err, authtrip.ErrClosed) {
			t.Fatalf("Source.Watch() error = %v", err)
		}
	}
	if err := slow.Watch(t.Context()); !errors.Is(err, authtrip.ErrClosed) {
		t.Errorf("Source.Watch() of a Store that takes its time: error = %v", err)
	}
	if err := users.Watch(t.Context()); !errors.Is(err, authtrip.ErrClosed) {
		t.Errorf("Sources.Watch() error = %v", err)
	}
}

// slowWatch subscribes until its context ends.
type slowWatch struct{ *authtrip.MemoryStore }

func (s slowWatch) Watch(ctx context.Context, _ string) (<-chan struct{}, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func (s slowWatch) WatchKeys(ctx context.Context) (<-chan string, func(string) string, error) {
	<-ctx.Done()
	return nil, nil, context.Cause(ctx)
}

// Symptom: a function Key that returned "" for a request of nobody gave all of those one
// session: after a login under "" each of them carried the token of that user.
func TestKeyThatIsEmptyIsNobodysSession(t *testing.T) {
	users := &authtrip.Sources{
		Each: authtrip.Source{Refresher: &replying{}},
		Key:  func(context.Context) (string, error) { return "", nil },
	}
	defer func() { _ = users.Close() }()
	err := users.Source("").SetToken(t.Context(), live("alice"))
	tok, tokErr := users.TokenContext(t.Context())
	if err == nil && tok != nil {
		t.Error("two requests without a key share a session")
	}
	if tokErr == nil {
		t.Error("a key that is empty is no error")
	}
}

// Symptom: a round that was asked for a session without a login, and waited for its turn at
// the token endpoint, sent the refresh token of the login that came meanwhile: without a
// marker, and without need.
func TestLoginWhileARoundWaitsForItsTurnIsNotSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		var spent atomic.Int32
		users := &authtrip.Sources{Each: authtrip.Source{
			Store: new(authtrip.MemoryStore),
			Refresher: authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
				<-open
				if old == nil {
					return nil, authtrip.ErrNoSession
				}
				if old.RefreshToken == "bob-r" {
					spent.Add(1)
				}
				return live("new"), nil
			}),
		}}
		defer func() { _ = users.Close() }()
		for i := range 32 {
			go func() { _, _ = users.TokenContext(authtrip.WithKey(t.Context(), fmt.Sprint(i))) }()
		}
		synctest.Wait()
		go func() { _, _ = users.TokenContext(authtrip.WithKey(t.Context(), "bob")) }()
		synctest.Wait()
		if err := users.Source("bob").SetToken(t.Context(), live("bob")); err != nil {
			t.Fatal(err)
		}
		close(open)
		synctest.Wait()
		if spent.Load() != 0 {
			t.Error("the refresh token of the new login was sent, though its access token is good for an hour")
		}
	})
}

// Symptom: sessions that waited for another process's marker kept their places at the token
// endpoint: with 32 of them no other session of the process was refreshed for a span.
func TestSessionsThatWaitForAMarkerDelayNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(authtrip.MemoryStore)
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: &replying{}, Store: store}}
		defer func() { _ = users.Close() }()
		old := `{"format":2,"login_number":1,"login":"l","access_token":"a","token_type":"Bearer","refresh_token":"r","expiry":"1990-01-01T00:00:00Z"`
		for i := range 40 {
			if _, err := store.Save(t.Context(), fmt.Sprint(i), []byte(old+`,"refresh_marker":{"owner":"one that was killed"}}`), ""); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := store.Save(t.Context(), "healthy", []byte(old+`}`), ""); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			go func() { _, _ = users.TokenContext(authtrip.WithKey(t.Context(), fmt.Sprint(i))) }()
		}
		wait(time.Second)
		began := time.Now()
		if _, err := users.TokenContext(authtrip.WithKey(t.Context(), "healthy")); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("a session that nobody else has marked waited for %v", took)
		}
		wait(time.Minute)
	})
}

// Close waits for requests that are on their way, and for no session that waits for its turn.
func TestCloseLetsGoWhoWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users := &authtrip.Sources{Each: authtrip.Source{Refresher: asking(func(ctx context.Context, _ *oauth2.Token) (*oauth2.Token, error) {
			wait(5 * time.Second)
			return live("a"), nil
		})}}
		for i := range 100 {
			go func() { _, _ = users.TokenContext(authtrip.WithKey(t.Context(), fmt.Sprint(i))) }()
		}
		synctest.Wait()
		began := time.Now()
		_ = users.Close()
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("Close() took %v", took)
		}
	})
}
