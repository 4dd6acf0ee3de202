package docs_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/filestore"
)

// The recipes of recipes.md, each put to use.

func TestRecipeFirst401AfterARevocation(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true}
	site := authtriptest.Start(t, srv)
	tok, url := srv.Issue("alice"), site.URL+authtriptest.APIPath
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Initial: tok}
	client := &http.Client{Transport: &authtrip.Transport{Source: src}}
	call := func() (needsLogin bool, err error) {
		resp, err := client.Get(url)
		if errors.Is(err, authtrip.ErrReauthRequired) {
			return true, nil // no request was sent
		}
		if err != nil {
			return false, err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode == http.StatusUnauthorized {
			return src.Status().NeedsLogin(), nil
		}
		return false, nil
	}
	if again, err := call(); again || err != nil {
		t.Errorf("before: %v, %v", again, err)
	}
	srv.Revoke(tok.RefreshToken)
	for range 2 {
		if again, err := call(); !again || err != nil {
			t.Errorf("after the revocation: %v, %v, want a login", again, err)
		}
	}
}

func TestRecipeDisconnectAUserEverywhere(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true}
	site := authtriptest.Start(t, srv)
	ctx, store := t.Context(), new(authtrip.MemoryStore)
	replica := func() *authtrip.Sources {
		return &authtrip.Sources{Each: authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Store: store}}
	}
	users, other := replica(), replica()
	sessionsOf := func(string) []string { return []string{"alice/laptop", "alice/phone"} }
	for _, key := range sessionsOf("alice") {
		if err := users.Source(key).SetToken(ctx, srv.Issue("alice")); err != nil {
			t.Fatal(err)
		}
	}
	revoke := func(_ context.Context, tok *oauth2.Token) error { srv.Revoke(tok.RefreshToken); return nil }
	disconnect := func(ctx context.Context, user string) error {
		var failed error
		for _, key := range sessionsOf(user) { // from a table of your own
			tok, err := users.Source(key).Forget(ctx)
			if tok != nil {
				err = errors.Join(err, revoke(ctx, tok)) // login.Client.Revoke
			}
			failed = errors.Join(failed, err)
		}
		return failed
	}
	if err := disconnect(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	for _, key := range sessionsOf("alice") {
		if _, err := other.Source(key).Token(); !errors.Is(err, authtrip.ErrLoggedOut) {
			t.Errorf("%s in the other replica: %v", key, err)
		}
	}
	if n := srv.Counts().FamiliesRevoked; n != 2 {
		t.Errorf("%d sessions were revoked, want 2", n)
	}
}

func TestRecipeIterateOverAllUsers(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true}
	site := authtriptest.Start(t, srv)
	users := &authtrip.Sources{Each: authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Store: new(authtrip.MemoryStore)}}
	client, url := &http.Client{Transport: &authtrip.Transport{Source: users}}, site.URL+authtriptest.APIPath
	var handled int
	handle := func(_ string, body io.Reader) error {
		handled++
		_, err := io.Copy(io.Discard, body)
		return err
	}
	forEach := func(ctx context.Context, keys []string) (needLogin []string, err error) {
		for _, key := range keys { // from a table of your own
			req, err := http.NewRequestWithContext(authtrip.WithKey(ctx, key), http.MethodGet, url, nil)
			if err != nil {
				return needLogin, err
			}
			resp, err := client.Do(req)
			if errors.Is(err, authtrip.ErrReauthRequired) {
				needLogin = append(needLogin, key) // this user has to log in: go on with the others
				continue
			}
			if err != nil {
				return needLogin, err // transient, for all of them perhaps: stop, and begin here next time
			}
			err = handle(key, resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				return needLogin, err
			}
		}
		return needLogin, nil
	}
	for _, key := range []string{"alice", "carol"} {
		if err := users.Source(key).SetToken(t.Context(), srv.Issue(key)); err != nil {
			t.Fatal(err)
		}
	}
	needLogin, err := forEach(t.Context(), []string{"alice", "bob", "carol"})
	if err != nil || handled != 2 || strings.Join(needLogin, " ") != "bob" {
		t.Errorf("handled %d, login for %v, error %v", handled, needLogin, err)
	}
}

func TestRecipeTokensInCron(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true, Lifetime: time.Hour}
	site := authtriptest.Start(t, srv)
	dir, first := filepath.Join(t.TempDir(), "tokens"), srv.Issue("robot")
	first.Expiry = time.Now().Add(-time.Minute)
	conf, url := srv.Config(site.URL), site.URL+authtriptest.APIPath
	run := func(first *oauth2.Token) error {
		src := &authtrip.Source{
			Refresher: authtrip.RefreshToken(conf),
			Store:     &filestore.Store{Dir: dir},
			Key:       "nightly",
			Initial:   first, // imported by the first run, ignored by all others
		}
		defer func() { _ = src.Close() }() // a refresh in flight is saved before the program ends
		client := &http.Client{Transport: &authtrip.Transport{Source: src}}
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	for range 3 {
		if err := run(first); err != nil {
			t.Fatal(err)
		}
	}
	if n := srv.Counts(); n.Token != 1 || n.Reuses != 0 {
		t.Errorf("%d token requests and %d reuses in three runs, want 1 and 0", n.Token, n.Reuses)
	}
}

type sessionID struct{}

func TestRecipeTwoProviders(t *testing.T) {
	one, two := &authtriptest.Server{Rotate: true}, &authtriptest.Server{Rotate: true}
	calendar, mail := authtriptest.Start(t, one), authtriptest.Start(t, two)
	store := new(authtrip.MemoryStore)
	keyOf := func(provider string) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			id, ok := ctx.Value(sessionID{}).(string) // your own, of the request that is served
			if !ok {
				return "", errors.New("no session in the context")
			}
			return provider + "/" + id, nil
		}
	}
	provider := func(name string, grant authtrip.Refresher, api string) (*authtrip.Sources, *http.Client) {
		users := &authtrip.Sources{
			Each: authtrip.Source{Refresher: grant, Store: store}, // one Store: the keys differ
			Key:  keyOf(name),
		}
		return users, &http.Client{Transport: &authtrip.Transport{Source: users, Origins: []string{api}}}
	}
	calendars, calendarClient := provider("calendar", authtrip.RefreshToken(one.Config(calendar.URL)), calendar.URL)
	mails, mailClient := provider("mail", authtrip.RefreshToken(two.Config(mail.URL)), mail.URL)

	ctx := context.WithValue(t.Context(), sessionID{}, "s1")
	if err := errors.Join(
		calendars.Source("calendar/s1").SetToken(ctx, one.Issue("alice")),
		mails.Source("mail/s1").SetToken(ctx, two.Issue("alice@mail")),
	); err != nil {
		t.Fatal(err)
	}
	for client, site := range map[*http.Client]string{calendarClient: calendar.URL, mailClient: mail.URL} {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, site+authtriptest.APIPath, nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", site, resp.Status)
		}
	}
}

func TestRecipeTenants(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true}
	site := authtriptest.Start(t, srv)
	store := new(authtrip.MemoryStore)
	configOf := func(tenant string) (*oauth2.Config, error) {
		if tenant != "acme" {
			return nil, errors.New("unknown tenant")
		}
		return srv.Config(site.URL), nil
	}
	tenants := &authtrip.Sources{New: func(key string) (*authtrip.Source, error) {
		tenant, _, _ := strings.Cut(key, "/") // "acme/alice"
		conf, err := configOf(tenant)
		if err != nil {
			return nil, err
		}
		return &authtrip.Source{Refresher: authtrip.RefreshToken(conf), Store: store, Key: key}, nil
	}}
	if err := tenants.Source("acme/alice").SetToken(t.Context(), srv.Issue("alice")); err != nil {
		t.Fatal(err)
	}
	if _, err := tenants.Source("acme/alice").Token(); err != nil {
		t.Error(err)
	}
	if _, err := tenants.Source("evil/alice").Token(); err == nil {
		t.Error("an unknown tenant has a token")
	}
}

func TestRecipeStatusOfASessionThatIsNotLoaded(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true}
	site := authtriptest.Start(t, srv)
	store := new(authtrip.MemoryStore)
	each := func() *authtrip.Sources {
		return &authtrip.Sources{Each: authtrip.Source{Refresher: authtrip.RefreshToken(srv.Config(site.URL)), Store: store}}
	}
	if err := each().Source("alice").SetToken(t.Context(), srv.Issue("alice")); err != nil {
		t.Fatal(err)
	}
	users := each() // another process
	status := func(ctx context.Context, key string) authtrip.Status {
		src := users.Source(key)
		st := src.Status()
		if st.State == authtrip.StateNotLoaded {
			_, _ = src.TokenContext(ctx) // reads the Store; what is wrong is in the Status
			st = src.Status()
		}
		return st
	}
	if got := users.Source("alice").Status().State; got != authtrip.StateNotLoaded {
		t.Errorf("state %s before, want not_loaded", got)
	}
	if got := status(t.Context(), "alice").State; got != authtrip.StateActive {
		t.Errorf("state %s, want active", got)
	}
	if st := status(t.Context(), "bob"); st.State != authtrip.StateNoSession || !st.NeedsLogin() {
		t.Errorf("state %s of somebody who has not logged in, want no_session", st.State)
	}
	if n := srv.Counts().Token; n != 0 {
		t.Errorf("%d token requests, want none", n)
	}
}

// A program of which the tests of recipes.md are.
func fetchReport(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestReportAfterARevocation(t *testing.T) {
	srv := &authtriptest.Server{Rotate: true}
	site := authtriptest.Start(t, srv)
	src := &authtrip.Source{
		Refresher: authtrip.RefreshToken(srv.Config(site.URL)),
		Initial:   srv.Issue("alice"), // as after a login
	}
	client := &http.Client{Transport: &authtrip.Transport{Source: src}}

	srv.RevokeAll() // the API rejects the access token from now on
	if _, err := fetchReport(client, site.URL+authtriptest.APIPath); err != nil {
		t.Error(err)
	}
	if n := srv.Counts().Token; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}
