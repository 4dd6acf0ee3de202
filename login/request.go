package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/exact"
)

// An AuthRequest is what one login asks for beyond what the [Client] always
// does. The zero value, and nil, ask for nothing more.
type AuthRequest struct {
	// Scopes replaces those of the Client if it is not nil.
	Scopes []string
	// AddScopes are asked for beside those.
	AddScopes []string
	// Resources replaces those of the Client if it is not nil (RFC 8707).
	Resources []string
	// Prompt is none, login, consent, select_account or create, or several of
	// them with a space between.
	Prompt string
	// LoginHint is who probably logs in.
	LoginHint string
	// MaxAge is how long ago, at most, the user may have authenticated, to the second. If 0,
	// it does not matter. Negative means that the user has to do it now. The auth_time of
	// the ID token is checked.
	MaxAge time.Duration
	// ACRValues are the wanted kinds of authentication, best first. The server may use
	// another one: check [IDToken.ACR].
	ACRValues []string
	// UILocales are the languages for the user, best first.
	UILocales []string
	// FormPost asks for the response as a form instead of in the URL
	// (response_mode=form_post).
	FormPost bool
	// RedirectURL replaces that of the Client if it is not "".
	RedirectURL string
	// ReturnTo is where the user wanted to go. It is kept, and returned in
	// [Session.ReturnTo].
	ReturnTo string
	// AuthorizationDetails say in detail what is asked for (RFC 9396): each an object with
	// a type, as a struct or a map. What was granted is in [Session.AuthorizationDetails].
	AuthorizationDetails []any
	// Params are further parameters. Those that this package sets cannot be
	// among them.
	Params url.Values
	// TokenParams are further parameters of the code exchange. The same holds for them.
	TokenParams url.Values
}

// Format implements [fmt.Formatter]: it prints nothing that is in r, as LoginHint names a
// user.
func (r AuthRequest) Format(s fmt.State, _ rune) { blank(s, "login.AuthRequest") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in r.
func (r AuthRequest) LogValue() slog.Value { return slog.StringValue("login.AuthRequest{…}") }

// StepUp returns the request for what a server's challenge asks for: more scope (RFC
// 6750, section 3.1), another authentication (RFC 9470), or claims. The scopes of the
// challenge are asked for beside those of the Client, so what worked before still works.
// If the session has other scopes, use [Session.StepUp]: it keeps them.
func StepUp(ch authtrip.Challenge) *AuthRequest {
	req := &AuthRequest{ACRValues: ch.ACRValues, AddScopes: strings.Fields(ch.Scope)}
	switch {
	case ch.MaxAge > 0:
		req.MaxAge = ch.MaxAge
	case ch.MaxAge == 0:
		req.MaxAge = -1
	}
	if ch.Claims != "" {
		req.Params = url.Values{"claims": {ch.Claims}}
	}
	return req
}

// StepUp is [StepUp] for a user who has a session: the scopes of the challenge are
// asked for beside those of s, and openid if s has an ID token. Rule 67.
func (s *Session) StepUp(ch authtrip.Challenge) *AuthRequest {
	req := StepUp(ch)
	req.Scopes = []string{}
	if s.IDToken != nil {
		req.Scopes = append(req.Scopes, scopeOpenID)
	}
	req.Scopes = union(req.Scopes, s.Scopes)
	req.Resources = s.Resources
	return req
}

// AuthCodeURL returns the URL to send the user to, and the transaction that
// [Client.Exchange] needs when the user is back. The transaction is secret and
// belongs to that user's browser.
//
// It blocks while the metadata is fetched for the first time, and while the request is
// pushed to the server (RFC 9126). Its errors are those of [Provider.Metadata], an
// *[EndpointError] of the push, and plain ones that name the field that is wrong.
func (c *Client) AuthCodeURL(ctx context.Context, req *AuthRequest) (string, *Transaction, error) {
	if req == nil {
		req = new(AuthRequest)
	}
	m, err := c.metadata(ctx)
	if err != nil {
		return "", nil, err
	}
	endpoint, err := c.Provider.endpoint(m, endpointAuthorization, false)
	if err != nil {
		return "", nil, err
	}
	// A client that could not spend the code need not send anybody away.
	if _, err = c.auth(m); err != nil {
		return "", nil, err
	}
	tx, err := c.newTransaction(ctx, req)
	if err != nil {
		return "", nil, err
	}
	if len(m.CodeChallengeMethods) > 0 && !slices.Contains(m.CodeChallengeMethods, "S256") {
		// Rule 10.
		return "", nil, errors.New("login: the provider's code_challenge_methods_supported has no S256, and plain protects nothing: set Provider.Static if the list is wrong")
	}
	if err = checkScopes(m, tx.Scopes); err != nil {
		return "", nil, err
	}
	if err = checkMode(m, tx); err != nil {
		return "", nil, err
	}
	form, err := c.authForm(req, tx)
	if err != nil {
		return "", nil, err
	}
	prover, err := c.bindRequest(form, tx)
	if err != nil {
		return "", nil, err
	}
	pushed := c.PushRequests || m.RequirePushedAuthorizationRequests || c.Profile == FAPI2
	if c.SignRequests || m.RequireSignedRequestObject {
		if form, err = c.signRequest(m, form, pushed); err != nil {
			return "", nil, err
		}
	}
	if pushed {
		if form, err = c.push(ctx, form, prover); err != nil {
			return "", nil, err
		}
	}
	at, err := withQuery(endpoint, form)
	if err != nil {
		return "", nil, err
	}
	return at, tx, nil
}

// withQuery adds parameters to the URL of an endpoint, whose own query stays as
// it is (RFC 6749, section 3.1) and may have none of them.
func withQuery(endpoint *url.URL, form url.Values) (string, error) {
	for name := range endpoint.Query() {
		if form.Has(name) {
			return "", fmt.Errorf("login: the provider's endpoint has a %.40q in its own query", name)
		}
	}
	u := *endpoint
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += form.Encode()
	return u.String(), nil
}

func (c *Client) newTransaction(ctx context.Context, req *AuthRequest) (*Transaction, error) {
	now := time.Now().Round(0)
	tx := &Transaction{
		Issuer:      c.Provider.Issuer,
		ClientID:    c.ID,
		RedirectURL: c.RedirectURL,
		Began:       now,
		Expires:     now.Add(c.loginTimeout()),
		Scopes:      c.scopes(req),
		Resources:   c.resources(req),
		FormPost:    req.FormPost,
		ReturnTo:    req.ReturnTo,

		SignedResponse: c.SignedResponses,
	}
	if req.RedirectURL != "" {
		tx.RedirectURL = req.RedirectURL
	}
	if req.MaxAge != 0 {
		seconds := int64(max(0, req.MaxAge) / time.Second)
		tx.MaxAge = &seconds
	}
	if err := c.checkRedirectURL(tx.RedirectURL); err != nil {
		return nil, err
	}
	if err := checkResources(tx.Resources); err != nil {
		return nil, err
	}
	if err := addParams(make(url.Values), req.TokenParams, "AuthRequest.TokenParams"); err != nil {
		return nil, err
	}
	tx.TokenParams = req.TokenParams
	if c.DPoP != nil {
		key, err := c.DPoP.NewKey(ctx)
		if err != nil {
			return nil, fmt.Errorf("login: Client.DPoP: %w", err)
		}
		tx.DPoPKey = key
	}
	tx.begin(slices.Contains(tx.Scopes, scopeOpenID))
	return tx, nil
}

// checkRedirectURL holds a redirect URL against RFC 8252, sections 7 and 8.3,
// and Rule 14.
func (c *Client) checkRedirectURL(raw string) error {
	if raw == "" {
		return errors.New("login: Client.RedirectURL is empty")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || !u.IsAbs() || u.Fragment != "" || u.User != nil:
		return errors.New("login: Client.RedirectURL is not an absolute URL without user and fragment")
	case hasResponse(u.Query()):
		return errors.New("login: Client.RedirectURL has a parameter of a response in its query, such as state: it would come back twice")
	case u.Scheme == "http" || u.Scheme == "https":
		_, err := checkURL("Client.RedirectURL", raw, true, c.Provider.AllowInsecureHTTP)
		return err
	case strings.Contains(u.Scheme, "."):
		return nil // a private-use scheme is a domain name backwards
	}
	return errors.New("login: Client.RedirectURL has a scheme that is neither https nor a domain name backwards")
}

// checkResources implements Rule 15.
func checkResources(resources []string) error {
	for _, r := range resources {
		if u, err := url.Parse(r); err != nil || !u.IsAbs() || strings.Contains(r, "#") {
			return errors.New("login: Resources: each must be an absolute URI without fragment")
		}
	}
	return nil
}

// authForm returns the parameters of the request (RFC 6749, section 4.1.1).
func (c *Client) authForm(req *AuthRequest, tx *Transaction) (url.Values, error) {
	form := url.Values{
		"response_type":         {"code"},
		"client_id":             {c.ID},
		"redirect_uri":          {tx.RedirectURL},
		"state":                 {tx.State},
		"code_challenge":        {oauth2.S256ChallengeFromVerifier(tx.Verifier)},
		"code_challenge_method": {"S256"},
	}
	set := func(name, value string) {
		if value != "" {
			form.Set(name, value)
		}
	}
	set("scope", strings.Join(tx.Scopes, " "))
	set("nonce", tx.Nonce)
	set("prompt", req.Prompt)
	set("login_hint", req.LoginHint)
	set("acr_values", strings.Join(req.ACRValues, " "))
	set("ui_locales", strings.Join(req.UILocales, " "))
	if tx.MaxAge != nil {
		form.Set("max_age", strconv.FormatInt(*tx.MaxAge, 10))
	}
	set("response_mode", responseMode(tx))
	if len(tx.Resources) > 0 {
		form["resource"] = tx.Resources
	}
	if err := addDetails(form, req.AuthorizationDetails); err != nil {
		return nil, err
	}
	return form, addParams(form, req.Params, "AuthRequest.Params")
}

// addDetails adds authorization_details (RFC 9396, section 2).
func addDetails(form url.Values, details []any) error {
	if len(details) == 0 {
		return nil
	}
	for _, d := range details {
		doc, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("login: AuthorizationDetails: %w", err)
		}
		all, _, err := exact.Members(doc)
		var typ string
		if err != nil || json.Unmarshal(all["type"], &typ) != nil || typ == "" {
			return errors.New("login: AuthorizationDetails: each must be an object with a type")
		}
	}
	doc, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("login: AuthorizationDetails: %w", err)
	}
	form.Set("authorization_details", string(doc))
	return nil
}

// reserved reports whether a parameter has a field of its own, or is one that
// this package has to know the value of.
func reserved(name string) bool {
	switch name {
	case "response_type", "response_mode", "client_id", "client_secret", "redirect_uri", "state", "nonce",
		"code_challenge", "code_challenge_method", "code", "code_verifier", "scope", "resource", "max_age",
		"request", "request_uri", "grant_type", "dpop_jkt", "client_assertion", "client_assertion_type", "refresh_token":
		return true
	}
	return false
}

// addParams adds the caller's parameters to form; field is where they are from.
func addParams(form, params url.Values, field string) error {
	for name, values := range params {
		if reserved(name) || form.Has(name) {
			return fmt.Errorf("login: %s has %.40q, which this package sets", field, name)
		}
		form[name] = values
	}
	return nil
}

// push sends the request to the server, and returns what is left to say by the
// browser (RFC 9126, section 2).
func (c *Client) push(ctx context.Context, form url.Values, prover authtrip.Prover) (url.Values, error) {
	a, err := c.postBound(ctx, endpointPushed, form, "application/json", prover)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusCreated && a.status != http.StatusOK {
		return nil, a.fail(endpointPushed, errors.New("want status 201"))
	}
	var doc struct {
		RequestURI string `json:"request_uri"`
	}
	if err := exact.Decode(a.body, &doc, exact.Every); err != nil || doc.RequestURI == "" {
		return nil, a.fail(endpointPushed, errors.New("the answer has no request_uri"))
	}
	return url.Values{"client_id": {c.ID}, "request_uri": {doc.RequestURI}}, nil
}
