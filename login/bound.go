package login

import (
	"context"
	"fmt"
	"net/url"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// This file is how tokens are bound to the keys of [Client.DPoP] (RFC 9449).

// A refresher is one of a client: it says what its tokens are bound by, and whether it can
// be asked again at no loss.
type refresher struct {
	client     *Client
	repeatable bool
	refresh    func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error)
}

// Refresh implements [authtrip.Refresher].
func (r refresher) Refresh(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
	return r.refresh(ctx, old)
}

// Repeatable implements [authtrip.Repeatable].
func (r refresher) Repeatable() bool { return r.repeatable }

// Binder implements [authtrip.Bound].
func (r refresher) Binder() authtrip.Binder { return r.client.DPoP }

// tokenType is the only one that a client takes for its requests. Rules 22, 43.
func (c *Client) tokenType() string {
	if c.DPoP != nil {
		return typeDPoP
	}
	return typeBearer
}

// bindRequest adds to an authorization request to which key the code is to be bound (RFC
// 9449, section 10). It returns what makes proofs with that key, nil without one.
func (c *Client) bindRequest(form url.Values, tx *Transaction) (authtrip.Prover, error) {
	if c.DPoP == nil {
		return nil, nil
	}
	prover, err := c.DPoP.Prover(tx.DPoPKey, "")
	if err != nil {
		return nil, fmt.Errorf("login: Client.DPoP: %w", err)
	}
	form.Set("dpop_jkt", prover.Thumbprint())
	return prover, nil
}

// boundTo is how a grant is told of the key to use; nil for a new one.
func boundTo(key string) *oauth2.Token {
	if key == "" {
		return nil
	}
	return new(oauth2.Token).WithExtra(map[string]any{authtrip.DPoPKey: key})
}

// newKey is boundTo of a new key; nil without [Client.DPoP].
func (c *Client) newKey(ctx context.Context) (*oauth2.Token, error) {
	if c.DPoP == nil {
		return nil, nil
	}
	key, err := c.DPoP.NewKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("login: Client.DPoP: %w", err)
	}
	return boundTo(key), nil
}

// keyOf is the key to which tok is bound.
func keyOf(tok *oauth2.Token) string {
	if tok == nil {
		return ""
	}
	key, _ := tok.Extra(authtrip.DPoPKey).(string)
	return key
}
