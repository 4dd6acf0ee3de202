package login

import (
	"context"
	"net/url"
	"slices"

	"golang.org/x/oauth2"

	"example.com/authtrip"
)

// A TokenRequest is what a grant without a redirect asks for. The zero value,
// and nil, ask for what the client gets anyway.
type TokenRequest struct {
	// Scopes are asked for if there are any. Those of the Client are not: they
	// belong to logins.
	Scopes []string
	// Resources replaces those of the Client if it is not nil.
	Resources []string
	// AuthorizationDetails are those of an [AuthRequest].
	AuthorizationDetails []any
	// Params are further parameters, such as audience. Those that this package
	// sets cannot be among them.
	Params url.Values
	// Form, if set, adds what differs from request to request, such as an
	// actor_token.
	Form func(ctx context.Context, form url.Values) error
}

// ClientCredentials returns the refresher of a program that acts for itself (RFC
// 6749, section 4.4).
func (c *Client) ClientCredentials(req *TokenRequest) authtrip.Refresher {
	return c.refresher("client_credentials", req, nil)
}

// JWTBearer returns the refresher that trades an assertion for a token (RFC
// 7523, section 2.1). assertion is called for each request and returns a new one.
func (c *Client) JWTBearer(req *TokenRequest, assertion func(context.Context) (string, error)) authtrip.Refresher {
	return c.refresher("urn:ietf:params:oauth:grant-type:jwt-bearer", req, func(ctx context.Context, form url.Values) error {
		a, err := assertion(ctx)
		form.Set("assertion", a)
		return err
	})
}

// TokenExchange returns the refresher that trades somebody's token for another one (RFC
// 8693). subject is called for each request and returns the token and its type, such as
// urn:ietf:params:oauth:token-type:access_token. The result need not be an access token.
// Its token_type is N_A then, and no request is sent with it.
func (c *Client) TokenExchange(req *TokenRequest, subject func(context.Context) (token, tokenType string, err error)) authtrip.Refresher {
	return c.refresher("urn:ietf:params:oauth:grant-type:token-exchange", req, func(ctx context.Context, form url.Values) error {
		token, tokenType, err := subject(ctx)
		form.Set("subject_token", token)
		form.Set("subject_token_type", tokenType)
		return err
	}, typeNone)
}

// refresher returns one that sends a token request of grantType, with what own
// and the request add to its form, and takes a token of the client's type or one of types.
func (c *Client) refresher(grantType string, req *TokenRequest, own func(context.Context, url.Values) error, types ...string) authtrip.Refresher {
	if req == nil {
		req = new(TokenRequest)
	}
	return refresher{client: c, repeatable: true, refresh: func(ctx context.Context, old *oauth2.Token) (*oauth2.Token, error) {
		ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
		defer cancel()
		_, g, err := c.lazyGrant(ctx, grantType)
		if err == nil {
			g.Scopes = slices.Clone(req.Scopes)
			g.Params, err = c.params(req)
		}
		if err != nil {
			return nil, notSent(err)
		}
		g.Form = func(ctx context.Context, _ *oauth2.Token, form url.Values) error {
			if own != nil {
				if oerr := own(ctx, form); oerr != nil {
					return oerr
				}
			}
			if req.Form == nil {
				return nil
			}
			return req.Form(ctx, form)
		}
		tok, err := g.Refresh(ctx, boundTo(keyOf(old)))
		if err != nil {
			return nil, notSent(err)
		}
		if err := checkType(tok, append([]string{c.tokenType()}, types...)...); err != nil {
			return nil, notSent(err)
		}
		return tok, nil
	}}
}

// params returns the parameters of a request that never change.
func (c *Client) params(req *TokenRequest) (url.Values, error) {
	params := make(url.Values)
	if err := addDetails(params, req.AuthorizationDetails); err != nil {
		return nil, err
	}
	if err := addParams(params, req.Params, "TokenRequest.Params"); err != nil {
		return nil, err
	}
	resources := c.Resources
	if req.Resources != nil {
		resources = req.Resources
	}
	if err := checkResources(resources); err != nil {
		return nil, err
	}
	if len(resources) > 0 {
		params["resource"] = resources
	}
	return params, nil
}
