package login_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip"
)

// serveOldKeys has the server sign with a new key, and publish it only after lag.
func serveOldKeys(t *testing.T, o *op, lag time.Duration) {
	t.Helper()
	old, since := o.keys, time.Now()
	o.keys = []opKey{newKey(t, "k2")}
	published := o.keys
	o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(since) < lag {
			replyKeys(w, old)
			return
		}
		replyKeys(w, published)
	}
}

// A server's keys endpoint lagged a second behind its signatures, and each user
// whose token was refreshed in that second had to log in again.
func TestRule58RefreshSurvivesAKeyThatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		s, err := o.run(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		serveOldKeys(t, o, time.Second)
		for i := range 20 {
			tok, err := c.RefreshToken().Refresh(t.Context(), s.Token)
			if err != nil {
				t.Fatalf("refresh %d: %v", i, err)
			}
			if tok.RefreshToken == s.Token.RefreshToken {
				t.Fatalf("refresh %d: the new refresh token was dropped", i)
			}
		}
		// Its claims are held to rule 32 all the same.
		o.claims = func(c map[string]any) { c["sub"] = "mallory" }
		if _, err := c.RefreshToken().Refresh(t.Context(), s.Token); !errors.Is(err, authtrip.ErrReauthRequired) {
			t.Errorf("another user's: %v", err)
		}
	})
}

// A fetch of the keys failed, and for half a minute each refresh that followed ended
// its session, though nobody had asked the server again.
func TestRule58RefreshAfterAFailedFetchOfTheKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		s, err := o.run(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.keys = []opKey{newKey(t, "k2")}
		o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
		for i := range 3 {
			if _, err := c.RefreshToken().Refresh(t.Context(), s.Token); err != nil {
				t.Fatalf("refresh %d: %v", i, err)
			}
			wait(time.Second)
		}
	})
}

// Thirty of forty logins failed in the second in which the keys endpoint lagged,
// with their codes spent.
func TestLoginWaitsForAKeyThatIsNotPublishedYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		serveOldKeys(t, o, time.Second)
		errs := make(chan error)
		for range 40 {
			go func() { _, err := o.run(t, c, nil); errs <- err }()
		}
		for range 40 {
			if err := <-errs; err != nil {
				t.Errorf("login: %v", err)
			}
		}
		if n := o.count("/keys"); n > 4 {
			t.Errorf("key requests = %d, want 4 at most", n)
		}
	})
}

// Anybody can post a token with a made-up key ID; that must not keep a login
// from finding a key that is new.
func TestMadeUpKeysDoNotDelayLogins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		s, err := o.run(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		stranger := newKey(t, "made-up")
		src := sourceOf(t, c, s)
		defer src.Close()
		o.handle["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/jwt")
			_, _ = w.Write([]byte(o.signedBy(stranger, map[string]any{"sub": "alice"})))
		}
		for range 5 {
			if _, err := c.UserInfoSource(src).UserInfo(t.Context()); err == nil {
				t.Error("a stranger's user info was taken")
			}
			wait(time.Second)
		}
		o.keys = []opKey{newKey(t, "k2")}
		start := time.Now()
		if _, err := o.run(t, c, nil); err != nil || time.Since(start) > 0 {
			t.Errorf("login took %v, error %v", time.Since(start), err)
		}
	})
}

// A server that answered with an empty set for a moment made all logins fail
// until the set was an hour old.
func TestEmptyKeySetDoesNotReplaceTheGoodOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, map[string]any{"keys": []any{}}) }
		wait(time.Hour)
		for range 3 {
			if _, err := o.run(t, c, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
	})
}

// A server that gives a new key the old one's name was not understood for an
// hour.
func TestNewKeyUnderAnOldNameIsFetched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		o.keys = []opKey{newKey(t, "k1")}
		if _, err := o.run(t, c, nil); err != nil {
			t.Error(err)
		}
	})
}

// After a week without a login, the first one was verified with the keys of a
// week ago, among them one that the server had withdrawn.
func TestWithdrawnKeyIsNotUsedAfterIdling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		stolen := o.keys[0]
		o.keys = []opKey{newKey(t, "k2")}
		wait(7 * 24 * time.Hour)
		o.sign = func(claims map[string]any) string { return o.signedBy(stolen, claims) }
		_, err := o.run(t, c, nil)
		wantCheck(t, err, "id_token signature")
	})
}

// While the keys endpoint is down, those of an hour ago serve; those of two days
// ago do not.
func TestOldKeysServeForADayWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
		for range 5 {
			wait(4 * time.Hour)
			if _, err := o.run(t, c, nil); err != nil {
				t.Fatal(err)
			}
		}
		wait(28 * time.Hour)
		n := o.count("/token")
		if _, err := o.run(t, c, nil); err == nil || o.count("/token") != n {
			t.Errorf("keys of two days ago: error %v, codes spent %d", err, o.count("/token")-n)
		}
	})
}
