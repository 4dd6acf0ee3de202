package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/exact"
)

const (
	// defaultInterval is the time between two polls if the server does not say,
	// and what is added to it when it says slow_down (RFC 8628, section 3.5).
	defaultInterval = 5 * time.Second
	// maxPause bounds the pause after answers that say nothing, if the server's own
	// interval is not longer.
	maxPause = time.Minute
	// maxDeviceLife bounds what a server may say that a device code lives.
	maxDeviceLife = time.Hour
)

// DeviceAuth begins a login on another device (RFC 8628): the user opens the result's
// VerificationURI there and types its UserCode. [Client.DeviceToken] waits for that. Only
// Scopes, AddScopes, Resources, AuthorizationDetails and Params of req are used.
//
// It blocks until the answer is there or ctx ends. Its errors are those of
// [Provider.Metadata], *[EndpointError], and plain ones that name the field that
// is wrong.
func (c *Client) DeviceAuth(ctx context.Context, req *AuthRequest) (*oauth2.DeviceAuthResponse, error) {
	if req == nil {
		req = new(AuthRequest)
	}
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	scopes, resources := c.scopes(req), c.resources(req)
	if err = checkScopes(m, scopes); err != nil {
		return nil, err
	}
	if err = checkResources(resources); err != nil {
		return nil, err
	}
	form := make(url.Values)
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	if len(resources) > 0 {
		form["resource"] = resources
	}
	if err = addDetails(form, req.AuthorizationDetails); err != nil {
		return nil, err
	}
	if err = addParams(form, req.Params, "AuthRequest.Params"); err != nil {
		return nil, err
	}
	a, err := c.post(ctx, endpointDevice, form, "application/json")
	if err != nil {
		return nil, err
	}
	return c.readDevice(a)
}

func (c *Client) readDevice(a *answer) (*oauth2.DeviceAuthResponse, error) {
	if a.status != http.StatusOK {
		return nil, a.fail(endpointDevice, errors.New("want status 200"))
	}
	// Rule 62, which x/oauth2 does not know.
	var matter struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
		URI        string `json:"verification_uri"`
		Complete   string `json:"verification_uri_complete"`
	}
	d := new(oauth2.DeviceAuthResponse)
	err := exact.Decode(a.body, &matter, exact.Every)
	if err == nil {
		err = json.Unmarshal(exact.Only(a.body, deviceMatters), d)
	}
	if err != nil {
		return nil, a.fail(endpointDevice, errors.New("the answer is not that of RFC 8628"))
	}
	if d.DeviceCode == "" || d.UserCode == "" || d.VerificationURI == "" {
		return nil, a.fail(endpointDevice, errors.New("the answer lacks device_code, user_code or verification_uri"))
	}
	if err := c.checkDevice(d); err != nil {
		return nil, a.fail(endpointDevice, err)
	}
	return d, nil
}

func deviceMatters(name string) bool {
	switch name {
	case "device_code", "user_code", "verification_uri", "verification_url", "verification_uri_complete", "expires_in", "interval":
		return true
	}
	return false
}

// checkDevice looks at what is shown to a user, in a terminal or as a link.
func (c *Client) checkDevice(d *oauth2.DeviceAuthResponse) error {
	const most = 100
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(d.UserCode) > most || !utf8.ValidString(d.UserCode) || strings.ContainsFunc(d.UserCode, odd) {
		return errors.New("user_code is too long, or has characters that cannot be shown")
	}
	for name, at := range map[string]string{"verification_uri": d.VerificationURI, "verification_uri_complete": d.VerificationURIComplete} {
		if at == "" {
			continue
		}
		_, err := checkURL(name, at, c.Provider.local(), c.Provider.AllowInsecureHTTP)
		if err != nil || strings.ContainsFunc(at, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%s is not an https address", name)
		}
	}
	return nil
}

// DeviceToken waits until the user has logged in on the other device, and
// returns the session. req is that of [Client.DeviceAuth]; it may be nil.
//
// It blocks until then, until the code expires, or until ctx ends. It polls as often as
// the server allows, and polls again after a lost answer. If the user denies the login,
// or the code expires, the error is an *[AuthorizationError]: access_denied or
// expired_token.
func (c *Client) DeviceToken(ctx context.Context, d *oauth2.DeviceAuthResponse, req *AuthRequest) (*Session, error) {
	if d == nil || d.DeviceCode == "" {
		return nil, errors.New("login: DeviceToken: the device code is empty")
	}
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	g, err := c.grant(ctx, m, "urn:ietf:params:oauth:grant-type:device_code")
	if err != nil {
		return nil, err
	}
	scopes, resources := c.scopes(req), c.resources(req)
	g.Form = func(_ context.Context, _ *oauth2.Token, form url.Values) error {
		form.Set("device_code", d.DeviceCode)
		if len(resources) > 0 {
			form["resource"] = resources // RFC 8707, section 2.2
		}
		return nil
	}
	if slices.Contains(scopes, scopeOpenID) {
		// Without keys the code need not be spent.
		if _, err = c.Provider.ready(ctx, m); err != nil {
			return nil, err
		}
	}
	old, err := c.newKey(ctx)
	if err != nil {
		return nil, err
	}
	tok, err := newPoll(d).run(ctx, g, old)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endpointTimeout)
	defer cancel()
	return c.session(ctx, m, tok, expectation{scopes: scopes, resources: resources})
}

// A poll asks until there is an answer.
type poll struct {
	interval time.Duration
	until    time.Time
}

func newPoll(d *oauth2.DeviceAuthResponse) *poll {
	p := &poll{interval: time.Duration(min(d.Interval, int64(maxDeviceLife/time.Second))) * time.Second, until: d.Expiry}
	if d.Interval <= 0 {
		p.interval = defaultInterval
	}
	if latest := time.Now().Add(maxDeviceLife); p.until.IsZero() || p.until.After(latest) {
		p.until = latest
	}
	return p
}

func (p *poll) run(ctx context.Context, g *authtrip.Grant, old *oauth2.Token) (*oauth2.Token, error) {
	for {
		if err := p.wait(ctx); err != nil {
			return nil, err
		}
		tok, err := once(ctx, g, old)
		if err == nil {
			return tok, nil
		}
		if err = p.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

// once sends one poll. What it may redeem is redeemed in spite of ctx (Rule 65).
func once(ctx context.Context, g *authtrip.Grant, old *oauth2.Token) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endpointTimeout)
	defer cancel()
	return g.Refresh(ctx, old)
}

func (p *poll) wait(ctx context.Context) error {
	if !time.Now().Before(p.until) {
		return &AuthorizationError{Code: "expired_token"}
	}
	if left := time.Until(p.until); p.interval > left+maxPause {
		// The code will have expired long before the server lets anybody ask again.
		if err := pause(ctx, left); err != nil {
			return err
		}
		return &AuthorizationError{Code: "expired_token"}
	}
	return pause(ctx, p.interval)
}

// again returns nil if it is worth asking once more.
func (p *poll) again(ctx context.Context, err error) error {
	re, ok := errors.AsType[*authtrip.RefreshError](err)
	if !ok || ctx.Err() != nil {
		return failed("device login", err)
	}
	switch {
	case re.Code == "authorization_pending":
	case re.Code == "slow_down":
		p.interval += defaultInterval
	case re.Code == "access_denied", re.Code == "expired_token":
		return &AuthorizationError{Code: re.Code, Description: re.Description}
	case re.StatusCode == 0, re.StatusCode >= 500, re.StatusCode == http.StatusTooManyRequests:
		// Nothing came, or nothing that says anything: RFC 8628, section 3.5 asks
		// for an exponential pause.
		p.interval = max(p.interval, min(2*p.interval, maxPause), re.RetryAfter)
	default:
		return failed("device login", err)
	}
	return nil
}
