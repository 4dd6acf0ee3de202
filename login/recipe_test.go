package login_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// app is a web application of which docs/recipes.md tests the login.
type app struct{ users *authtrip.Sources }

func (a *app) onLogin(w http.ResponseWriter, r *http.Request, s *login.Session) error {
	http.SetCookie(w, &http.Cookie{Name: "session", Value: "random", HttpOnly: true, Secure: true})
	return a.users.Source("random").SetToken(r.Context(), s.Token)
}

func TestOnLoginBeginsASession(t *testing.T) {
	t.Parallel()
	refresher := authtrip.RefresherFunc(func(_ context.Context, old *oauth2.Token) (*oauth2.Token, error) { return old, nil })
	a := &app{users: &authtrip.Sources{Each: authtrip.Source{Refresher: refresher}}}

	session := &login.Session{
		Token:   &oauth2.Token{AccessToken: "access", RefreshToken: "refresh"},
		IDToken: &login.IDToken{Issuer: "https://issuer.example", Subject: "alice"},
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/callback", nil)
	if err := a.onLogin(w, r, session); err != nil {
		t.Fatal(err)
	}
	if len(w.Result().Cookies()) != 1 {
		t.Error("no cookie was set")
	}
	if _, err := a.users.Source("random").Token(); err != nil {
		t.Error(err)
	}
}
