package measure

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/oauth2"

	"example.com/authtrip/login"
)

// readMetadata reads what the server says of itself.
func (r *run) readMetadata(ctx context.Context) error {
	r.say("metadata: reading that of %s", r.report.Issuer)
	m, err := r.client.Provider.Metadata(ctx)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	r.meta = m
	var members map[string]json.RawMessage
	if m.Claims(&members) == nil {
		r.report.Metadata.Own = named(slices.Sorted(maps.Keys(members)), knownMetadata)
	}
	for _, untried := range []struct{ member, value string }{
		{"end_session_endpoint", m.EndSessionEndpoint},
		{"registration_endpoint", m.RegistrationEndpoint},
		{"device_authorization_endpoint", m.DeviceAuthorizationEndpoint},
	} {
		if untried.value != "" && (r.grantType() != "device_code" || untried.member != "device_authorization_endpoint") {
			r.report.Metadata.Untried = append(r.report.Metadata.Untried, untried.member)
		}
	}
	return nil
}

// forgive goes on with metadata that does not promise what is not kept.
func (r *run) forgive(change func(m *login.Metadata)) {
	m := *r.meta
	change(&m)
	old := r.client.Provider
	r.client.Provider = &login.Provider{
		Issuer: old.Issuer, Static: &m, TenantIssuer: old.TenantIssuer, Tenants: old.Tenants,
		AllowInsecureHTTP: old.AllowInsecureHTTP, HTTPClient: old.HTTPClient,
	}
	if m.Issuer != old.Issuer && old.TenantIssuer == "" {
		m.Issuer = old.Issuer
	}
	r.meta = &m
}

// introspect asks the server about a token, which it may allow to nobody but APIs.
func (r *run) introspect(ctx context.Context, tok *oauth2.Token) {
	if r.meta.IntrospectionEndpoint == "" || r.client.ID == "" {
		return
	}
	r.say("introspection: asking about the access token")
	i, err := r.client.Introspect(ctx, tok.AccessToken)
	switch {
	case err == nil && !i.Active:
		r.report.broken("introspection_endpoint", "says that a token that was just given is not active")
	case gone(err):
		r.report.broken("introspection_endpoint", replyOf(err))
	case err != nil:
		r.report.missing("introspection", "not for this client: "+replyOf(err))
	default:
		r.introspects = true
	}
}

// gone reports whether an endpoint is not there, or does not work.
func gone(err error) bool {
	status, _ := said(err)
	return status >= 300 && status < 400 || status == 404 || status == 405 || status >= 500
}

// The members that specifications have: OpenID Connect Discovery, Session Management, logout,
// CIBA, RFC 8414, 8628, 8705, 9101, 9126, 9207, 9396, 9449, 9701, JARM, client ID metadata.
var knownMetadata = []string{ //nolint:gochecknoglobals // never written to
	"issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "registration_endpoint",
	"scopes_supported", "response_types_supported", "response_modes_supported", "grant_types_supported",
	"acr_values_supported", "subject_types_supported", "id_token_signing_alg_values_supported",
	"id_token_encryption_alg_values_supported", "id_token_encryption_enc_values_supported",
	"userinfo_signing_alg_values_supported", "userinfo_encryption_alg_values_supported",
	"userinfo_encryption_enc_values_supported", "request_object_signing_alg_values_supported",
	"request_object_encryption_alg_values_supported", "request_object_encryption_enc_values_supported",
	"token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported",
	"display_values_supported", "claim_types_supported", "claims_supported", "service_documentation",
	"claims_locales_supported", "ui_locales_supported", "claims_parameter_supported", "request_parameter_supported",
	"request_uri_parameter_supported", "require_request_uri_registration", "op_policy_uri", "op_tos_uri",
	"check_session_iframe", "end_session_endpoint", "frontchannel_logout_supported",
	"frontchannel_logout_session_supported", "backchannel_logout_supported", "backchannel_logout_session_supported",
	"revocation_endpoint", "revocation_endpoint_auth_methods_supported",
	"revocation_endpoint_auth_signing_alg_values_supported", "introspection_endpoint",
	"introspection_endpoint_auth_methods_supported", "introspection_endpoint_auth_signing_alg_values_supported",
	"introspection_signing_alg_values_supported", "introspection_encryption_alg_values_supported",
	"introspection_encryption_enc_values_supported", "code_challenge_methods_supported", "signed_metadata",
	"device_authorization_endpoint", "tls_client_certificate_bound_access_tokens", "mtls_endpoint_aliases",
	"require_signed_request_object", "pushed_authorization_request_endpoint", "require_pushed_authorization_requests",
	"authorization_response_iss_parameter_supported", "authorization_details_types_supported",
	"dpop_signing_alg_values_supported", "authorization_signing_alg_values_supported",
	"authorization_encryption_alg_values_supported", "authorization_encryption_enc_values_supported",
	"client_id_metadata_document_supported", "prompt_values_supported", "backchannel_token_delivery_modes_supported",
	"backchannel_authentication_endpoint", "backchannel_authentication_request_signing_alg_values_supported",
	"backchannel_user_code_parameter_supported", "protected_resources",
}
