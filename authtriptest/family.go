package authtriptest

import (
	"crypto/rand"
	"strings"
	"time"
)

// family is everything that descends from one login.
type family struct {
	subject string
	scopes  []string
	login   time.Time
	current string    // the refresh token that counts
	parent  string    // the one before, empty until the first rotation
	rotated time.Time // when parent was spent
	revoked bool
	tokens  []*access
}

// inGrace reports whether a spent refresh token is answered once more.
func (f *family) inGrace(token string, now time.Time, grace time.Duration) bool {
	return token == f.parent && now.Sub(f.rotated) < grace
}

// access is an access token that was issued.
type access struct {
	subject string
	scopes  []string
	expires time.Time // zero: never
	revoked bool
}

func (a *access) valid(now time.Time) bool {
	return !a.revoked && (a.expires.IsZero() || now.Before(a.expires))
}

// Revoke ends a token: an access token alone, a refresh token with its whole
// family. An unknown token is ignored.
func (s *Server) Revoke(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.access[token]; a != nil {
		a.revoked = true
	}
	if f := s.refresh[token]; f != nil {
		s.revokeFamilyLocked(f)
	}
}

// RevokeAll ends every access token issued so far. The refresh tokens stay good.
func (s *Server) RevokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.access {
		a.revoked = true
	}
}

// Valid reports whether a token would be accepted now: an access token by
// [APIPath], or a refresh token by [TokenPath] (a used one only within
// ReuseGrace).
func (s *Server) Valid(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if a := s.access[token]; a != nil {
		return a.valid(now)
	}
	f := s.refresh[token]
	if f == nil || f.revoked {
		return false
	}
	return token == f.current || f.inGrace(token, now, s.ReuseGrace)
}

func (s *Server) revokeFamilyLocked(f *family) {
	if !f.revoked {
		f.revoked = true
		s.counts.FamiliesRevoked++
	}
	s.revokeAccessLocked(f)
}

func (s *Server) revokeAccessLocked(f *family) {
	for _, a := range f.tokens {
		a.revoked = true
	}
	f.tokens = nil
}

// newRefreshLocked gives the family its next refresh token.
func (s *Server) newRefreshLocked(f *family) {
	if s.refresh == nil {
		s.refresh = map[string]*family{}
	}
	f.current = "rt-" + rand.Text()
	s.refresh[f.current] = f
}

// accessLocked makes an access token and the response that carries it.
func (s *Server) accessLocked(f *family, subject string, scopes []string) map[string]any {
	if s.access == nil {
		s.access = map[string]*access{}
	}
	a := &access{subject: subject, scopes: scopes}
	members := map[string]any{
		"access_token": "at-" + rand.Text(),
		"token_type":   "Bearer",
	}
	if d := s.lifetime(); d > 0 {
		a.expires = time.Now().Add(d)
		members["expires_in"] = int64(d / time.Second)
	}
	if len(scopes) > 0 {
		members["scope"] = strings.Join(scopes, " ")
	}
	s.access[members["access_token"].(string)] = a
	if f != nil {
		f.tokens = append(f.tokens, a)
	}
	return members
}

func (s *Server) lifetime() time.Duration {
	if s.Lifetime == 0 {
		return time.Hour
	}
	return s.Lifetime
}
