package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// requestTimeout is how long a page may take.
const requestTimeout = 20 * time.Second

// logoutTimeout is how long the end of a session may take. What cannot be told to
// the provider in that time ends by itself.
const logoutTimeout = 5 * time.Second

// An app is the application.
type app struct {
	conf     config
	log      *slog.Logger
	pages    *pages
	storage  *storage
	sessions *sessions
	index    index

	services services          // the providers
	logins   *login.Handlers   // the pages of logins, for all of them
	tokens   *authtrip.Sources // those of all sessions, by their keys
	people   *people
	orders   *orders
}

func newApp(conf config, log *slog.Logger) (*app, error) {
	store, err := openStorage(conf)
	if err != nil {
		return nil, err
	}
	a := &app{
		conf:     conf,
		log:      log,
		pages:    newPages(log),
		storage:  store,
		sessions: &sessions{cache: store.cache, secure: conf.https()},
		index:    index{store.tokens},
		services: newServices(conf, authtrip.LogEvents(log)),
	}
	// New and not Each, as the tokens of each provider are refreshed at that one.
	a.tokens = &authtrip.Sources{New: a.source}
	a.people = newPeople(a.services, a.tokens, store.cache, log)
	a.orders = newOrders(conf.apiURL, a.tokens, log)
	a.logins = &login.Handlers{
		Clients: a.clientFor,
		// Sealed in cookies: who begins logins by the million fills up nothing here.
		Transactions: &login.Transactions{Keys: [][]byte{conf.key}, CookieName: "weblogin-login"},
		OnLogin:      a.onLogin,
		OnLogout:     a.onLogout,
		OnError:      a.loginFailed,
		Home:         "/home",
		LoggedOutURL: conf.baseURL + "/logged-out",
	}
	return a, nil
}

// Close waits for refreshes in flight: one that is cut short can lose a token.
func (a *app) Close() error {
	return errors.Join(a.people.Close(), a.tokens.Close(), a.storage.close())
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.showStart)
	mux.HandleFunc("GET /orders", a.showOrders)
	mux.HandleFunc("GET /account", a.showAccount)
	mux.HandleFunc("GET /session", a.showSession)
	mux.HandleFunc("GET /ended", a.showEnded)
	mux.HandleFunc("GET /home", a.showHome)
	mux.HandleFunc("GET /login", a.startLogin)
	for _, path := range callbacks() {
		mux.HandleFunc("GET "+path, a.logins.Callback)
	}
	mux.HandleFunc("POST /logout", a.logins.Logout)
	mux.HandleFunc("GET /logged-out", a.logins.LoggedOut)
	mux.Handle("POST /backchannel-logout", &login.BackChannelLogout{
		Clients: a.clientOf, OnLogout: a.providerLogout, Cache: a.storage.cache,
		OnError: func(_ *http.Request, err error) { a.log.Warn("a logout token was not taken", "err", err) },
	})
	mux.Handle("GET /static/", a.pages.static())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { a.pages.problem(w, r, http.StatusNotFound, notFound) })
	return a.guarded(mux)
}

// onLogin begins a session, with an ID that nobody knew before.
func (a *app) onLogin(w http.ResponseWriter, r *http.Request, s *login.Session) error {
	if s.IDToken == nil {
		return errors.New("the provider does not say who has logged in")
	}
	before, err := a.session(r)
	if err != nil && !errors.Is(err, errNoSession) {
		return err
	}
	id, key := newKey()
	now := time.Now()
	sess := &session{
		key: key, service: a.services.byIssuer(s.IDToken.Issuer), Issuer: s.IDToken.Issuer, Subject: s.IDToken.Subject,
		Began: now, Expires: now.Add(sessionLifetime),
	}
	var claims struct {
		SID string `json:"sid"`
	}
	if err := s.IDToken.Claims(&claims); err != nil {
		return err
	}
	sess.SID = claims.SID
	// The list and the token first: a session that can be found can be ended by its
	// provider, and has a token.
	if err := a.index.add(r.Context(), sess); err != nil {
		return err
	}
	if err := a.tokens.Source(sess.tokenKey()).SetToken(r.Context(), s.Token); err != nil {
		return fmt.Errorf("keeping the token: %w: %w", errUnavailable, err)
	}
	if err := a.sessions.begin(r.Context(), w, id, sess); err != nil {
		return err
	}
	if before != nil {
		a.replace(r.Context(), before)
	}
	return nil
}

// replace ends the session that a browser had before it got another one, here and
// at the provider. The new one does not fail with it.
func (a *app) replace(ctx context.Context, before *session) {
	ctx, cancel := context.WithTimeout(ctx, logoutTimeout)
	defer cancel()
	tok, err := a.end(ctx, before)
	if err == nil && tok != nil {
		err = before.service.client.Revoke(ctx, tok)
	}
	if err != nil {
		a.log.Warn("a session that was replaced has not ended everywhere", "err", err)
	}
}

// onLogout ends the browser's session, and returns its token to be ended too.
func (a *app) onLogout(w http.ResponseWriter, r *http.Request) (*oauth2.Token, error) {
	a.sessions.forget(w) // first of all: this can be done in any case
	sess, err := a.session(r)
	if err != nil && !errors.Is(err, errNoSession) {
		return nil, err
	}
	if sess == nil {
		return nil, nil //nolint:nilnil // it has ended before, as in another tab
	}
	return a.end(r.Context(), sess)
}

// end ends a session here, and returns its token, nil if there is none any more.
// At the provider that has not ended yet.
func (a *app) end(ctx context.Context, sess *session) (*oauth2.Token, error) {
	// Also when the user has closed the tab: what was begun is brought to an end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
	defer cancel()
	if err := a.sessions.end(ctx, sess); err != nil {
		return nil, err
	}
	tok, err := a.tokens.Source(sess.tokenKey()).Forget(ctx)
	if err != nil {
		return nil, fmt.Errorf("removing the token: %w: %w", errUnavailable, err)
	}
	// Last of all: while it is in the list, its provider can have it ended once more. An
	// entry that stays is of a session that has ended.
	if err := a.index.remove(ctx, sess); err != nil {
		a.log.Warn("a session that has ended is still in the list", "err", err)
	}
	return tok, nil
}

// ended ends a session whose token is dead, and says so. The browser keeps its
// cookie: this may be a late answer, and a login in another tab may have made a new
// one by now.
func (a *app) ended(w http.ResponseWriter, r *http.Request, sess *session) {
	if _, err := a.end(r.Context(), sess); err != nil {
		a.log.Warn("a session whose token is dead has not been removed", "err", err)
	}
	a.toEnded(w, r)
}

// toEnded leads to the page that offers a new login, which leads back to here.
func (a *app) toEnded(w http.ResponseWriter, r *http.Request) {
	to := url.URL{Path: "/ended", RawQuery: url.Values{"return_to": {r.URL.RequestURI()}}.Encode()}
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
}
