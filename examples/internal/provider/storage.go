package provider

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	loginLifetime = 10 * time.Minute
	codeLifetime  = time.Minute
)

// storage is what the server knows, in memory and for as long as it runs.
type storage struct {
	issuer        string
	clients       map[string]client
	users         []User
	key           signingKey
	tokenLifetime time.Duration

	mu       sync.Mutex // guards all that follows, and what it leads to
	logins   map[string]*authRequest
	codes    map[string]*code
	devices  map[string]*device
	sessions map[string]session
	access   map[string]*accessToken
	refresh  map[string]*refreshToken
	seen     Stats
}

var (
	_ op.Storage                    = (*storage)(nil)
	_ op.CanSetUserinfoFromRequest  = (*storage)(nil)
	_ op.ClientCredentialsStorage   = (*storage)(nil)
	_ op.DeviceAuthorizationStorage = (*storage)(nil)
)

func newStorage(issuer string, opts Options) (*storage, error) {
	s := &storage{
		issuer:        issuer,
		clients:       make(map[string]client),
		users:         opts.Users,
		tokenLifetime: opts.AccessTokenLifetime,
		logins:        make(map[string]*authRequest),
		codes:         make(map[string]*code),
		devices:       make(map[string]*device),
		sessions:      make(map[string]session),
		access:        make(map[string]*accessToken),
		refresh:       make(map[string]*refreshToken),
	}
	if s.tokenLifetime == 0 {
		s.tokenLifetime = 5 * time.Minute
	}
	if s.tokenLifetime < time.Second || s.tokenLifetime%time.Second != 0 {
		return nil, fmt.Errorf("provider: Options.AccessTokenLifetime is %v, want whole seconds", s.tokenLifetime)
	}
	for _, c := range opts.Clients {
		s.clients[c.ID] = client{c}
	}
	for _, u := range opts.Users {
		if u.Subject == "" || strings.Contains(u.Subject, ":") {
			return nil, fmt.Errorf("provider: Options.Users: subject %q is empty or has a colon", u.Subject)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	s.key = signingKey{key: key}
	return s, nil
}

func (s *storage) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Health implements [op.Storage].
func (s *storage) Health(context.Context) error { return nil }

// The authorization request and its code.

// CreateAuthRequest implements [op.AuthStorage].
func (s *storage) CreateAuthRequest(_ context.Context, asked *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if asked.CodeChallenge == "" || asked.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE with S256 is required")
	}
	if len(asked.Prompt) == 1 && asked.Prompt[0] == oidc.PromptNone {
		return nil, oidc.ErrLoginRequired()
	}
	r := &authRequest{id: rand.Text(), asked: *asked, expires: time.Now().Add(loginLifetime)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins[r.id] = r
	return r.copied(), nil
}

// AuthRequestByID implements [op.AuthStorage].
func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.login(id)
}

// login returns a copy of a login in progress. The caller holds mu.
func (s *storage) login(id string) (*authRequest, error) {
	r := s.logins[id]
	if !r.open() {
		return nil, fmt.Errorf("login: %w", errUnknown)
	}
	return r.copied(), nil
}

// SaveAuthCode implements [op.AuthStorage].
func (s *storage) SaveAuthCode(_ context.Context, id, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[value] = &code{request: id, expires: time.Now().Add(codeLifetime)}
	return nil
}

// AuthRequestByCode implements [op.AuthStorage]. It uses the code up: a second use
// ends what the first one led to (RFC 6749, section 4.1.2).
func (s *storage) AuthRequestByCode(_ context.Context, value string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.codes[value]
	if c == nil || time.Now().After(c.expires) {
		return nil, fmt.Errorf("code: %w", errUnknown)
	}
	if c.used {
		if c.grant != nil {
			c.grant.ended = true
		}
		return nil, fmt.Errorf("code: %w", errReused)
	}
	c.used = true
	r, err := s.login(c.request)
	if err != nil {
		return nil, err
	}
	r.code = c
	return r, nil
}

// DeleteAuthRequest implements [op.AuthStorage].
func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logins, id)
	return nil
}

// Clients.

// GetClientByClientID implements [op.OPStorage].
func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	c, ok := s.clients[id]
	if !ok {
		return nil, oidc.ErrInvalidClient().WithDescription("unknown client")
	}
	return c, nil
}

// AuthorizeClientIDSecret implements [op.OPStorage].
func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	c, ok := s.clients[id]
	if !ok || c.Secret == "" || subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) != 1 {
		return errors.New("unknown client or wrong secret")
	}
	return nil
}

// ClientCredentials implements [op.ClientCredentialsStorage].
func (s *storage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if err := s.AuthorizeClientIDSecret(ctx, id, secret); err != nil {
		return nil, err
	}
	return s.GetClientByClientID(ctx, id)
}

// ClientCredentialsTokenRequest implements [op.ClientCredentialsStorage].
func (s *storage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return &clientRequest{clientID: id, scopes: scopes}, nil
}

// What is said of users and tokens.

// SetUserinfoFromToken implements [op.OPStorage]: it answers the user info
// endpoint.
func (s *storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, tokenID, _, _ string) error {
	s.mu.Lock()
	at, err := s.live(tokenID)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.describe(info, at.grant.subject, at.scopes)
}

// SetUserinfoFromRequest implements [op.CanSetUserinfoFromRequest]: it fills the
// ID token.
func (s *storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string) error {
	return s.describe(info, request.GetSubject(), scopes)
}

// SetUserinfoFromScopes implements [op.OPStorage], which wants it empty.
func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetIntrospectionFromToken implements [op.OPStorage]. An error means that the
// token is not active.
func (s *storage) SetIntrospectionFromToken(_ context.Context, answer *oidc.IntrospectionResponse, tokenID, _, _ string) error {
	s.mu.Lock()
	at, err := s.live(tokenID)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	answer.Subject = at.grant.subject
	answer.ClientID = at.grant.clientID
	answer.Scope = at.scopes
	answer.TokenType = oidc.BearerToken
	answer.Expiration = oidc.FromTime(at.expires)
	return nil
}

// describe adds the claims that scopes ask for.
func (s *storage) describe(info *oidc.UserInfo, subject string, scopes []string) error {
	for _, u := range s.users {
		if u.Subject != subject {
			continue
		}
		info.Subject = subject
		for _, scope := range scopes {
			switch scope {
			case oidc.ScopeProfile:
				info.Name, info.PreferredUsername = u.Name, u.Login
				if u.Picture != "" {
					info.Picture = s.issuer + picturePath + url.PathEscape(u.Subject)
				}
			case oidc.ScopeEmail:
				info.Email, info.EmailVerified = u.Email, u.Email != ""
			}
		}
		return nil
	}
	return errors.New("the token is not of a user")
}

// GetPrivateClaimsFromScopes implements [op.OPStorage]. Access tokens are opaque
// here, so there are no claims in them.
func (s *storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil //nolint:nilnil // no claims, and no error
}

// GetKeyByIDAndClientID implements [op.OPStorage]. No client has a key.
func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errors.New("no client has a key")
}

// ValidateJWTProfileScopes implements [op.OPStorage]. No client has a key, so there
// are no assertions.
func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, oidc.ErrUnsupportedGrantType()
}

// The key that signs ID tokens.

// SigningKey implements [op.AuthStorage].
func (s *storage) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

// SignatureAlgorithms implements [op.AuthStorage].
func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{s.key.SignatureAlgorithm()}, nil
}

// KeySet implements [op.AuthStorage].
func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{publicKey{s.key}}, nil
}

type signingKey struct{ key *rsa.PrivateKey }

func (k signingKey) ID() string                                  { return "1" }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k signingKey) Key() any                                    { return k.key }

type publicKey struct{ signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return k.SignatureAlgorithm() }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return k.key.Public() }
