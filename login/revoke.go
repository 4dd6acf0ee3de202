package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// Revoke revokes tok at the server (RFC 7009): its refresh token, if there is one, and
// its access token. If the server does not know a token, that is no error. It does not
// touch a Source or a Store that holds tok. With [Client.DPoP] the requests have a proof
// of the key of tok: no RFC asks for one here, and some servers do nothing without it.
//
// It blocks until both are done or ctx ends, and sends the second also if the first has
// failed. Its errors are *[EndpointError] and those of [Provider.Metadata]; one that
// wraps [errors.ErrUnsupported] says that the server cannot do it.
func (c *Client) Revoke(ctx context.Context, tok *oauth2.Token) error {
	if tok == nil || tok.RefreshToken == "" && tok.AccessToken == "" {
		return errors.New("login: Revoke: there is no token")
	}
	prover, err := c.proverOf(tok)
	if err != nil {
		return err
	}
	// The refresh token first: while it lives there can be new access tokens.
	var errs [2]error
	if tok.RefreshToken != "" {
		errs[0] = c.revoke(ctx, tok.RefreshToken, "refresh_token", prover)
	}
	if tok.AccessToken != "" && !errors.Is(errs[0], errors.ErrUnsupported) {
		errs[1] = c.revoke(ctx, tok.AccessToken, "access_token", prover)
	}
	if ee, ok := errors.AsType[*EndpointError](errs[1]); ok && ee.Code == "unsupported_token_type" && tok.RefreshToken != "" {
		// Section 2.2.1: not every server can revoke access tokens, and this one
		// ends with its refresh token or soon.
		errs[1] = nil
	}
	if errs[0] != nil {
		return errs[0]
	}
	return errs[1]
}

func (c *Client) revoke(ctx context.Context, token, hint string, prover authtrip.Prover) error {
	a, err := c.postBound(ctx, endpointRevocation, url.Values{"token": {token}, "token_type_hint": {hint}}, "application/json", prover)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK && a.status != http.StatusNoContent {
		return a.fail(endpointRevocation, errors.New("want status 200"))
	}
	return nil
}
