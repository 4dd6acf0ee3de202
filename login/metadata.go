package login

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"example.com/authtrip/internal/exact"
	"example.com/authtrip/internal/identity"
)

// Metadata is what a provider publishes about itself: OpenID Connect Discovery
// 1.0, section 3, and RFC 8414, section 2. A literal describes a provider that
// publishes nothing; see [Provider.Static]. A member that is not there is the
// zero value.
//
// It is shared and must not be modified.
type Metadata struct {
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	JWKSURI               string `json:"jwks_uri"`
	UserInfoEndpoint      string `json:"userinfo_endpoint"`
	// EndSessionEndpoint is of OpenID Connect RP-Initiated Logout 1.0.
	EndSessionEndpoint string `json:"end_session_endpoint"`
	// RevocationEndpoint is of RFC 7009.
	RevocationEndpoint string `json:"revocation_endpoint"`
	// IntrospectionEndpoint is of RFC 7662.
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	// RegistrationEndpoint is of RFC 7591.
	RegistrationEndpoint string `json:"registration_endpoint"`
	// ClientIDMetadataDocumentSupported says that a client_id may be the URL of a
	// [ClientDocument].
	ClientIDMetadataDocumentSupported bool `json:"client_id_metadata_document_supported"`
	// DeviceAuthorizationEndpoint is of RFC 8628.
	DeviceAuthorizationEndpoint string `json:"device_authorization_endpoint"`
	// PushedAuthorizationRequestEndpoint and RequirePushedAuthorizationRequests
	// are of RFC 9126.
	PushedAuthorizationRequestEndpoint string `json:"pushed_authorization_request_endpoint"`
	RequirePushedAuthorizationRequests bool   `json:"require_pushed_authorization_requests"`
	// RequireSignedRequestObject and RequestObjectSigningAlgs are of RFC 9101.
	RequireSignedRequestObject bool     `json:"require_signed_request_object"`
	RequestObjectSigningAlgs   []string `json:"request_object_signing_alg_values_supported"`
	// AuthorizationSigningAlgs is of JARM. If nil, it is RS256.
	AuthorizationSigningAlgs []string `json:"authorization_signing_alg_values_supported"`
	// AuthorizationResponseIssParameterSupported is of RFC 9207: a redirect without iss is an
	// error then.
	AuthorizationResponseIssParameterSupported bool `json:"authorization_response_iss_parameter_supported"`
	// TokenEndpointAuthMethods are the client authentication methods. If nil, it
	// is client_secret_basic.
	TokenEndpointAuthMethods     []string `json:"token_endpoint_auth_methods_supported"`
	TokenEndpointAuthSigningAlgs []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	// IDTokenSigningAlgs are the algorithms of ID tokens. If nil, it is RS256.
	IDTokenSigningAlgs  []string `json:"id_token_signing_alg_values_supported"`
	UserInfoSigningAlgs []string `json:"userinfo_signing_alg_values_supported"`
	// IntrospectionSigningAlgs is of RFC 9701.
	IntrospectionSigningAlgs []string `json:"introspection_signing_alg_values_supported"`
	// DPoPSigningAlgs is of RFC 9449, CertificateBoundTokens of RFC 8705.
	DPoPSigningAlgs        []string `json:"dpop_signing_alg_values_supported"`
	CertificateBoundTokens bool     `json:"tls_client_certificate_bound_access_tokens"`
	ScopesSupported        []string `json:"scopes_supported"`
	GrantTypesSupported    []string `json:"grant_types_supported"`
	ResponseModesSupported []string `json:"response_modes_supported"`
	ACRValuesSupported     []string `json:"acr_values_supported"`
	CodeChallengeMethods   []string `json:"code_challenge_methods_supported"`
	// MTLSEndpointAliases are the endpoints for clients that show a certificate
	// (RFC 8705, section 5), by the names of the members above.
	MTLSEndpointAliases map[string]string `json:"mtls_endpoint_aliases"`

	raw json.RawMessage
}

// Claims decodes all members into v, as [json.Unmarshal] does, also those without a field
// above. A literal has none.
func (m *Metadata) Claims(v any) error {
	if len(m.raw) == 0 {
		return errors.New("login: metadata was described by hand and has no further members")
	}
	if err := json.Unmarshal(m.raw, v); err != nil {
		return fmt.Errorf("login: metadata: %w", err)
	}
	return nil
}

// memberMatters names the members of metadata that decide where something is sent.
func memberMatters(name string) bool {
	return name == "issuer" || name == "resource" || name == "authorization_servers" ||
		strings.HasSuffix(name, "_endpoint") || strings.HasSuffix(name, "_uri")
}

func parseMetadata(body []byte) (*Metadata, error) {
	m := new(Metadata)
	if err := exact.Decode(body, m, memberMatters); err != nil {
		return nil, fmt.Errorf("the answer is not the JSON of metadata: %w", err)
	}
	if m.Issuer == "" && m.AuthorizationEndpoint == "" && m.TokenEndpoint == "" {
		return nil, errors.New("the answer is not the JSON of metadata: it has no issuer and no endpoint")
	}
	m.raw = exact.Only(body, memberMatters)
	return m, nil
}

// checkMetadata implements Rule 45: metadata of another issuer is not used, not even in
// part.
func (p *Provider) checkMetadata(m *Metadata) error {
	want := p.Issuer
	if p.TenantIssuer != "" {
		want = p.TenantIssuer
	}
	if m.Issuer != want {
		return refuse("metadata issuer", "is not the one that was asked for", want, m.Issuer)
	}
	return nil
}

// The names of the endpoints, for errors and for the aliases of RFC 8705.
const (
	endpointAuthorization = "authorization"
	endpointToken         = "token"
	endpointKeys          = "keys"
	endpointUserInfo      = "userinfo"
	endpointEndSession    = "end_session"
	endpointRevocation    = "revocation"
	endpointIntrospection = "introspection"
	endpointDevice        = "device_authorization"
	endpointRegistration  = "registration"
	endpointPushed        = "pushed_authorization_request"
)

// endpoint returns the URL of an endpoint; an alias for clients with a
// certificate where there is one and mtls is set.
func (m *Metadata) endpoint(name string, mtls bool) string {
	if alias := m.MTLSEndpointAliases[name+"_endpoint"]; mtls && alias != "" {
		return alias
	}
	return map[string]string{
		endpointAuthorization: m.AuthorizationEndpoint,
		endpointToken:         m.TokenEndpoint,
		endpointKeys:          m.JWKSURI,
		endpointUserInfo:      m.UserInfoEndpoint,
		endpointEndSession:    m.EndSessionEndpoint,
		endpointRevocation:    m.RevocationEndpoint,
		endpointIntrospection: m.IntrospectionEndpoint,
		endpointDevice:        m.DeviceAuthorizationEndpoint,
		endpointRegistration:  m.RegistrationEndpoint,
		endpointPushed:        m.PushedAuthorizationRequestEndpoint,
	}[name]
}

// checkURL parses the URL of an endpoint. Rule 19: plain http is for this
// machine only, and only where local is set, so that no server on the network
// can point a client at a port of its own machine.
func checkURL(what, raw string, local, insecure bool) (*url.URL, error) {
	u, err := identity.URL(raw, local, insecure)
	if err != nil {
		return nil, fmt.Errorf("login: %s %w", what, err)
	}
	return u, nil
}
