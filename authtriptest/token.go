package authtriptest

import (
	"crypto/subtle"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// The grant types that a [Server] knows by their long names, as they appear in
// [Counts]; the other two are "refresh_token" and "client_credentials".
const (
	GrantJWTBearer     = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523, section 2.1
	GrantTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693, section 2.1
)

const accessTokenType = "urn:ietf:params:oauth:token-type:access_token"

// oauthError is an error of RFC 6749, section 5.2.
type oauthError struct {
	code, description string
}

func (e *oauthError) answer(r *http.Request) answer {
	status := http.StatusBadRequest
	if e.code == "invalid_client" {
		status = http.StatusUnauthorized
	}
	a := jsonAnswer(status, map[string]any{
		"error":             e.code,
		"error_description": e.description,
	})
	if r.Header.Get("Authorization") != "" && status == http.StatusUnauthorized {
		a.header.Set("WWW-Authenticate", `Basic realm="authtriptest"`)
	}
	return a
}

// token answers a token request.
func (s *Server) token(r *http.Request) answer {
	if r.Method != http.MethodPost {
		return methodNotAllowed()
	}
	members, refusal := s.grant(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if refusal != nil {
		if s.counts.Errors == nil {
			s.counts.Errors = map[string]int{}
		}
		s.counts.Errors[refusal.code]++
		return refusal.answer(r)
	}
	if s.counts.Grants == nil {
		s.counts.Grants = map[string]int{}
	}
	s.counts.Grants[r.PostForm.Get("grant_type")]++
	return jsonAnswer(http.StatusOK, members)
}

func methodNotAllowed() answer {
	a := jsonAnswer(http.StatusMethodNotAllowed, map[string]any{"error": "invalid_request"})
	a.header.Set("Allow", http.MethodPost)
	return a
}

// grant checks a token request and does what it asks for.
func (s *Server) grant(r *http.Request) (map[string]any, *oauthError) {
	if e := s.checkRequest(r); e != nil {
		return nil, e
	}
	form := r.PostForm
	s.mu.Lock()
	defer s.mu.Unlock()
	switch form.Get("grant_type") {
	case "refresh_token":
		return s.refreshLocked(form)
	case "client_credentials":
		return s.plainLocked(s.clientID(), form), nil
	case GrantJWTBearer:
		if form.Get("assertion") == "" {
			return nil, &oauthError{"invalid_request", "assertion is missing"}
		}
		return s.plainLocked(s.clientID(), form), nil
	case GrantTokenExchange:
		return s.exchangeLocked(form)
	case "":
		return nil, &oauthError{"invalid_request", "grant_type is missing"}
	default:
		return nil, &oauthError{"unsupported_grant_type", "this grant_type is unknown"}
	}
}

// checkRequest checks the form (RFC 6749, section 3.2) and the client.
func (s *Server) checkRequest(r *http.Request) *oauthError {
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(contentType), "application/x-www-form-urlencoded") {
		return &oauthError{"invalid_request", "the body is not a form"}
	}
	for name, values := range formOf(r) {
		// RFC 8707 and RFC 8693 allow several of these two.
		if len(values) > 1 && name != "resource" && name != "audience" {
			return &oauthError{"invalid_request", "a parameter appears twice"}
		}
	}
	if s.CheckClient != nil {
		if !s.CheckClient(r) {
			return &oauthError{"invalid_client", "client authentication failed"}
		}
		return nil
	}
	return s.checkSecret(r)
}

// checkSecret authenticates the client (RFC 6749, section 2.3.1).
func (s *Server) checkSecret(r *http.Request) *oauthError {
	form := formOf(r)
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if user, pass, ok := r.BasicAuth(); ok {
		if secret != "" {
			return &oauthError{"invalid_request", "the client authenticates twice"}
		}
		var err1, err2 error
		user, err1 = url.QueryUnescape(user)
		pass, err2 = url.QueryUnescape(pass)
		if err1 != nil || err2 != nil || (id != "" && id != user) {
			return &oauthError{"invalid_client", "client authentication failed"}
		}
		id, secret = user, pass
	}
	if id != s.clientID() || subtle.ConstantTimeCompare([]byte(secret), []byte(s.clientSecret())) == 0 {
		return &oauthError{"invalid_client", "client authentication failed"}
	}
	return nil
}

// plainLocked issues an access token and nothing else.
func (s *Server) plainLocked(subject string, form url.Values) map[string]any {
	return s.accessLocked(nil, subject, strings.Fields(form.Get("scope")))
}

// exchangeLocked is RFC 8693. A subject token that is one of the server's own
// must be valid; any other one is taken on trust.
func (s *Server) exchangeLocked(form url.Values) (map[string]any, *oauthError) {
	token := form.Get("subject_token")
	switch {
	case token == "":
		return nil, &oauthError{"invalid_request", "subject_token is missing"}
	case form.Get("subject_token_type") == "":
		return nil, &oauthError{"invalid_request", "subject_token_type is missing"}
	}
	subject := s.clientID()
	if a := s.access[token]; a != nil {
		if !a.valid(time.Now()) {
			return nil, &oauthError{"invalid_request", "subject_token is not valid"}
		}
		subject = a.subject
	}
	members := s.plainLocked(subject, form)
	members["issued_token_type"] = accessTokenType
	return members, nil
}

// refreshLocked is RFC 6749, section 6, with the reuse detection of RFC 9700,
// section 4.14.2.
func (s *Server) refreshLocked(form url.Values) (map[string]any, *oauthError) {
	token := form.Get("refresh_token")
	if token == "" {
		return nil, &oauthError{"invalid_request", "refresh_token is missing"}
	}
	f := s.refresh[token]
	if f == nil || f.revoked {
		return nil, &oauthError{"invalid_grant", "the refresh token is not valid"}
	}
	scopes := strings.Fields(form.Get("scope"))
	if len(scopes) == 0 {
		scopes = f.scopes
	}
	for _, scope := range scopes {
		if !slices.Contains(f.scopes, scope) {
			return nil, &oauthError{"invalid_scope", "more scope than was granted"}
		}
	}
	now := time.Now()
	if token != f.current {
		s.counts.Reuses++
		if !f.inGrace(token, now, s.ReuseGrace) {
			s.revokeFamilyLocked(f)
			return nil, &oauthError{"invalid_grant", "the refresh token was used before"}
		}
	} else if s.Rotate {
		f.parent, f.rotated = token, now
		s.newRefreshLocked(f)
	}
	if s.RevokeOnRefresh {
		s.revokeAccessLocked(f)
	}
	return s.familyLocked(f, scopes), nil
}

// familyLocked makes the token response for a family.
func (s *Server) familyLocked(f *family, scopes []string) map[string]any {
	members := s.accessLocked(f, f.subject, scopes)
	members["id_token"] = s.idTokenLocked(f)
	if s.Rotate {
		members["refresh_token"] = f.current
	}
	return members
}

// Issue grants an access token and a refresh token to a subject, as after a
// login: they are the start of a new family. An ID token is in the extra
// member "id_token". The caller owns the result.
func (s *Server) Issue(subject string, scopes ...string) *oauth2.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &family{subject: subject, scopes: slices.Clone(scopes), login: time.Now()}
	s.newRefreshLocked(f)
	members := s.familyLocked(f, f.scopes)
	tok := &oauth2.Token{
		AccessToken:  members["access_token"].(string),
		TokenType:    "Bearer",
		RefreshToken: f.current,
	}
	if d := s.lifetime(); d > 0 {
		tok.ExpiresIn = int64(d / time.Second)
		tok.Expiry = f.login.Add(d)
	}
	extra := maps.Clone(members)
	delete(extra, "access_token")
	delete(extra, "refresh_token")
	return tok.WithExtra(extra)
}

// revocation is RFC 7009: an unknown token is no error.
func (s *Server) revocation(r *http.Request) answer {
	if r.Method != http.MethodPost {
		return methodNotAllowed()
	}
	if e := s.checkRequest(r); e != nil {
		return e.answer(r)
	}
	token := r.PostForm.Get("token")
	if token == "" {
		return (&oauthError{"invalid_request", "token is missing"}).answer(r)
	}
	s.Revoke(token)
	return jsonAnswer(http.StatusOK, map[string]any{})
}
