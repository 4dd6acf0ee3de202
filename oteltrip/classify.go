package oteltrip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"example.com/authtrip"
)

// This file turns what others chose (codes, statuses, errors) into values of fixed
// lists, so that nobody else decides how many time series there are, or what is
// read in them.

var (
	refreshOutcomes = []string{
		"obtained", "refreshed", "resent", "loaded", "failed", "outcome_unknown", "reauth_required", "not_saved",
	}
	requestOutcomes = []string{"retried", "rejected_again", "returned"}
	origins         = []string{"hit", "miss", "stale"}
)

// refreshOutcome returns what a refresh came to, "" for what is none.
func refreshOutcome(e authtrip.Event) string {
	switch e.Kind {
	case authtrip.EventTokenObtained:
		return "obtained"
	case authtrip.EventTokenRefreshed:
		if e.Requests > 1 {
			return "resent"
		}
		return "refreshed"
	case authtrip.EventTokenLoaded:
		return "loaded"
	case authtrip.EventRefreshFailed:
		return "failed"
	case authtrip.EventRefreshUnknown:
		return "outcome_unknown"
	case authtrip.EventReauthRequired:
		return "reauth_required"
	case authtrip.EventTokenNotSaved:
		return "not_saved"
	}
	return ""
}

// retryOutcome says what the second try of an API request came to.
func retryOutcome(e authtrip.Event) string {
	if e.StatusCode == http.StatusUnauthorized {
		return "rejected_again"
	}
	return "retried"
}

// oauthCodes are the error codes that a token endpoint answers: RFC 6749, sections
// 4.1.2.1 and 5.2; RFC 8628, section 3.5; RFC 8707, section 2; RFC 9449, sections 5 and
// 8; RFC 9396, section 5; OpenID Connect Core 1.0, section 3.1.2.6.
var oauthCodes = map[string]bool{
	"invalid_request": true, "invalid_client": true, "invalid_grant": true,
	"unauthorized_client": true, "unsupported_grant_type": true, "invalid_scope": true,
	"access_denied": true, "server_error": true, "temporarily_unavailable": true,
	"authorization_pending": true, "slow_down": true, "expired_token": true,
	"invalid_target": true, "invalid_dpop_proof": true, "use_dpop_nonce": true,
	"invalid_authorization_details": true,
	"interaction_required":          true, "login_required": true, "consent_required": true,
	"account_selection_required": true,
}

func errorType(e authtrip.Event) attribute.KeyValue {
	return semconv.ErrorTypeKey.String(errorClass(e))
}

func errorClass(e authtrip.Event) string {
	_, subject := errors.AsType[*authtrip.SubjectError](e.Err)
	switch {
	case e.Kind == authtrip.EventReauthRequired && errors.Is(e.Err, authtrip.ErrInDoubt):
		return "outcome_unknown"
	case subject:
		return "subject"
	case oauthCodes[e.Code]:
		return e.Code
	case e.StatusCode >= 200 && e.StatusCode < 300:
		return "invalid_response"
	case http.StatusText(e.StatusCode) != "":
		return strconv.Itoa(e.StatusCode)
	}
	return transportClass(e.Err)
}

// transportClass is for what never got an answer.
func transportClass(err error) string {
	var netErr net.Error
	var op *net.OpError
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	case errors.As(err, &cert), errors.As(err, &unknown):
		return "tls"
	case errors.As(err, &op), errors.As(err, &dns), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection"
	}
	return semconv.ErrorTypeOther.Value.AsString()
}
