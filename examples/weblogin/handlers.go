package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// The pages of the application itself; those of the login are in login.Handlers.

// showStart is for whoever is not logged in.
func (a *app) showStart(w http.ResponseWriter, r *http.Request) {
	a.start(w, r, view{Title: "Welcome"})
}

// showHome is where logins that came from nowhere end, and logouts.
func (a *app) showHome(w http.ResponseWriter, r *http.Request) {
	a.start(w, r, view{Title: "Logged out", Notice: "You are logged out."})
}

// start shows the start page to whoever is not logged in.
func (a *app) start(w http.ResponseWriter, r *http.Request, v view) {
	switch _, err := a.session(r); {
	case errors.Is(err, errNoSession):
		a.pages.show(w, http.StatusOK, "start", v)
	case err != nil:
		a.failed(w, r, err)
	default:
		http.Redirect(w, r, "/orders", http.StatusSeeOther)
	}
}

// showEnded offers a new login, after which the user is where they were.
func (a *app) showEnded(w http.ResponseWriter, r *http.Request) {
	v := view{
		Title: "You are not logged in",
		Text:  "Log in to see this page.",
		Login: loginPath(r.URL.Query().Get("return_to")),
	}
	if _, err := r.Cookie(a.sessions.cookie("", 0).Name); err == nil {
		v.Title, v.Again = "Your session has ended", true
		v.Text = "This happens after a while, or when it is ended somewhere else. Log in again to go on where you were."
	}
	a.pages.show(w, http.StatusOK, "ended", v)
}

// showOrders is the page behind the login.
func (a *app) showOrders(w http.ResponseWriter, r *http.Request) {
	a.showPart(w, r, "orders", "Orders", func(ctx context.Context, sess *session, p *part) error {
		p.OpenOnly = r.URL.Query().Get("show") == "open"
		list, err := a.orders.list(ctx, sess)
		p.fill(list)
		return err
	})
}

// showPart shows a page behind the login. The script asks for the same page and takes
// the part out of it that fill has filled.
func (a *app) showPart(w http.ResponseWriter, r *http.Request, page, title string, fill func(context.Context, *session, *part) error) {
	sess, err := a.session(r)
	switch {
	case errors.Is(err, errNoSession):
		a.toEnded(w, r)
		return
	case err != nil:
		a.failed(w, r, err)
		return
	}
	p := &part{User: sess.user(), Asked: time.Now()}
	who, err := a.people.get(r.Context(), sess)
	if err == nil {
		err = fill(r.Context(), sess, p)
	}
	status := http.StatusOK
	switch {
	case errors.Is(err, authtrip.ErrReauthRequired):
		a.ended(w, r, sess)
		return
	case err != nil:
		status = statusOf(err)
		a.log.Warn("a page cannot be shown", "page", page, "err", err)
	}
	p.Failed = err != nil
	w.Header().Set("Content-Security-Policy", contentPolicy(who.PictureOrigin, logoutOrigin(r.Context(), sess.service.client)))
	a.pages.show(w, status, page, view{Title: title, Person: &who, Part: p})
}

// failed says that what keeps the sessions does not answer.
func (a *app) failed(w http.ResponseWriter, r *http.Request, err error) {
	a.log.Error("sessions cannot be read", "err", err)
	a.pages.problem(w, r, http.StatusServiceUnavailable, unavailable)
}

// loginFailed answers where a login or logout did not work.
func (a *app) loginFailed(w http.ResponseWriter, r *http.Request, err error) {
	a.log.Warn("a login or logout has failed", "err", err)
	if r.URL.Path == "/logged-out" { // reloaded, or a link from elsewhere: nothing has happened
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	status := login.StatusCode(err)
	if errors.Is(err, errUnavailable) {
		status = http.StatusServiceUnavailable
	}
	a.pages.problem(w, r, status, loginProblem(status, err))
}

// loginProblem says what has happened. No answer has anything of err in it: part of
// that came with the browser.
func loginProblem(status int, err error) problem {
	switch {
	case errors.Is(err, errUnavailable):
		return unavailable
	case status == http.StatusForbidden:
		return refused
	case status == http.StatusBadRequest:
		return stale
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable:
		return unreachable
	}
	return broken
}

// loginPath returns the link to a login that leads back to a page.
func loginPath(returnTo string) string {
	if returnTo == "" {
		return "/login"
	}
	return "/login?" + url.Values{"return_to": {returnTo}}.Encode()
}

// logoutOrigin is where the logout's form leads in the end: a browser holds that
// against form-action too.
func logoutOrigin(ctx context.Context, client *login.Client) string {
	m, err := client.Provider.Metadata(ctx)
	if err != nil {
		return "" // and the logout stays here
	}
	u, err := url.Parse(m.EndSessionEndpoint)
	if err != nil || !plainHost.MatchString(u.Host) {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
