package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// A service is a provider at which users can log in.
type service struct {
	// id is made of the issuer, and not a place in a list: after a change of the
	// configuration no refresh token goes to another provider.
	id     string
	name   string // for users
	client *login.Client
}

// services are all of them, at least one.
type services []*service

func newServices(conf config, onEvent func(authtrip.Event)) services {
	var all services
	for _, p := range conf.providers {
		sum := sha256.Sum256([]byte(p.issuer + " " + p.clientID))
		s := &service{id: hex.EncodeToString(sum[:6]), name: p.name, client: &login.Client{
			Provider:    &login.Provider{Issuer: p.issuer, OnEvent: onEvent},
			ID:          p.clientID,
			Secret:      p.clientSecret,
			RedirectURL: conf.baseURL + p.callback,
			// offline_access is how many providers are asked for a refresh token.
			Scopes: []string{"openid", "profile", "email", "offline_access"},
		}}
		if u, err := url.Parse(p.issuer); err == nil {
			s.name = cmp.Or(s.name, u.Host)
		}
		all = append(all, s)
	}
	return all
}

// byID returns the one with this ID, nil if there is none. Without an ID it is the
// only one.
func (all services) byID(id string) *service {
	for _, s := range all {
		if s.id == id || id == "" && len(all) == 1 {
			return s
		}
	}
	return nil
}

// byIssuer returns the one with this issuer, nil if there is none.
func (all services) byIssuer(issuer string) *service {
	for _, s := range all {
		if s.client.Provider.Issuer == issuer {
			return s
		}
	}
	return nil
}

// source returns the Source of a session's tokenKey.
func (a *app) source(key string) (*authtrip.Source, error) {
	id, _, _ := strings.Cut(key, ":")
	s := a.services.byID(id)
	if s == nil {
		return nil, errors.New("the session is of a provider that is not configured")
	}
	return &authtrip.Source{
		Refresher: s.client.RefreshToken(), Store: a.storage.tokens, Key: key, OnEvent: authtrip.LogEvents(a.log),
	}, nil
}

// clientFor chooses the provider: at the callback it is the one where the login was
// begun, for a login the one that the link names, for a logout that of the session.
func (a *app) clientFor(r *http.Request, tx *login.Transaction) (*login.Client, error) {
	var s *service
	switch {
	case tx != nil:
		s = a.services.byIssuer(tx.Issuer)
	case r.URL.Path == "/login":
		s = a.services.byID(r.URL.Query().Get("provider"))
	default:
		s = a.services[0] // where the session has ended before
		if sess, err := a.session(r); err == nil {
			s = sess.service
		}
	}
	if s == nil {
		return nil, nil //nolint:nilnil // login.Handlers says that there is none
	}
	return s.client, nil
}

// clientOf is clientFor for a logout token.
func (a *app) clientOf(_ context.Context, issuer string) (*login.Client, error) {
	if s := a.services.byIssuer(issuer); s != nil {
		return s.client, nil
	}
	return nil, nil //nolint:nilnil // login.BackChannelLogout says that there is none
}

// session returns the session of a request, or errNoSession.
func (a *app) session(r *http.Request) (*session, error) {
	sess, err := a.sessions.get(r)
	if err != nil {
		return nil, err
	}
	if sess.service = a.services.byIssuer(sess.Issuer); sess.service == nil {
		return nil, errNoSession // the provider was taken out of the configuration
	}
	return sess, nil
}

// startLogin sends the browser to the provider, or asks to which one.
func (a *app) startLogin(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if len(a.services) == 1 || q.Has("provider") {
		a.logins.Login(w, r)
		return
	}
	v := view{Title: "Log in"}
	for _, s := range a.services {
		q.Set("provider", s.id)
		v.Choices = append(v.Choices, choice{Name: s.name, Login: "/login?" + q.Encode()})
	}
	a.pages.show(w, http.StatusOK, "login", v)
}
