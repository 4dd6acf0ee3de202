package login

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/authtrip/internal/exact"
	"example.com/authtrip/internal/wire"
)

// This file is the JWT Secured Authorization Response Mode (JARM): the parameters of the
// redirect are the claims of a JWT, so that no browser can change them.

// responseClaims are the claims of a signed response.
type responseClaims struct {
	Issuer      string   `json:"iss"`
	Audience    words    `json:"aud"`
	Expiry      *float64 `json:"exp"`
	State       string   `json:"state"`
	Code        string   `json:"code"`
	Error       string   `json:"error"`
	Description string   `json:"error_description"`
	AccessToken any      `json:"access_token"`
	IDToken     any      `json:"id_token"`
}

func responseClaimMatters(name string) bool { return name != "error_description" }

// responseMode is how the response is to come; "" is the query of the redirect.
func responseMode(tx *Transaction) string {
	switch {
	case tx.SignedResponse && tx.FormPost:
		return "form_post.jwt"
	case tx.SignedResponse:
		return "jwt"
	case tx.FormPost:
		return "form_post"
	}
	return ""
}

// checkMode says before anybody is sent away that the server does not sign.
func checkMode(m *Metadata, tx *Transaction) error {
	if tx.SignedResponse && m.ResponseModesSupported != nil && !slices.Contains(m.ResponseModesSupported, responseMode(tx)) {
		return errors.New("login: Client.SignedResponses: the provider's response_modes_supported has no " + responseMode(tx))
	}
	return nil
}

// peek returns what a signed response says its state is, by which its transaction is
// found. Nothing else of it is read before it is verified.
func peek(raw string) *redirect {
	r := &redirect{signed: raw}
	var claims responseClaims
	if payload, err := payloadOf(raw); err == nil && exact.Decode(payload, &claims, responseClaimMatters) == nil {
		r.state = claims.State
	}
	return r
}

// openResponse verifies a signed response (JARM, section 2.4) and returns what it says. One
// that is not of tx's state is left to be refused for that.
func (c *Client) openResponse(ctx context.Context, m *Metadata, tx *Transaction, r *redirect) (*redirect, error) {
	switch {
	case r.state == "" || !equal(r.state, tx.State):
		return r, nil
	case !tx.SignedResponse && r.signed == "":
		return r, nil
	case !tx.SignedResponse:
		return nil, malformed("is a JWT, which was not asked for")
	case r.signed == "":
		return nil, malformed("is not signed, which was asked for")
	}
	_, payload, err := c.verifyJWT(ctx, m, r.signed, "response", algorithms(m.AuthorizationSigningAlgs))
	if err != nil {
		return nil, err
	}
	claims := new(responseClaims)
	if err = exact.Decode(payload, claims, responseClaimMatters); err != nil {
		return nil, &CheckError{Check: "response claims", Reason: "cannot be read", Err: err}
	}
	wrong := func(claim, reason string) (*redirect, error) {
		return nil, &CheckError{Check: "response " + claim, Reason: reason}
	}
	switch now := time.Now(); {
	case claims.Issuer == "":
		return wrong("iss", "is missing")
	case len(claims.Audience) == 0:
		return wrong("aud", "is missing")
	case claims.Expiry == nil:
		return wrong("exp", "is missing")
	case seconds(*claims.Expiry).Before(now.Add(-c.skew())):
		return nil, refuse("response exp", "is over", "later than "+stamp(now), stamp(seconds(*claims.Expiry)))
	}
	opened := &redirect{
		state: claims.State, code: claims.Code, iss: claims.Issuer, errorCode: claims.Error,
		description: wire.Clean(claims.Description), posted: r.posted, implicit: r.implicit,
	}
	switch {
	case claims.AccessToken != nil:
		opened.implicit = "access_token"
	case claims.IDToken != nil:
		opened.implicit = "id_token"
	}
	return opened, nil
}
