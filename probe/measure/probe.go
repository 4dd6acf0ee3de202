// Package measure finds out by asking how an authorization server and an API treat tokens:
// whether refresh tokens rotate, how long one is accepted again, what its reuse costs, what an
// API answers to a token that has expired. [Probe.Run] asks, [Report] is what was found:
// [Report.WriteTable] writes it for people, and [Report.Literal] as the settings that fit.
//
// It is EXPERIMENTAL. No report, progress line or error holds a token, a code, a verifier, a
// secret or the name of a user.
package measure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/identity"
	"example.com/authtrip/login"
)

// A Probe asks one server as one client. Client is required; a Probe must not be modified
// while it runs.
type Probe struct {
	// Client is the client as it is registered, with its Provider, its Scopes and, for
	// Authorize, its RedirectURL; required.
	Client *login.Client
	// Request is what logins ask for beyond what the Client does, such as prompt=consent.
	Request *login.AuthRequest
	// Authorize shows the URL of an authorization request to a user, and returns the one to
	// which the browser comes back. If it and Device are nil, the tokens are those of client
	// credentials.
	Authorize func(ctx context.Context, at string) (*url.URL, error)
	// Device shows a user where to type which code, for logins on another device. It
	// returns at once. Authorize wins over it.
	Device func(ctx context.Context, d *oauth2.DeviceAuthResponse) error
	// API is the URL of an API that takes the tokens, which is asked with GET. If "", the
	// user info endpoint alone is asked.
	API string
	// Allow is asked before each of [Steps]. If nil, all are allowed.
	Allow func(ctx context.Context, s Step) bool
	// Progress, if set, gets a line for each thing that is done.
	Progress func(line string)
	// Sessions is how many sessions the search of the grace period may use. If 0, it is 4.
	Sessions int
	// GraceLimit is the longest grace period that is looked for. If 0, it is 65 seconds.
	GraceLimit time.Duration
	// WaitLimit is how long a run waits on purpose, beside the search: for a token to
	// expire. If 0, it is 35 seconds, or what is left of two minutes.
	WaitLimit time.Duration
	// RequestLimit is how many requests a run sends. If 0, it is 150.
	RequestLimit int
}

// A Step is what a run does only if it is allowed: a user could see it, or it ends a session.
type Step struct {
	// Name is one word, such as reuse.
	Name string
	// Does says what it does, and what that costs.
	Does string
}

// The steps, in the order in which they are taken.
var steps = struct{ client, login, pkce, reuse, grace, expiry, revoke Step }{ //nolint:gochecknoglobals // never written to
	client: Step{"client", "tries the client's authentication methods with a refresh token that is made up, and once with a wrong secret: the server may log that"},
	login:  Step{"login", "logs a user in, once"},
	pkce:   Step{"pkce", "one more login, whose code is redeemed with a wrong verifier"},
	reuse:  Step{"reuse", "sends a refresh token that was used: the session may end, and the server may raise an alarm"},
	grace:  Step{"grace", "a few more logins, and about a minute of refreshes, to find how long a used refresh token is accepted: sessions may end"},
	expiry: Step{"expiry", "waits for an access token to expire, if that is soon, to see what the API answers"},
	revoke: Step{"revoke", "revokes the tokens of a session, which ends"},
}

// Steps returns all steps in the order in which they are taken.
func Steps() []Step {
	return []Step{steps.client, steps.login, steps.pkce, steps.reuse, steps.grace, steps.expiry, steps.revoke}
}

// Run asks everything that is allowed. It blocks until that is done, or ctx ends; beside
// the time that a user needs, that is less than two minutes with the limits as they are.
//
// It returns a report of what was found in any case. The error says why there is no more: no
// metadata, no login, or a Client that is configured wrongly.
func (p *Probe) Run(ctx context.Context) (*Report, error) {
	if p.Client == nil || p.Client.Provider == nil {
		return new(Report), errors.New("probe: Probe.Client, or its Provider, is nil")
	}
	r := newRun(p)
	err := p.checkAPI()
	if err == nil {
		err = r.all(ctx)
	}
	r.rec.into(r.report)
	r.report.Seconds = seconds(time.Since(r.began) - r.users)
	r.report.Logins = r.logins
	return r.report, err
}

// checkAPI holds the API to what a token may be sent to.
func (p *Probe) checkAPI() error {
	if p.API == "" {
		return nil
	}
	if _, err := identity.URL(p.API, true, p.Client.Provider.AllowInsecureHTTP); err != nil {
		return fmt.Errorf("probe: Probe.API %w", err)
	}
	return nil
}

// A run is one call of Run.
type run struct {
	*Probe
	rec    *recorder
	client *login.Client // sends through rec, with what was found set
	meta   *login.Metadata
	report *Report
	began  time.Time
	users  time.Duration // how long users took
	logins int
	// rejected are the steps that were not allowed.
	asked map[string]bool
	// introspects says that introspection tells whether an access token counts.
	introspects bool
	noS256      bool // the list of PKCE methods has others alone
	api         *place
	info        *place
}

func newRun(p *Probe) *run {
	old := p.Client.Provider
	base := http.DefaultTransport
	for _, c := range []*http.Client{old.HTTPClient, p.Client.HTTPClient} {
		if c != nil && c.Transport != nil {
			base = c.Transport
		}
	}
	most := p.RequestLimit
	if most <= 0 {
		most = 150
	}
	rec := &recorder{
		base: base, most: most, clocks: make(map[string]*clockBounds),
		rates: make(map[RateLimit]struct{}), last: make(map[string]note),
	}
	client := *p.Client
	client.HTTPClient = nil
	client.Provider = &login.Provider{
		Issuer: old.Issuer, MetadataURL: old.MetadataURL, Static: old.Static, TenantIssuer: old.TenantIssuer,
		Tenants: old.Tenants, AllowInsecureHTTP: old.AllowInsecureHTTP, HTTPClient: &http.Client{Transport: rec},
	}
	if client.ClockSkew == 0 {
		client.ClockSkew = 10 * time.Minute // a clock that is wrong is what is looked for
	}
	prompt := ""
	if p.Request != nil && p.Authorize != nil {
		prompt = p.Request.Prompt
	}
	return &run{
		Probe: p, rec: rec, client: &client, began: time.Now(), asked: make(map[string]bool),
		report: &Report{
			Issuer: old.Issuer, ClientID: client.ID, Login: p.grantType(), Scopes: p.scopes(),
			secret: client.Secret != "", resources: client.Resources, prompt: prompt,
		},
	}
}

func (p *Probe) grantType() string {
	switch {
	case p.Authorize != nil:
		return "authorization_code"
	case p.Device != nil:
		return "device_code"
	}
	return "client_credentials"
}

// scopes are those that a login asks for.
func (p *Probe) scopes() []string {
	switch {
	case p.Request != nil && p.Request.Scopes != nil:
		return p.Request.Scopes
	case p.Client.Scopes != nil:
		return p.Client.Scopes
	case p.Authorize == nil && p.Device == nil:
		return nil
	}
	return []string{"openid"}
}

// all takes one step after the other.
func (r *run) all(ctx context.Context) error {
	if err := r.readMetadata(ctx); err != nil {
		return err
	}
	r.tryMethods(ctx)
	if r.grantType() == "client_credentials" {
		return r.own(ctx)
	}
	if !r.may(ctx, steps.login) {
		return nil
	}
	first, err := r.signIn(ctx, signIn{})
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	r.describe(first)
	r.askPlaces(ctx, first)
	r.introspect(ctx, first.tok)
	refreshes := r.tryRefresh(ctx, first)
	pool := r.join(ctx, []*session{first}, r.tryPKCE(ctx))
	if refreshes {
		pool = r.another(ctx, r.tryReuse(ctx, pool))
	}
	r.tryExpiry(ctx, pool)
	r.tryRevocation(ctx, pool)
	return nil
}

// own is a run of a program that acts for itself.
func (r *run) own(ctx context.Context) error {
	first, err := r.signIn(ctx, signIn{})
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	r.describe(first)
	r.askPlaces(ctx, first)
	second, err := r.signIn(ctx, signIn{})
	if err == nil {
		r.report.Tokens.Steady = answer(second.tok.AccessToken == first.tok.AccessToken)
		if r.report.Tokens.Steady == No {
			r.report.Refresh.OldAccessDies = r.dead(ctx, first.tok)
		}
		first = second
	}
	r.introspect(ctx, first.tok)
	r.tryExpiry(ctx, []*session{first})
	r.tryRevocation(ctx, []*session{first})
	return nil
}

// may reports whether a step is allowed, and notes where it is not.
func (r *run) may(ctx context.Context, s Step) bool {
	allowed, known := r.asked[s.Name]
	if !known {
		allowed = r.Allow == nil || r.Allow(ctx, s)
		r.asked[s.Name] = allowed
	}
	if !allowed {
		r.report.missing(s.Name, "the step was not allowed")
	}
	return allowed
}

func (r *run) say(format string, args ...any) {
	if r.Progress != nil {
		r.Progress(fmt.Sprintf(format, args...))
	}
}
