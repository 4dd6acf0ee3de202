package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	refreshTokenLifetime = 24 * time.Hour
	// grace is added to the life of an access token, as the server rounds what is
	// left of it down to whole seconds before it says so in expires_in.
	grace = 250 * time.Millisecond
)

// Why a token or a code is refused. The library's answer does not repeat it.
var (
	errUnknown = errors.New("unknown or expired")
	errEnded   = errors.New("revoked")
	errReused  = errors.New("used before")
)

// A grant is what one login gave to one client: a family of tokens, which can be
// ended as a whole.
type grant struct {
	clientID, subject string
	audience, scopes  []string
	amr               []string
	authTime          time.Time

	ended  bool
	newest *accessToken
}

// accessToken is what is known of an access token, by its ID.
type accessToken struct {
	grant   *grant
	scopes  []string
	expires time.Time
	revoked bool
}

// refreshToken is what is known of a refresh token, by its value. A spent one is
// kept, to know it again.
type refreshToken struct {
	grant   *grant
	expires time.Time
	spent   bool
}

// CreateAccessToken implements [op.AuthStorage].
func (s *storage) CreateAccessToken(_ context.Context, request op.TokenRequest) (string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.newGrant(request)
	if err != nil {
		return "", time.Time{}, err
	}
	id, expires := s.issueAccess(g, request.GetScopes())
	return id, expires, nil
}

// CreateAccessAndRefreshTokens implements [op.AuthStorage]. Where current is a
// refresh token it is spent here, under the lock: two requests that bring the same
// one at the same time do not both get a successor.
func (s *storage) CreateAccessAndRefreshTokens(_ context.Context, request op.TokenRequest, current string) (string, string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var g *grant
	if current == "" {
		var err error
		if g, err = s.newGrant(request); err != nil {
			return "", "", time.Time{}, err
		}
	} else {
		rt, err := s.unspent(current)
		if err != nil {
			return "", "", time.Time{}, oidc.ErrInvalidGrant().WithParent(err)
		}
		rt.spent = true
		s.seen.RefreshTokensSpent++
		g = rt.grant
		if at := g.newest; !at.revoked && time.Until(at.expires) > s.tokenLifetime/2 {
			s.seen.RefreshTokensWasted++
		}
	}
	id, expires := s.issueAccess(g, request.GetScopes())
	next := rand.Text()
	s.refresh[next] = &refreshToken{grant: g, expires: time.Now().Add(refreshTokenLifetime)}
	s.seen.RefreshTokensIssued++
	return id, next, expires, nil
}

// newGrant begins a family of tokens. The caller holds mu.
func (s *storage) newGrant(request op.TokenRequest) (*grant, error) {
	g := &grant{subject: request.GetSubject(), audience: request.GetAudience(), scopes: request.GetScopes()}
	switch r := request.(type) {
	case *authRequest:
		g.clientID, g.authTime, g.amr = r.GetClientID(), r.authTime, r.GetAMR()
		if r.code != nil {
			r.code.grant = g
		}
	case *op.DeviceAuthorizationState:
		g.clientID, g.authTime, g.amr = r.ClientID, r.AuthTime, r.AMR
	case *clientRequest:
		g.clientID = r.clientID
	default:
		return nil, oidc.ErrUnsupportedGrantType()
	}
	return g, nil
}

// issueAccess makes an access token. The caller holds mu.
func (s *storage) issueAccess(g *grant, scopes []string) (string, time.Time) {
	id, expires := rand.Text(), time.Now().Add(s.tokenLifetime+grace)
	g.newest = &accessToken{grant: g, scopes: scopes, expires: expires}
	s.access[id] = g.newest
	return id, expires
}

// unspent returns a refresh token that can be used. One that has been used ends
// its whole family (RFC 9700, section 4.14.2). The caller holds mu.
func (s *storage) unspent(value string) (*refreshToken, error) {
	rt := s.refresh[value]
	switch {
	case rt == nil || time.Now().After(rt.expires):
		return nil, fmt.Errorf("refresh token: %w", errUnknown)
	case rt.spent:
		s.seen.RefreshTokensReused++
		rt.grant.ended = true
		return nil, fmt.Errorf("refresh token: %w", errReused)
	case rt.grant.ended:
		return nil, fmt.Errorf("refresh token: %w", errEnded)
	}
	return rt, nil
}

// live returns an access token that can be used. The caller holds mu.
func (s *storage) live(id string) (*accessToken, error) {
	at := s.access[id]
	switch {
	case at == nil || time.Now().After(at.expires):
		return nil, fmt.Errorf("access token: %w", errUnknown)
	case at.revoked || at.grant.ended:
		return nil, fmt.Errorf("access token: %w", errEnded)
	}
	return at, nil
}

// TokenRequestByRefreshToken implements [op.AuthStorage].
func (s *storage) TokenRequestByRefreshToken(_ context.Context, value string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rt, err := s.unspent(value)
	if err != nil {
		return nil, err
	}
	return &refreshRequest{grant: rt.grant, scopes: rt.grant.scopes}, nil
}

// GetRefreshTokenInfo implements [op.AuthStorage]. The second result is what
// RevokeToken gets.
func (s *storage) GetRefreshTokenInfo(_ context.Context, clientID, value string) (string, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rt := s.refresh[value]
	if rt == nil || rt.grant.clientID != clientID {
		return "", "", op.ErrInvalidRefreshToken
	}
	return rt.grant.subject, value, nil
}

// RevokeToken implements [op.AuthStorage]. A token that is not there is as good as
// revoked (RFC 7009, section 2.2); another client's is not touched.
func (s *storage) RevokeToken(_ context.Context, tokenOrID, _, clientID string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.access[tokenOrID]; at != nil && at.grant.clientID == clientID {
		at.revoked = true
	}
	if rt := s.refresh[tokenOrID]; rt != nil && rt.grant.clientID == clientID {
		rt.grant.ended = true
	}
	return nil
}

// TerminateSession implements [op.AuthStorage]: it ends what the user gave to this
// client, and the sessions in which the login page knows the user.
func (s *storage) TerminateSession(_ context.Context, subject, clientID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cookie, sess := range s.sessions {
		if sess.subject == subject {
			delete(s.sessions, cookie)
		}
	}
	for _, rt := range s.refresh {
		if rt.grant.subject == subject && rt.grant.clientID == clientID {
			rt.grant.ended = true
		}
	}
	for _, at := range s.access {
		if at.grant.subject == subject && at.grant.clientID == clientID {
			at.grant.ended = true
		}
	}
	return nil
}
