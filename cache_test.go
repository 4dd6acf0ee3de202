package authtrip_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func TestMemoryCache(t *testing.T) {
	authtriptest.TestCache(t, func(*testing.T) authtrip.Cache { return new(authtrip.MemoryCache) }, nil)
}

// put stores a value that is its key.
func put(t *testing.T, c *authtrip.MemoryCache, ttl time.Duration, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if err := c.Set(t.Context(), k, []byte(k), ttl); err != nil {
			t.Fatal(err)
		}
	}
}

// wantKeys holds that of all keys these are there.
func wantKeys(t *testing.T, c *authtrip.MemoryCache, all, want string) {
	t.Helper()
	var got []string
	for k := range strings.FieldsSeq(all) {
		v, err := c.Get(t.Context(), k)
		switch {
		case err == nil && string(v) == k:
			got = append(got, k)
		case !errors.Is(err, authtrip.ErrNotFound):
			t.Errorf("Get(%s) = %q, %v", k, v, err)
		}
	}
	if s := strings.Join(got, " "); s != want {
		t.Errorf("of %q there are %q, want %q", all, s, want)
	}
}

func TestMemoryCacheStaysUnderItsCapWithAMillionKeys(t *testing.T) {
	n, limit := 1_000_000, 10_000
	if raceEnabled {
		n = 100_000
	}
	c := new(authtrip.MemoryCache)
	goroutines, before := runtime.NumGoroutine(), heap()
	value := make([]byte, 100)
	for i := range n {
		if err := c.Set(t.Context(), strconv.Itoa(i), value, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if got := heap() - before; got > 20<<20 {
		t.Errorf("the heap has grown by %d bytes", got)
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		t.Errorf("%d goroutines, want %d as before", got, goroutines)
	}
	kept := 0
	for i := range n {
		_, err := c.Get(t.Context(), strconv.Itoa(i))
		if err == nil {
			kept++
		}
		if newest := i >= n-limit; newest != (err == nil) {
			t.Fatalf("Get(%d of %d) = %v", i, n, err)
		}
	}
	if kept != limit {
		t.Errorf("%d values are kept, want %d", kept, limit)
	}
}

// heap is the number of bytes in use, after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMemoryCacheDropsTheOldestFirst(t *testing.T) {
	c := &authtrip.MemoryCache{MaxEntries: 3}
	put(t, c, time.Hour, "a", "b", "c")
	wantKeys(t, c, "a b c", "a b c") // reading makes nothing younger
	put(t, c, time.Hour, "d")
	wantKeys(t, c, "a b c d", "b c d")
	put(t, c, time.Hour, "b") // is the youngest again, and takes no second place
	wantKeys(t, c, "a b c d", "b c d")
	put(t, c, time.Hour, "e", "f")
	wantKeys(t, c, "a b c d e f", "b e f")
}

func TestOverwrittenKeysTakeOnePlace(t *testing.T) {
	c := &authtrip.MemoryCache{MaxEntries: 2}
	put(t, c, time.Hour, "a")
	for range 100 {
		put(t, c, time.Hour, "b")
	}
	wantKeys(t, c, "a b", "a b")
}

func TestTakenValuesTakeNoPlace(t *testing.T) {
	c := &authtrip.MemoryCache{MaxEntries: 2}
	put(t, c, time.Hour, "kept")
	for i := range 100 {
		key := strconv.Itoa(i % 3)
		put(t, c, time.Hour, key)
		if v, err := c.Take(t.Context(), key); err != nil || string(v) != key {
			t.Fatalf("Take() = %q, %v", v, err)
		}
	}
	put(t, c, time.Hour, "0") // was taken, and is a new value
	wantKeys(t, c, "kept 0 1 2", "kept 0")
}

func TestRemovedValuesTakeNoPlace(t *testing.T) {
	c := &authtrip.MemoryCache{MaxEntries: 2}
	put(t, c, time.Hour, "kept")
	for i := range 100 {
		put(t, c, time.Hour, strconv.Itoa(i))
		put(t, c, 0, strconv.Itoa(i))
	}
	wantKeys(t, c, "kept", "kept")
}

func TestExpiredValueThatIsSetAnewIsTheYoungest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &authtrip.MemoryCache{MaxEntries: 2}
		put(t, c, time.Minute, "a")
		put(t, c, time.Hour, "b")
		wait(time.Minute + 1)
		put(t, c, time.Hour, "a")
		wantKeys(t, c, "a b", "a b")
		put(t, c, time.Hour, "c")
		wantKeys(t, c, "a b c", "a c")
	})
}

func TestValuesEndWithTheirTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(authtrip.MemoryCache)
		put(t, c, time.Minute, "a")
		put(t, c, 2*time.Minute, "b")
		wait(time.Minute + 1)
		wantKeys(t, c, "a b", "b")
		if _, err := c.Take(t.Context(), "a"); !errors.Is(err, authtrip.ErrNotFound) {
			t.Errorf("Take() = %v, want ErrNotFound", err)
		}
		wait(time.Minute)
		wantKeys(t, c, "a b", "")
	})
}

func TestOneOfAThousandTakes(t *testing.T) {
	c := new(authtrip.MemoryCache)
	for round := range 20 {
		put(t, c, time.Hour, "a")
		var got atomic.Int32
		crowd(1000, func(int) {
			if v, err := c.Take(t.Context(), "a"); err == nil && string(v) == "a" {
				got.Add(1)
			} else if !errors.Is(err, authtrip.ErrNotFound) {
				t.Errorf("Take() = %q, %v", v, err)
			}
		})
		if n := got.Load(); n != 1 {
			t.Errorf("round %d: %d got it, want 1", round, n)
		}
	}
}

func TestClosedMemoryCacheIsEmptyAndUsable(t *testing.T) {
	c := &authtrip.MemoryCache{MaxEntries: 2}
	put(t, c, time.Hour, "a", "b")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, c, "a b", "")
	put(t, c, time.Hour, "c", "d")
	wantKeys(t, c, "a b c d", "c d")
}

// golden reads a record of testdata.
func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	doc, err := os.ReadFile(filepath.Join("testdata", "record", name+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

// sourceOf is a Source whose Store holds doc, and whose refreshes say no.
func sourceOf(tb testing.TB, doc []byte) (*authtrip.Source, *authtrip.MemoryStore) {
	tb.Helper()
	store := new(authtrip.MemoryStore)
	if _, err := store.Save(tb.Context(), "alice", doc, ""); err != nil {
		tb.Fatal(err)
	}
	return &authtrip.Source{Key: "alice", Store: store, Refresher: refuses}, store
}

var (
	errRefused = errors.New("refused")
	refuses    = authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) {
		if old != nil && old.RefreshToken != "" {
			return nil, &authtrip.RefreshError{Code: "invalid_client", Err: fmt.Errorf("%w: %s", errRefused, old.RefreshToken)}
		}
		return nil, &authtrip.RefreshError{Code: "invalid_client", Err: errRefused}
	})
)

// wantKept holds that a Store still has exactly this document.
func wantKept(t *testing.T, store authtrip.Store, doc []byte) {
	t.Helper()
	if value, _, err := store.Load(t.Context(), "alice"); err != nil || string(value) != string(doc) {
		t.Errorf("the record is now %q, %v, want it as it was", value, err)
	}
}

func TestRecordsOfBothFormatsReadBack(t *testing.T) {
	for name, c := range map[string]struct {
		file, variant   string
		access, refresh string // access is "" where a refresh is needed
		scope           string
		idToken         bool
	}{
		"full":            {"full-2", "", "golden-access", "golden-refresh", "openid profile", true},
		"format 1":        {"full", "", "golden-access", "golden-refresh", "openid profile", true},
		"access only":     {"access-only", "", "golden-access", "", "", false},
		"refresh only":    {"refresh-only", "", "", "golden-refresh", "", false},
		"reusable":        {"reusable", "", "golden-access", "golden-refresh", "", false},
		"unknown members": {"unknown-members", "", "golden-access", "golden-refresh", "", false},
		"no variant":      {"variants", "", "golden-access", "golden-refresh", "", false},
		"a variant":       {"variants", "calendar", "golden-calendar", "golden-refresh", "calendar", false},
		"another variant": {"variants", "mail", "", "golden-refresh", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // at midnight of the first of January 2000
				src, store := sourceOf(t, golden(t, c.file))
				src.Variant = c.variant
				tok, err := src.Token()
				if c.access == "" {
					wantIs(t, err, errRefused)
					if err == nil || !strings.Contains(err.Error(), c.refresh) {
						t.Errorf("error = %v, want one with the refresh token that was sent", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				scope, _ := tok.Extra("scope").(string)
				_, hasID := tok.Extra("id_token").(string)
				if tok.AccessToken != c.access || tok.RefreshToken != c.refresh || scope != c.scope || hasID != c.idToken {
					t.Errorf("token = %q, %q, scope %q, id_token %v, want %+v", tok.AccessToken, tok.RefreshToken, scope, hasID, c)
				}
				wantKept(t, store, golden(t, c.file))
			})
		})
	}
}

func TestRecordIsWrittenInTodaysFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var want map[string]any
		if err := json.Unmarshal(golden(t, "full-2"), &want); err != nil {
			t.Fatal(err)
		}
		store := new(authtrip.MemoryStore)
		src := &authtrip.Source{Key: "alice", Store: store, Refresher: refuses}
		tok := &oauth2.Token{AccessToken: "golden-access", TokenType: "Bearer", RefreshToken: "golden-refresh", Expiry: time.Now().Add(time.Hour).UTC()}
		if err := src.SetToken(t.Context(), tok.WithExtra(map[string]any{"scope": want["scope"], "id_token": want["id_token"], "instance_url": "https://api.example"})); err != nil {
			t.Fatal(err)
		}
		doc, _, err := store.Load(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(doc, &got); err != nil {
			t.Fatal(err)
		}
		// Whatever is added later may be there; it needs a golden document then.
		at, err := time.Parse(time.RFC3339, fmt.Sprint(got["obtained_at"]))
		if err != nil || !at.Equal(time.Now()) {
			t.Errorf("obtained_at = %v, want now", got["obtained_at"])
		}
		got["obtained_at"] = want["obtained_at"]
		if login, _ := got["login"].(string); len(login) < 20 {
			t.Errorf("login = %q, want a random name", login)
		}
		delete(got, "login")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("document = %v, want %v", got, want)
		}
	})
}

// TestMarkerOfAnotherProcessIsWaitedForByOnesOwnClock: whatever clock wrote a marker,
// its process gets a span to show its answer. Then the refresh token is sent again, as
// the access token has expired; with a negative GracePeriod it is not.
func TestMarkerOfAnotherProcessIsWaitedForByOnesOwnClock(t *testing.T) {
	for _, name := range []string{"pending", "marked-2"} {
		for _, never := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				src, _ := sourceOf(t, golden(t, name))
				if never {
					src.GracePeriod = -1
				}
				start := time.Now()
				_, err := src.Token()
				if waited := time.Since(start); waited < 15*time.Second || waited > 16*time.Second {
					t.Errorf("%s: waited %v, want a span of 15 s", name, waited)
				}
				if errors.Is(err, authtrip.ErrReauthRequired) != never {
					t.Errorf("%s: %v, but the server did not say no", name, err)
				}
				if errors.Is(err, errRefused) == never {
					t.Errorf("%s, never = %v: error = %v", name, never, err)
				}
				if never {
					wantIs(t, err, authtrip.ErrInDoubt)
				}
			})
		}
	}
}

func TestRecordSaysThatASessionIsOver(t *testing.T) {
	for name, want := range map[string]error{"logged-out-2": authtrip.ErrLoggedOut, "ended-2": authtrip.ErrSessionEnded} {
		synctest.Test(t, func(t *testing.T) {
			src, store := sourceOf(t, golden(t, name))
			_, err := src.Token()
			wantIs(t, err, want)
			wantIs(t, err, authtrip.ErrReauthRequired)
			wantKept(t, store, golden(t, name))
		})
	}
}

func TestRecordsThatCannotBeReadAreRefusedAndKept(t *testing.T) {
	for name, want := range map[string]string{
		"later-format": "format 3, want 2",
		"no-format":    "format 0, want 2",
		"half":         "not the JSON document",
		"wrong-type":   "not the JSON document",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				doc := golden(t, name)
				src, store := sourceOf(t, doc)
				for range 10 {
					_, err := src.Token()
					wantSafe(t, err, "golden-access", "golden-refresh")
					if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, errRefused) {
						t.Fatalf("error = %v, want it to say %q before anything is sent", err, want)
					}
					wait(10 * time.Second)
				}
				wantKept(t, store, doc)
			})
		})
	}
}

// FuzzRecord lets a Source find any document in its Store. It must not panic; it
// must leave alone what it cannot read; and what it writes itself, it can read.
func FuzzRecord(f *testing.F) {
	names, err := filepath.Glob("testdata/record/*.json")
	if err != nil || len(names) == 0 {
		f.Fatalf("no golden documents: %v", err)
	}
	for _, name := range names {
		doc, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	grants := authtrip.RefresherFunc(func(context.Context, *oauth2.Token) (*oauth2.Token, error) {
		return &oauth2.Token{AccessToken: "granted", RefreshToken: "next"}, nil
	})
	f.Fuzz(func(t *testing.T, doc []byte) {
		synctest.Test(t, func(t *testing.T) { // for the waits
			src, store := sourceOf(t, doc)
			src.Refresher = grants
			tok, err := src.Token()
			after, _, loadErr := store.Load(t.Context(), "alice")
			if err != nil {
				if strings.Contains(err.Error(), "record in Store") && string(after) != string(doc) {
					t.Errorf("%q was not read, and is now %q, %v", doc, after, loadErr)
				}
				return
			}
			if tok.AccessToken == "" {
				t.Errorf("a token without an access token, of %q", doc)
			}
			if loadErr != nil {
				t.Fatalf("no record any more: %v", loadErr)
			}
			again := &authtrip.Source{Key: "alice", Store: store, Refresher: refuses}
			if second, err := again.Token(); err != nil || second.AccessToken != tok.AccessToken || second.RefreshToken != tok.RefreshToken {
				t.Errorf("%q reads back as %v, want the token that was there", after, err)
			}
		})
	})
}
