package authtrip_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// A provider without OpenID Connect, as GitHub is one: there is no ID token, and the
// user is a number.
func ExampleUserInfoSource_subjectClaim() {
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write([]byte(`{"login": "octocat", "id": 583231}`))
	}))
	defer github.Close()
	conf := &oauth2.Config{ClientID: "id", ClientSecret: "secret", Endpoint: oauth2.Endpoint{TokenURL: github.URL}}
	src := &authtrip.Source{
		Refresher: authtrip.RefreshToken(conf),
		Initial:   &oauth2.Token{AccessToken: "token"}, // from a login
	}

	users := new(authtrip.Users)
	info := &authtrip.UserInfoSource{
		URL:          github.URL + "/user", // https://api.github.com/user
		Source:       src,
		Issuer:       "https://github.com", // a name of your own: it keeps the users of two providers apart
		SubjectClaim: "id",                 // not login, which a user can change
		Users:        users,
	}
	user, err := info.UserInfo(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	var claims struct{ Login string }
	if err = user.Claims(&claims); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(user.Issuer, user.Subject, claims.Login)
	// Output: https://github.com 583231 octocat
}
