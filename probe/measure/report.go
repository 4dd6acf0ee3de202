package measure

import (
	"math"
	"strconv"
	"time"
)

// A Report is what was found. Its JSON is for programs: a member that is not there was not
// found out, and NotFound says why. It holds no token, secret, code or name of a user.
type Report struct {
	Issuer   string `json:"issuer"`
	ClientID string `json:"client_id"`
	// Login is the grant type by which the tokens came.
	Login  string   `json:"login"`
	Scopes []string `json:"scopes_asked,omitempty"`

	Metadata MetadataFacts      `json:"metadata"`
	Client   ClientFacts        `json:"client"`
	Request  AuthorizationFacts `json:"authorization,omitzero"`
	Tokens   TokenFacts         `json:"tokens"`
	Refresh  RefreshFacts       `json:"refresh,omitzero"`
	Revoke   RevocationFacts    `json:"revocation,omitzero"`
	UserInfo UserInfoFacts      `json:"userinfo,omitzero"`
	// API is what the API answers, and UserInfoReplies what the user info endpoint does.
	API             *Replies `json:"api,omitempty"`
	UserInfoReplies *Replies `json:"userinfo_replies,omitempty"`
	// Clocks are how far the clocks of others are ahead of this one.
	Clocks []Clock `json:"clocks,omitempty"`
	// RateLimits are header fields that speak of limits.
	RateLimits []RateLimit `json:"rate_limits,omitempty"`
	NotFound   []NotFound  `json:"not_found,omitempty"`

	Requests int     `json:"requests"`
	Logins   int     `json:"logins"`
	Seconds  Seconds `json:"seconds"`

	secret    bool     // whether the client has one
	resources []string // of the client
	prompt    string   // of each login
}

// An Answer is Yes, No, or "" for what was not found out.
type Answer string

// The answers.
const (
	Yes Answer = "yes"
	No  Answer = "no"
)

func answer(yes bool) Answer {
	if yes {
		return Yes
	}
	return No
}

// Seconds is a duration in seconds, to a tenth.
type Seconds float64

func seconds(d time.Duration) Seconds { return Seconds(math.Round(d.Seconds()*10) / 10) }

// Duration returns s as a [time.Duration].
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// MetadataFacts are about what the server publishes of itself.
type MetadataFacts struct {
	// Broken are promises that were tried and not kept, Silent what works and is not
	// listed, Untried what is promised and was not tried.
	Broken  []Promise `json:"broken,omitempty"`
	Silent  []Promise `json:"not_listed,omitempty"`
	Untried []string  `json:"not_tried,omitempty"`
	// Own are members that no specification known here has.
	Own []string `json:"own_members,omitempty"`
}

// A Promise is a member of the metadata beside what was found.
type Promise struct {
	Member string `json:"member"`
	Found  string `json:"found"`
}

// ClientFacts are about how the client says who it is.
type ClientFacts struct {
	Methods []MethodFact `json:"methods,omitempty"`
	// Works is the method that the settings have; RawBasic as [login.Client.RawBasic].
	Works    string `json:"works,omitempty"`
	RawBasic bool   `json:"raw_basic,omitempty"`
	// Checked is whether a wrong secret is rejected.
	Checked Answer `json:"secret_is_checked,omitempty"`
}

// A MethodFact is one client authentication method that was tried.
type MethodFact struct {
	Method string `json:"method"`
	Works  Answer `json:"works,omitempty"`
	Reply  string `json:"reply,omitempty"`
}

// AuthorizationFacts are about the authorization request and its response.
type AuthorizationFacts struct {
	PKCE   Answer `json:"pkce_is_checked,omitempty"`
	Pushed Answer `json:"pushed_requests,omitempty"`
	Iss    Answer `json:"iss_in_response,omitempty"`
	// Own are parameters of the response that no specification known here has.
	Own []string `json:"own_parameters,omitempty"`
}

// TokenFacts are about a token response.
type TokenFacts struct {
	AccessSeconds  Seconds `json:"access_token_seconds,omitempty"` // as expires_in says
	NoExpiry       bool    `json:"no_expires_in,omitempty"`
	Type           string  `json:"token_type,omitempty"`
	RefreshToken   Answer  `json:"refresh_token,omitempty"`
	RefreshSeconds Seconds `json:"refresh_token_seconds,omitempty"` // where the server says
	IDTokenSeconds Seconds `json:"id_token_seconds,omitempty"`
	// Scopes are those granted, where they are others than those asked for.
	Scopes  []string `json:"scopes_granted,omitempty"`
	NoStore Answer   `json:"no_store,omitempty"`
	// Own are members that no specification known here has.
	Own []string `json:"own_members,omitempty"`
	// Steady is whether client credentials give the same token twice.
	Steady Answer `json:"same_token_twice,omitempty"`
}

// RefreshFacts are about what a refresh does.
type RefreshFacts struct {
	Works   Answer `json:"works,omitempty"`
	Rotates Answer `json:"rotates,omitempty"`
	// OldAccessDies is whether the access token before is rejected after a refresh.
	OldAccessDies Answer `json:"old_access_token_dies,omitempty"`
	// The refresh token before was accepted after AcceptedAfter, if Grace is Yes, and
	// rejected after RefusedAfter, if that is not 0.
	Grace         Answer  `json:"grace,omitempty"`
	AcceptedAfter Seconds `json:"accepted_after,omitempty"`
	RefusedAfter  Seconds `json:"refused_after,omitempty"`
	// SameSuccessor is whether a refresh token that is accepted again gives the same
	// successor.
	SameSuccessor Answer `json:"same_successor,omitempty"`
	// Ancestors is whether one that was used twice ago is accepted, too.
	Ancestors Answer `json:"older_accepted,omitempty"`
	// ReuseReply is what the server says to a refresh token that it does not accept again.
	ReuseReply       string `json:"reuse_reply,omitempty"`
	ReuseEndsSession Answer `json:"reuse_ends_session,omitempty"`
	ReuseEndsAccess  Answer `json:"reuse_ends_access_tokens,omitempty"`
	// LoginEndsOthers is whether another login of the same user ends the sessions before.
	LoginEndsOthers Answer `json:"login_ends_others,omitempty"`
}

// RevocationFacts are about RFC 7009.
type RevocationFacts struct {
	Works       Answer `json:"works,omitempty"`
	EndsSession Answer `json:"refresh_token_ends,omitempty"`
	// EndsAccess is whether the access token is rejected with its refresh token; AccessAlone, whether
	// it ends if it is revoked itself.
	EndsAccess  Answer `json:"access_token_ends_with_it,omitempty"`
	AccessAlone Answer `json:"access_token_ends_alone,omitempty"`
}

// UserInfoFacts are about the user info endpoint.
type UserInfoFacts struct {
	Works Answer `json:"works,omitempty"`
	// Kind is JSON or JWT.
	Kind string `json:"kind,omitempty"`
	// SubFits is whether sub is that of the ID token.
	SubFits Answer `json:"sub_fits,omitempty"`
	// Members are those of OpenID Connect that came, Own the others. No value is kept.
	Members []string `json:"members,omitempty"`
	Own     []string `json:"own_members,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Replies are what one place answers to each kind of token.
type Replies struct {
	URL     string `json:"url"`
	Good    *Reply `json:"good,omitempty"`
	None    *Reply `json:"no_token,omitempty"`
	MadeUp  *Reply `json:"made_up,omitempty"`
	Expired *Reply `json:"expired,omitempty"`
	Revoked *Reply `json:"revoked,omitempty"`
	// AcceptedLate is how long after its expiry a token was still accepted.
	AcceptedLate Seconds `json:"accepted_after_expiry,omitempty"`
	// Blind is whether a made-up token gets the status of a good one: the status says nothing.
	Blind bool `json:"blind,omitempty"`
}

// String is r in a few words.
func (r *Reply) String() string {
	switch {
	case r == nil:
		return ""
	case r.Challenge == "":
		return strconv.Itoa(r.Status) + ", no challenge"
	}
	return strconv.Itoa(r.Status) + ", " + r.Challenge
}

// A Reply is one answer.
type Reply struct {
	Status int `json:"status"`
	// Challenge is the scheme and the error code of WWW-Authenticate, "" if there is none.
	Challenge string `json:"challenge,omitempty"`
}

// A Clock is how far the clock of a host is ahead, by the Date of its answers.
type Clock struct {
	Host   string  `json:"host"`
	Ahead  Seconds `json:"seconds_ahead"`
	Within Seconds `json:"within"` // how exact that is
}

// A RateLimit is a header field with which a host speaks of limits.
type RateLimit struct {
	Host   string `json:"host"`
	Header string `json:"header"`
	Value  string `json:"value"`
}

// NotFound is what was not found out.
type NotFound struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

func (r *Report) missing(what, why string) {
	for _, n := range r.NotFound {
		if n.What == what {
			return
		}
	}
	r.NotFound = append(r.NotFound, NotFound{what, why})
}

func (r *Report) broken(member, found string) {
	r.Metadata.Broken = append(r.Metadata.Broken, Promise{member, found})
}

func (r *Report) silent(member, found string) {
	r.Metadata.Silent = append(r.Metadata.Silent, Promise{member, found})
}
