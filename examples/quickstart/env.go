package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/examples/internal/browser"
	"example.com/authtrip/examples/internal/provider"
)

const (
	clientID = "quickstart"
	apiID    = "api"

	login    = "ada"
	password = "analytical engine"
)

// environment is what a program finds when it is started: a provider and an API.
type environment struct {
	provider *provider.Provider
	api      *api
	lifetime time.Duration // of an access token
}

// start starts both.
func start(lifetime time.Duration) (*environment, error) {
	secret := rand.Text() // with which the API asks the provider about tokens
	p, err := provider.Start(provider.Options{
		AccessTokenLifetime: lifetime,
		Clients: []provider.Client{
			{ID: clientID, RedirectURIs: []string{"http://127.0.0.1/callback"}},
			{ID: apiID, Secret: secret},
		},
		Users: []provider.User{
			{Subject: "42", Login: login, Password: password, Name: "Ada Lovelace", Email: "ada@example.com"},
		},
	})
	if err != nil {
		return nil, err
	}
	a, err := startAPI(p.IntrospectionURL(), secret)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &environment{provider: p, api: a, lifetime: lifetime}, nil
}

// Close stops both.
func (e *environment) Close() error {
	http.DefaultClient.CloseIdleConnections()
	return errors.Join(e.api.Close(), e.provider.Close())
}

// config returns what the program knows of itself and of the provider. It has no
// secret, as it runs on its user's machine.
func (e *environment) config() *oauth2.Config {
	endpoint := e.provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	return &oauth2.Config{
		ClientID:    clientID,
		Endpoint:    endpoint,
		RedirectURL: "http://127.0.0.1/callback",
		Scopes:      []string{"openid", "profile", "email", "offline_access"},
	}
}

// logIn is the authorization code flow: the user logs in with a browser, which
// comes back with a code.
func (e *environment) logIn(ctx context.Context, conf *oauth2.Config) (*oauth2.Token, error) {
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	authURL := conf.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier))
	callback, err := browser.New(login, password).Authorize(ctx, authURL, conf.RedirectURL)
	if err != nil {
		return nil, err
	}
	answer := callback.Query()
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(state)) != 1 {
		return nil, errors.New("login: the answer is not to our request")
	}
	if code := answer.Get("error"); code != "" {
		return nil, fmt.Errorf("login: the provider says %q", code)
	}
	token, err := conf.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	return token, nil
}

// revoke ends the current access token at the provider (RFC 7009), behind the
// back of everybody who uses it.
func (e *environment) revoke(ctx context.Context, conf *oauth2.Config, src oauth2.TokenSource) error {
	token, err := src.Token()
	if err != nil {
		return err
	}
	form := url.Values{"token": {token.AccessToken}, "client_id": {conf.ClientID}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.provider.RevocationURL(), strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(http.DefaultClient, req)
}

// untilEnded waits until the current access token has ended.
func untilEnded(ctx context.Context, src oauth2.TokenSource) error {
	token, err := src.Token()
	if err != nil {
		return err
	}
	return wait(ctx, time.Until(token.Expiry)+time.Second/2)
}

// get asks for url and reads the answer.
func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return send(client, req)
}

// send sends a request and reads the answer, which must be a good one.
func send(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: status %d", req.Method, req.URL.Path, resp.StatusCode)
	}
	return nil
}

// closeAll closes what is given, in this order.
func closeAll(closers ...io.Closer) {
	for _, c := range closers {
		_ = c.Close() // the program is at its end
	}
}

// wait waits, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
