package authtrip

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"golang.org/x/oauth2"
)

// tokens is where a Transport and a UserInfoSource have their tokens from, and
// whom they tell what an API said of them. Its methods are safe for concurrent use.
type tokens interface {
	// snapshot returns a usable token. It blocks until there is one or ctx ends.
	snapshot(ctx context.Context) (*snapshot, error)
	// rejected says that an API rejected the token of snap.
	rejected(snap *snapshot)
	// accepted says that an API took the token of snap.
	accepted(snap *snapshot)
}

// tokensOf returns src as tokens. The result is to be kept: it remembers the last
// token of a third-party source.
func tokensOf(src oauth2.TokenSource) tokens {
	if own, ok := src.(tokens); ok {
		return own
	}
	return &thirdParty{source: src}
}

// rejected implements tokens.
func (s *Source) rejected(snap *snapshot) {
	if s.among != nil {
		s.among.rejected(snap)
		return
	}
	snap.of.reject(snap)
}

// accepted implements tokens.
func (s *Source) accepted(snap *snapshot) { snap.judge(true) }

// hookOf returns own, and the hook of the source of tokens where that is nil.
func hookOf(own func(Event), src oauth2.TokenSource) func(Event) {
	if own != nil {
		return own
	}
	switch src := src.(type) {
	case *Source:
		if one := src.of.Load(); one != nil {
			return one.set.onEvent
		}
	case *Sources:
		return src.Each.OnEvent
	}
	return nil
}

// thirdParty is a TokenSource that makes no snapshots itself.
type thirdParty struct {
	source oauth2.TokenSource
	last   atomic.Pointer[snapshot]
}

func (p *thirdParty) snapshot(ctx context.Context) (*snapshot, error) {
	var tok *oauth2.Token
	var err error
	if src, ok := p.source.(ContextTokenSource); ok {
		tok, err = src.TokenContext(ctx)
	} else {
		tok, err = p.source.Token()
	}
	if err != nil {
		return nil, err
	}
	if tok == nil {
		return nil, errors.New("authtrip: Transport.Source returned no token and no error")
	}
	last := p.last.Load()
	if last == nil || last.token.AccessToken != tok.AccessToken || last.token.TokenType != tok.TokenType {
		// A copy: a source may change its token in place.
		own := *tok
		last = &snapshot{token: &own}
		last.header, last.err = headerOf(&own)
		p.last.Store(last)
	}
	return last, nil
}

// headerOf is the value of the Authorization header for a token that the program
// supplies itself.
//
// The types token (GitHub), OAuth (Salesforce, Zoho, Yandex) and Basic are sent as
// x/oauth2 does: a scheme, and the token. Any other type wants more of a request than that (mac and
// hmac a signature, DPoP a proof, N_A is no access token), or is unknown: RFC 6749, section
// 7.1, forbids to use it.
func headerOf(tok *oauth2.Token) ([]string, error) {
	switch strings.ToLower(tok.TokenType) {
	case "token", "oauth", "basic":
		plain := *tok
		plain.TokenType = ""
		value, err := authorization(&plain)
		if err == nil {
			value[0] = tok.Type() + " " + tok.AccessToken
		}
		return value, err
	}
	return authorization(tok)
}

func (p *thirdParty) rejected(snap *snapshot) {
	if src, ok := p.source.(ContextTokenSource); ok {
		src.Invalidate(snap.token)
	}
}

func (p *thirdParty) accepted(*snapshot) {}
