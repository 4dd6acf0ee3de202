package login

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/internal/wire"
)

// A CheckError means that a check failed: a redirect does not belong to this login, an ID
// token is of another user, metadata is of another issuer. What failed is not used or
// kept.
//
// Its text names the check and holds no value. Want and Got are for operators;
// they are "" where a value is secret.
type CheckError struct {
	// Check is what was compared, such as "state", "iss", "metadata issuer",
	// "id_token aud" or "token_type".
	Check string
	// Want and Got are the two sides of the comparison. Got is cut to 200 bytes.
	Want, Got string
	// Reason says in words what is wrong.
	Reason string
	// Err is the cause, if there is one.
	Err error
}

func (e *CheckError) Error() string {
	s := "login: " + e.Check + ": " + e.Reason
	if e.Err != nil {
		s += ": " + within(e.Err)
	}
	return s
}

// Unwrap returns the cause.
func (e *CheckError) Unwrap() error { return e.Err }

// refuse makes a CheckError whose two sides are no secret.
func refuse(check, reason, want, got string) *CheckError {
	return &CheckError{Check: check, Reason: reason, Want: want, Got: cut(got)}
}

func cut(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "?")
}

// An AuthorizationError means that the server or the user denied the login. It is an error
// in the redirect (RFC 6749, section 4.1.2.1; OpenID Connect Core 1.0, section 3.1.2.6), or
// the end of a device login (RFC 8628, section 3.5).
type AuthorizationError struct {
	// Code is the server's error code, such as "access_denied" or
	// "login_required"; "unprintable" where it sent something else.
	Code string
	// Description is what the server said beside it, cut and cleaned. It came through the
	// browser, and may name a user: show it as text, or not at all.
	Description string
}

func (e *AuthorizationError) Error() string { return "login: the server denied the login: " + e.Code }

// Temporary reports whether the same login may work later.
func (e *AuthorizationError) Temporary() bool {
	return e.Code == "server_error" || e.Code == "temporarily_unavailable"
}

// An EndpointError is a request to an endpoint of the provider that failed. Its
// text holds nothing that the server wrote but its error code.
type EndpointError struct {
	// Endpoint is what was asked, such as "metadata", "keys" or "revocation".
	Endpoint string
	// Code and Description are the server's (RFC 6749, section 5.2), "" if it
	// sent none. Description is cut and cleaned, and may name a user.
	Code, Description string
	// StatusCode is that of the answer, 0 if there was none.
	StatusCode int
	// RetryAfter is the wait the server asked for, 0 if it did not.
	RetryAfter time.Duration
	// Err is the cause.
	Err error
}

func (e *EndpointError) Error() string {
	s := "login: " + e.Endpoint + " endpoint"
	if e.StatusCode != 0 {
		s += ": status " + strconv.Itoa(e.StatusCode)
	}
	if e.Code != "" {
		s += " " + wire.Code(e.Code)
	}
	if e.Err != nil {
		s += ": " + within(e.Err)
	}
	return s
}

// Unwrap returns the cause.
func (e *EndpointError) Unwrap() error { return e.Err }

// A stepError says in which step of a login something failed.
type stepError struct {
	step string
	err  error
}

func failed(step string, err error) error { return &stepError{step, err} }

func (e *stepError) Error() string { return "login: " + e.step + ": " + within(e.err) }
func (e *stepError) Unwrap() error { return e.err }

// within is the text of an error inside another one: the package is named once.
func within(err error) string {
	s := err.Error()
	for _, prefix := range []string{"authtrip: refresh: ", "authtrip: ", "login: "} {
		s = strings.ReplaceAll(s, prefix, "")
	}
	return s
}

// unsupported is the error of a request that the provider has no endpoint for.
func unsupported(endpoint string) error {
	return fmt.Errorf("login: the provider has no %s endpoint: %w", endpoint, errors.ErrUnsupported)
}

// isServerFault reports whether a request to the provider failed.
func isServerFault(err error) bool {
	if _, ok := errors.AsType[*EndpointError](err); ok {
		return true
	}
	_, ok := errors.AsType[*authtrip.RefreshError](err)
	return ok
}
