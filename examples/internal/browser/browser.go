// Package browser is a person with a web browser, for the examples and their
// tests: it keeps cookies, follows redirects and fills in the provider's forms,
// all of it over HTTP.
package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// A Browser is one person's. It is not safe for concurrent use.
type Browser struct {
	Login, Password string // what the person types

	jar *cookiejar.Jar
}

// New returns the browser of a person with this login and password.
func New(login, password string) *Browser {
	jar, _ := cookiejar.New(nil) // never fails
	return &Browser{Login: login, Password: password, jar: jar}
}

// Authorize opens an authorization URL, logs in if the provider asks for it, and
// returns the URL under redirectURI to which the provider sends the browser in
// the end. That one is not opened.
func (b *Browser) Authorize(ctx context.Context, authURL, redirectURI string) (*url.URL, error) {
	resp, err := b.open(ctx, http.MethodGet, authURL, nil, redirectURI)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK { // a page: the form
		resp, err = b.submit(ctx, resp.Request.URL.String(), nil, redirectURI)
		if err != nil {
			return nil, err
		}
	}
	target, err := resp.Location()
	if err != nil {
		return nil, fmt.Errorf("browser: login stopped at %s with status %d", resp.Request.URL.Path, resp.StatusCode)
	}
	return target, nil
}

// ConnectDevice opens the page that a device shows its user, and confirms the
// code there.
func (b *Browser) ConnectDevice(ctx context.Context, verificationURI, userCode string) error {
	resp, err := b.submit(ctx, verificationURI, url.Values{"user_code": {userCode}}, "")
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("browser: the code was denied: status %d", resp.StatusCode)
	}
	return nil
}

// submit fills in the form on page and posts it. A form without an action goes to
// where it came from.
func (b *Browser) submit(ctx context.Context, page string, more url.Values, stop string) (*http.Response, error) {
	form := url.Values{"login": {b.Login}, "password": {b.Password}}
	for name, values := range more {
		form[name] = values
	}
	return b.open(ctx, http.MethodPost, page, form, stop)
}

// open sends a request and follows redirects, but not to stop. The body of the
// response has been read.
func (b *Browser) open(ctx context.Context, method, target string, form url.Values, stop string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	client := &http.Client{Jar: b.jar, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		switch {
		case stop != "" && strings.HasPrefix(next.URL.String(), stop+"?"):
			return http.ErrUseLastResponse
		case len(via) == 10:
			return errors.New("too many redirects")
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	return resp, nil
}
