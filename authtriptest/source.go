package authtriptest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// Source is a token source for tests: it hands out a token without asking anybody, and a new
// one after the old one was rejected or has expired. The access tokens are "token-1",
// "token-2" and so on.
//
// It has the methods of authtrip.ContextTokenSource. The zero value is ready to
// use. Lifetime must not be modified after first use; the methods are safe for
// concurrent use by multiple goroutines. A Source must not be copied after first
// use.
type Source struct {
	// Lifetime is how long a token is valid. If zero or negative, it has no expiry and is
	// valid until it is rejected.
	Lifetime time.Duration

	mu      sync.Mutex // guards everything below
	err     error
	current *oauth2.Token
	made    int
	counts  SourceCounts
}

// SourceCounts says what a [Source] was asked for.
type SourceCounts struct {
	Calls         int // calls of Token and TokenContext
	Errors        int // of them, those that failed
	Tokens        int // different tokens that were made
	Invalidations int // calls of Invalidate
	Invalidated   int // of them, those that hit the current token
}

// Token is [Source.TokenContext] without a context.
func (s *Source) Token() (*oauth2.Token, error) {
	return s.TokenContext(context.Background())
}

// TokenContext returns the current token, or the error of [Source.SetError], or
// that of ctx. The caller owns the token.
func (s *Source) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Calls++
	err := ctx.Err()
	if err == nil {
		err = s.err
	}
	if err != nil {
		s.counts.Errors++
		return nil, err
	}
	if s.current == nil || s.expiredLocked() {
		s.makeLocked()
	}
	tok := *s.current
	return &tok, nil
}

// Invalidate says that an API rejected tok. If it is the current token, the next call makes
// a new one.
func (s *Source) Invalidate(tok *oauth2.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Invalidations++
	if tok != nil && s.current != nil && tok.AccessToken == s.current.AccessToken {
		s.counts.Invalidated++
		s.current = nil
	}
}

// SetError makes the following calls fail with err; nil ends that.
func (s *Source) SetError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// SetToken makes a copy of tok the current token; nil makes the next call
// produce one.
func (s *Source) SetToken(tok *oauth2.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = nil
	if tok != nil {
		own := *tok
		s.current = &own
	}
}

// Counts returns what the source was asked for until now.
func (s *Source) Counts() SourceCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

func (s *Source) expiredLocked() bool {
	end := s.current.Expiry
	return !end.IsZero() && !time.Now().Before(end)
}

func (s *Source) makeLocked() {
	s.made++
	s.counts.Tokens++
	s.current = &oauth2.Token{
		AccessToken: fmt.Sprintf("token-%d", s.made),
		TokenType:   "Bearer",
	}
	if s.Lifetime > 0 {
		s.current.Expiry = time.Now().Add(s.Lifetime)
	}
}
