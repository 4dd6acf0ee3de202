package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"example.com/authtrip/internal/exact"
)

// An Introspection is what the server says of a token (RFC 7662, section 2.2).
// It is shared and must not be modified.
type Introspection struct {
	// Active reports whether the token is valid. If it is not, nothing else is set.
	Active bool
	// Scopes, ClientID, Subject and Issuer are those of the token; zero if the server did
	// not say.
	Scopes            []string
	ClientID, Subject string
	Issuer            string

	claims []byte
}

// Format implements [fmt.Formatter]: it prints nothing that is in i.
func (i Introspection) Format(s fmt.State, _ rune) { blank(s, "login.Introspection") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in i.
func (i Introspection) LogValue() slog.Value { return slog.StringValue("login.Introspection{…}") }

// Claims decodes all members into v, as [json.Unmarshal] does.
func (i *Introspection) Claims(v any) error {
	if err := json.Unmarshal(i.claims, v); err != nil {
		return fmt.Errorf("login: introspection: %w", err)
	}
	return nil
}

const (
	mediaIntrospectionJWT = "application/token-introspection+jwt"
	typeIntrospectionJWT  = "token-introspection+jwt"
)

// Introspect asks the server about a token (RFC 7662). An answer that is a signed
// JWT is verified (RFC 9701).
//
// It blocks until the answer is there or ctx ends. Its errors are *[EndpointError],
// *[CheckError] for a JWT that fails a check, and those of [Provider.Metadata]. An error
// that wraps [errors.ErrUnsupported] means that the server cannot do it.
func (c *Client) Introspect(ctx context.Context, token string) (*Introspection, error) {
	if token == "" {
		return nil, errors.New("login: Introspect: the token is empty")
	}
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	accept := "application/json"
	if len(m.IntrospectionSigningAlgs) > 0 {
		accept = mediaIntrospectionJWT + ", application/json;q=0.9"
	}
	a, err := c.post(ctx, endpointIntrospection, url.Values{"token": {token}}, accept)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, a.fail(endpointIntrospection, errors.New("want status 200"))
	}
	switch a.mediaType {
	case "application/json":
		return readIntrospection(a)
	case mediaIntrospectionJWT, "application/jwt":
		if a.body, err = c.introspectionClaims(ctx, m, string(a.body)); err != nil {
			return nil, err
		}
		return readIntrospection(a)
	}
	return nil, a.fail(endpointIntrospection, errors.New("the answer is neither JSON nor a JWT"))
}

// introspectionClaims verifies a JWT and returns the answer in it (RFC 9701,
// section 5).
func (c *Client) introspectionClaims(ctx context.Context, m *Metadata, raw string) ([]byte, error) {
	jws, payload, err := c.verifyJWT(ctx, m, raw, "introspection", c.algorithms(m.IntrospectionSigningAlgs))
	if err != nil {
		return nil, err
	}
	// Without the type any JWT of this server would do, an ID token for one.
	typ, _ := jws.Signatures[0].Header.ExtraHeaders["typ"].(string)
	if !strings.EqualFold(strings.TrimPrefix(strings.ToLower(typ), "application/"), typeIntrospectionJWT) {
		return nil, refuse("introspection typ", "is not that of an introspection", typeIntrospectionJWT, typ)
	}
	var claims struct {
		Issuer        string          `json:"iss"`
		Audience      json.RawMessage `json:"aud"`
		Introspection json.RawMessage `json:"token_introspection"`
	}
	if exact.Decode(payload, &claims, exact.Every) != nil || claims.Issuer == "" || len(claims.Audience) == 0 {
		return nil, &CheckError{Check: "introspection", Reason: "iss or aud is missing"}
	}
	if len(claims.Introspection) == 0 {
		return nil, &CheckError{Check: "introspection", Reason: "token_introspection is missing"}
	}
	return claims.Introspection, nil
}

func readIntrospection(a *answer) (*Introspection, error) {
	var doc struct {
		Active   *bool  `json:"active"`
		Scope    string `json:"scope"`
		ClientID string `json:"client_id"`
		Subject  string `json:"sub"`
		Issuer   string `json:"iss"`
	}
	matters := func(name string) bool { return name != "scope" && name != "client_id" }
	if err := exact.Decode(a.body, &doc, matters); err != nil || doc.Active == nil {
		return nil, a.fail(endpointIntrospection, errors.New("the answer has no active"))
	}
	if !*doc.Active {
		return &Introspection{claims: []byte(`{"active":false}`)}, nil
	}
	return &Introspection{
		Active:   true,
		Scopes:   strings.Fields(doc.Scope),
		ClientID: doc.ClientID,
		Subject:  doc.Subject,
		Issuer:   doc.Issuer,
		claims:   exact.Only(a.body, matters),
	}, nil
}
