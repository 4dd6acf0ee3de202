package provider

import (
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// authRequest is a login in progress. The library gets copies, so that it never
// reads what the login page writes.
type authRequest struct {
	id      string
	asked   oidc.AuthRequest
	expires time.Time

	// Set by the login page:
	done     bool
	subject  string
	authTime time.Time

	code *code // that the request was found by
}

func (r *authRequest) GetID() string                      { return r.id }
func (r *authRequest) GetACR() string                     { return "" }
func (r *authRequest) GetAMR() []string                   { return passwordAMR() }
func (r *authRequest) GetAudience() []string              { return []string{r.asked.ClientID} }
func (r *authRequest) GetAuthTime() time.Time             { return r.authTime }
func (r *authRequest) GetClientID() string                { return r.asked.ClientID }
func (r *authRequest) GetNonce() string                   { return r.asked.Nonce }
func (r *authRequest) GetRedirectURI() string             { return r.asked.RedirectURI }
func (r *authRequest) GetResponseType() oidc.ResponseType { return r.asked.ResponseType }
func (r *authRequest) GetResponseMode() oidc.ResponseMode { return r.asked.ResponseMode }
func (r *authRequest) GetScopes() []string                { return r.asked.Scopes }
func (r *authRequest) GetState() string                   { return r.asked.State }
func (r *authRequest) GetSubject() string                 { return r.subject }
func (r *authRequest) Done() bool                         { return r.done }

func (r *authRequest) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: r.asked.CodeChallenge, Method: r.asked.CodeChallengeMethod}
}

// open reports whether the login can go on.
func (r *authRequest) open() bool { return r != nil && time.Now().Before(r.expires) }

func (r *authRequest) copied() *authRequest {
	c := *r
	return &c
}

// A code is good for one use. It remembers what came of it, so that a second use
// can end that.
type code struct {
	request string // the authRequest's id
	expires time.Time
	used    bool
	grant   *grant
}

// refreshRequest is a refresh in progress. What it reads of the grant never
// changes.
type refreshRequest struct {
	grant  *grant
	scopes []string
}

func (r *refreshRequest) GetAMR() []string            { return r.grant.amr }
func (r *refreshRequest) GetAudience() []string       { return r.grant.audience }
func (r *refreshRequest) GetAuthTime() time.Time      { return r.grant.authTime }
func (r *refreshRequest) GetClientID() string         { return r.grant.clientID }
func (r *refreshRequest) GetScopes() []string         { return r.scopes }
func (r *refreshRequest) GetSubject() string          { return r.grant.subject }
func (r *refreshRequest) SetCurrentScopes(s []string) { r.scopes = s }

// clientRequest is a client that asks for a token of its own.
type clientRequest struct {
	clientID string
	scopes   []string
}

func (r *clientRequest) GetSubject() string    { return r.clientID }
func (r *clientRequest) GetAudience() []string { return []string{r.clientID} }
func (r *clientRequest) GetScopes() []string   { return r.scopes }

func passwordAMR() []string { return []string{"pwd"} }
