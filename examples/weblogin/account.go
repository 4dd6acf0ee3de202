package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// A connection is a session of the user, on the page of the account.
type connection struct {
	Provider string
	Here     bool // it is that of this browser
	Began    time.Time
	Expires  time.Time // of the session here
	authtrip.Status
}

// Words says how it stands.
func (c connection) Words() string {
	switch c.State {
	case authtrip.StateActive:
		return "Connected"
	case authtrip.StateExpired:
		return "Will be refreshed at the next use"
	case authtrip.StateUnknown:
		return "Not sure: the last refresh had no answer"
	case authtrip.StateEnded:
		return "Ended by the login service"
	case authtrip.StateLoggedOut, authtrip.StateNoSession:
		return "Logged out"
	case authtrip.StateNotLoaded:
	}
	return "Not used lately"
}

// Until is when the session ends: here, or before that at the provider.
func (c connection) Until() time.Time {
	if !c.SessionExpiry.IsZero() && c.SessionExpiry.Before(c.Expires) {
		return c.SessionExpiry
	}
	return c.Expires
}

// connections returns the sessions of the user. Status does no I/O: the list is read
// in one go, however long it is.
func (a *app) connections(ctx context.Context, sess *session) ([]connection, error) {
	list, err := a.index.list(ctx, userKey(sess.Issuer, sess.Subject))
	if err != nil {
		return nil, err
	}
	var all []connection
	for _, s := range list {
		s.service = sess.service // the user is one of this provider
		all = append(all, connection{
			Provider: s.service.name, Here: s.key == sess.key, Began: s.Began, Expires: s.Expires,
			Status: a.tokens.Source(s.tokenKey()).Status(),
		})
	}
	return all, nil
}

// showAccount is the page of the user's sessions.
func (a *app) showAccount(w http.ResponseWriter, r *http.Request) {
	a.showPart(w, r, "account", "Your sessions", func(ctx context.Context, sess *session, p *part) error {
		list, err := a.connections(ctx, sess)
		p.Connections = list
		return err
	})
}

// showSession is what the script of an open page asks for once in a while: whether the
// session is still there, and whose it is. It asks neither the API nor the provider.
func (a *app) showSession(w http.ResponseWriter, r *http.Request) {
	sess, err := a.session(r)
	switch {
	case err == nil && !a.tokens.Source(sess.tokenKey()).Status().NeedsLogin():
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, sess.user())
	case err != nil && !errors.Is(err, errNoSession):
		w.WriteHeader(http.StatusServiceUnavailable) // nobody knows
	default:
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// providerLogout ends the sessions that the provider says have ended, and their
// tokens: those of a session there, or all of a user.
func (a *app) providerLogout(ctx context.Context, t *login.LogoutToken) error {
	key := userKey(t.Issuer, t.Subject)
	if t.SessionID != "" {
		key = sidKey(t.Issuer, t.SessionID)
	}
	list, err := a.index.list(ctx, key)
	if err != nil {
		return err // the provider may say so again
	}
	var errs []error
	for _, sess := range list {
		if t.Subject != "" && t.Subject != sess.Subject {
			continue
		}
		sess.service = a.services.byIssuer(t.Issuer)
		_, err := a.end(ctx, sess) // the provider has ended the token itself
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
