package login_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/login"
)

// slowTokens has the token endpoint take its time.
func slowTokens(o *op, d time.Duration) {
	o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) { wait(d); o.serveToken(w, r) }
}

// give sends a request whose browser goes away after a while.
func give(t *testing.T, b *browser, at string, after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := b.client.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Fatalf("status %d, want no answer", resp.StatusCode)
	}
}

// A reload of the callback lost the login: the first request took the transaction, the
// second one was told that it is over.
func TestRule65ReloadGetsTheLogin(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		for when, pause := range map[string]time.Duration{"meanwhile": 0, "afterwards": 10 * time.Second} {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					o := newOP(t)
					app := newWeb(o, &login.Handlers{Transactions: keeper()})
					slowTokens(o, 3*time.Second)
					b := newBrowser(t, o)
					_, at := b.get("https://app.example/login?return_to=/inbox")
					back := callback(o.consent(at.Query()))
					give(t, b, back, time.Second)
					wait(pause)
					resp, at := b.get(back)
					if resp.StatusCode != http.StatusSeeOther || at.Path != "/inbox" || !slices.Equal(app.users, []string{"alice"}) {
						t.Errorf("status %d to %v, %d users, %v", resp.StatusCode, at, len(app.users), app.failed)
					}
					if n := o.count("/token"); n != 1 {
						t.Errorf("token requests = %d, want 1", n)
					}
					wait(time.Minute)
					if o.count("/revoke") != 0 {
						t.Error("the tokens were revoked")
					}
				})
			})
		}
	}
}

// Two requests at once, both of which wait, both get the login.
func TestRule65DoubleClick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		app := newWeb(o, &login.Handlers{})
		slowTokens(o, time.Second)
		b := newBrowser(t, o)
		_, at := b.get("https://app.example/login?return_to=/inbox")
		back := callback(o.consent(at.Query()))
		places := make(chan string, 2)
		for range 2 {
			go func() { _, at := b.get(back); places <- at.Path }()
		}
		if one, two := <-places, <-places; one != "/inbox" || two != "/inbox" || o.count("/token") != 1 {
			t.Errorf("led to %s and %s, token requests %d, %v", one, two, o.count("/token"), app.failed)
		}
	})
}

// A browser that is closed for good leaves tokens that nobody knows.
func TestTokensThatNobodyFetchesAreRevoked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		app := newWeb(o, &login.Handlers{})
		o.handle["/revoke"] = func(http.ResponseWriter, *http.Request) {}
		slowTokens(o, 3*time.Second)
		b := newBrowser(t, o)
		_, at := b.get("https://app.example/login?return_to=/inbox")
		back := callback(o.consent(at.Query()))
		give(t, b, back, time.Second)
		wait(time.Minute)
		if o.count("/revoke") != 2 || len(app.users) != 0 {
			t.Errorf("revocations = %d, users = %d", o.count("/revoke"), len(app.users))
		}
		if resp, at := b.get(back); resp.StatusCode != http.StatusSeeOther || at.Path != "/login" {
			t.Errorf("a request after that: status %d to %v", resp.StatusCode, at)
		}
	})
}

// A reload by another browser is none.
func TestRule65ReloadBelongsToTheBrowser(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				app := newWeb(o, &login.Handlers{Transactions: keeper()})
				slowTokens(o, 3*time.Second)
				b, other := newBrowser(t, o), newBrowser(t, o)
				resp, at := b.get("https://app.example/login")
				back := callback(o.consent(at.Query()))
				give(t, b, back, time.Second)
				req, _ := http.NewRequest(http.MethodGet, back, nil)
				req.AddCookie(&http.Cookie{Name: resp.Cookies()[0].Name, Value: "guess"})
				if resp, _ := other.read(other.client.Do(req)); resp.StatusCode != http.StatusBadRequest || len(app.users) != 0 {
					t.Errorf("status %d", resp.StatusCode)
				}
				wait(time.Minute)
			})
		})
	}
}

// A user who took a walk at the provider's page read an error page, and had lost where
// they wanted to go.
func TestLoginThatIsTooOldBeginsAgain(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				app := newWeb(o, &login.Handlers{Transactions: keeper()})
				b := newBrowser(t, o)
				_, at := b.get("https://app.example/login?tenant=7&return_to=/inbox")
				back := callback(o.consent(at.Query()))
				wait(20 * time.Minute)
				resp, at := b.get(back)
				if resp.StatusCode != http.StatusSeeOther || at.String() != "https://app.example/login?tenant=7&return_to=/inbox" {
					t.Fatalf("status %d to %v", resp.StatusCode, at)
				}
				noTokenRequest(t, o)
				_, at = b.get(at.String())
				if _, at = b.get(callback(o.consent(at.Query()))); at.Path != "/inbox" || len(app.users) != 1 {
					t.Errorf("led to %v, %v", at, app.failed)
				}
			})
		})
	}
}

// Handlers of one's own are told: there is no page to begin again at.
func TestTakeOfATransactionThatIsTooOld(t *testing.T) {
	t.Parallel()
	for name, keeper := range keepers() {
		if keeper() == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				c, keep := o.client(), keeper()
				asked, tx := begin(t, c, nil)
				w := httptest.NewRecorder()
				if err := keep.Keep(t.Context(), w, nil, tx); err != nil {
					t.Fatal(err)
				}
				r := httptest.NewRequest(http.MethodGet, "/callback?"+o.consent(asked).Encode(), nil)
				r.AddCookie(w.Result().Cookies()[0])
				wait(11 * time.Minute)
				_, err := keep.Take(t.Context(), httptest.NewRecorder(), r)
				wantCheck(t, err, "transaction")
			})
		})
	}
}

// After a panic in a function of the application every further request of that browser
// waited for a result that never came.
func TestPanicAtTheCallbackLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c, panics := o.client(), true
	h := &login.Handlers{Clients: func(_ *http.Request, tx *login.Transaction) (*login.Client, error) {
		if tx != nil && panics {
			panics = false
			panic(http.ErrAbortHandler)
		}
		return c, nil
	}}
	w := newWeb(o, h)
	b := newBrowser(t, o)
	_, at := b.get("https://app.example/login")
	back := callback(o.consent(at.Query()))
	if resp, err := b.client.Get(back); err == nil {
		_ = resp.Body.Close()
		t.Fatalf("status %d, want none", resp.StatusCode)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, back, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, _ := b.read(b.client.Do(req)); resp.StatusCode != http.StatusSeeOther || len(w.users) != 1 {
		t.Errorf("status %d, %v", resp.StatusCode, w.failed)
	}
}
