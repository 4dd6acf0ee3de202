package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"example.com/authtrip"
)

// An Identity is how a program names itself to servers that it learns of while it runs: by
// what it was registered with before, by the URL of its [ClientDocument], or by registering
// itself, in that order. Rule 70. What one issuer gave goes to no other.
//
// The zero value has none of these ways. It is safe for concurrent use, must not be
// copied, and its fields must not be modified after first use.
type Identity struct {
	// Registered, if set, returns the client that was registered with an issuer before, and
	// nil if there is none. Its Provider is set by the Identity. The issuer may come from a
	// stranger: check it before you return a secret.
	Registered func(ctx context.Context, issuer string) (*Client, error)
	// DocumentURL is the client_id of a [ClientDocument], for servers that take one. ""
	// if there is none.
	DocumentURL string
	// Metadata is what the program says about itself when it registers (RFC 7591). If nil,
	// it does not.
	Metadata *ClientMetadata
	// Cache keeps what servers have registered, with secrets: see [authtrip.SealedCache].
	// If nil, it is kept in this process's memory.
	Cache authtrip.Cache

	memory authtrip.MemoryCache
	mu     sync.Mutex               // guards turns
	turns  map[string]chan struct{} // by issuer: of each one registration at a time
}

// Client returns the client at p. complete, if not nil, fills in what a registration
// needs beyond Metadata, such as redirect URIs. again means that the kept registration is
// of no use any more.
//
// The registration is nil if the client did not register itself. Keep it with a session:
// it is used if Cache has lost it.
//
// It blocks while the server is asked. Its errors are those of [Provider.Register]; if no
// way is left, one that wraps [errors.ErrUnsupported] says what to do.
func (id *Identity) Client(ctx context.Context, p *Provider, complete func(*ClientMetadata), again bool) (*Client, *Registration, error) {
	m, err := p.Metadata(ctx)
	if err != nil {
		return nil, nil, err
	}
	if id.Registered != nil {
		c, err := id.Registered(ctx, p.Issuer)
		if err != nil {
			return nil, nil, fmt.Errorf("login: Identity.Registered: %w", err)
		}
		if c != nil {
			own := *c
			own.Provider = p
			return &own, nil, nil
		}
	}
	switch {
	case id.DocumentURL != "" && m.ClientIDMetadataDocumentSupported:
		return &Client{Provider: p, ID: id.DocumentURL, AuthMethod: authNone}, nil, nil
	case id.Metadata == nil || m.RegistrationEndpoint == "":
		return nil, nil, fmt.Errorf("login: Identity: there is no client at the server %q: register one there and return it from Identity.Registered, or set DocumentURL or Metadata where the server supports that: %w",
			cut(p.Issuer), errors.ErrUnsupported)
	}
	return id.register(ctx, p, m, complete, again)
}

func (id *Identity) register(ctx context.Context, p *Provider, m *Metadata, complete func(*ClientMetadata), renew bool) (*Client, *Registration, error) {
	done, err := id.turn(ctx, p.Issuer)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	meta := *id.Metadata
	if meta.TokenEndpointAuthMethod == "" {
		meta.TokenEndpointAuthMethod = registrableMethod(m.TokenEndpointAuthMethods)
	}
	if complete != nil {
		complete(&meta)
	}
	rs := &Registrations{Cache: id.Cache, Metadata: &meta}
	if rs.Cache == nil {
		rs.Cache = &id.memory
	}
	var r *Registration
	if renew {
		if r, err = p.Register(ctx, &meta, ""); err == nil {
			err = rs.Keep(ctx, r)
		}
	} else {
		r, err = rs.Register(ctx, p)
	}
	if err != nil {
		return nil, nil, err
	}
	if r.TokenEndpointAuthMethod == "" {
		r.TokenEndpointAuthMethod = meta.TokenEndpointAuthMethod // a server that says nothing has taken what was asked for
	}
	c, err := r.Client(p)
	return c, r, err
}

// turn waits until no other registration with issuer is under way, or ctx ends. done ends it.
func (id *Identity) turn(ctx context.Context, issuer string) (done func(), err error) {
	for {
		id.mu.Lock()
		other := id.turns[issuer]
		if other == nil {
			if id.turns == nil {
				id.turns = make(map[string]chan struct{})
			}
			mine := make(chan struct{})
			id.turns[issuer] = mine
			id.mu.Unlock()
			return func() {
				id.mu.Lock()
				delete(id.turns, issuer)
				id.mu.Unlock()
				close(mine)
			}, nil
		}
		id.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, interrupted(ctx, context.Cause(ctx))
		}
	}
}

// registrableMethod chooses how a client that registers itself is to authenticate itself.
func registrableMethod(offered []string) string {
	for _, method := range []string{authNone, authBasic, authPost} {
		if slices.Contains(offered, method) {
			return method
		}
	}
	if len(offered) == 0 {
		return authBasic // RFC 8414, section 2
	}
	return ""
}

// Choose returns which of an API's authorization servers to use: that of the session,
// else one with which the program is registered, else the first. current is "" if there
// is no session.
func (id *Identity) Choose(ctx context.Context, issuers []string, current string) (string, error) {
	if len(issuers) == 0 {
		return "", errors.New("login: the API's metadata names no authorization server")
	}
	if current != "" && slices.Contains(issuers, current) {
		return current, nil
	}
	if id.Registered != nil {
		for _, issuer := range issuers[:min(len(issuers), 20)] {
			c, err := id.Registered(ctx, issuer)
			if err != nil {
				return "", fmt.Errorf("login: Identity.Registered: %w", err)
			}
			if c != nil {
				return issuer, nil
			}
		}
	}
	return issuers[0], nil
}
