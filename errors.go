package authtrip

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/wire"
)

// Use errors.Is to decide what to do. ErrReauthRequired means that only a login helps;
// ErrNoSession, ErrLoggedOut and ErrSessionEnded say why, and each of them is
// ErrReauthRequired too. Any other error is transient, or a mistake in the
// configuration that names the field.
var (
	// ErrReauthRequired means that the user has to log in: a refresh cannot help.
	// [Source.SetToken] takes the result of the login.
	ErrReauthRequired = errors.New("authtrip: log in again")
	// ErrNoSession means that nobody has logged in under this key.
	ErrNoSession error = &reauthError{"authtrip: nobody has logged in: log in"}
	// ErrLoggedOut means that the session was ended by [Source.Forget], here or in
	// another process.
	ErrLoggedOut error = &reauthError{"authtrip: the user has logged out: log in again"}
	// ErrSessionEnded means that the session is over: the server rejected the refresh
	// token, or the access token has expired and there is no refresh token.
	ErrSessionEnded error = &reauthError{"authtrip: the session has ended: log in again"}
	// ErrInDoubt means that the outcome of a refresh is unknown: the refresh token was sent
	// and no usable answer came. It is transient: the refresh token is sent again when the
	// access token is no longer usable. If [Source.GracePeriod] is negative, it is not
	// transient: the error wraps ErrReauthRequired too, and only a login helps.
	ErrInDoubt = errors.New("authtrip: outcome of the refresh is unknown")
	// ErrNotSaved means that a new token came and the Store did not take it. The token is
	// kept in memory, and is saved and used as soon as the Store works again. Repair the
	// Store before this process ends.
	ErrNotSaved = errors.New("authtrip: new token could not be saved")
	// ErrClosed means that Close was called.
	ErrClosed = errors.New("authtrip: closed")
)

// reauthError is an error that is ErrReauthRequired as well.
type reauthError struct{ text string }

func (e *reauthError) Error() string { return e.text }

// Is reports whether target is ErrReauthRequired.
func (e *reauthError) Is(target error) bool { return target == ErrReauthRequired }

// A RefreshError says why a refresh failed. Its text holds no token and no secret. Of
// what the server wrote it has only the error code.
//
// errors.As finds an *[oauth2.RetrieveError] in it too, with the error code and
// the status only.
type RefreshError struct {
	// Code is the server's error code (RFC 6749, section 5.2), "" if it sent
	// none.
	Code string
	// Description is the server's error_description. It is cut, and what looks like a token
	// or an address is removed. It may still name a user.
	Description string
	// StatusCode is that of the answer, 0 if there was none.
	StatusCode int
	// RetryAfter is the wait the server asked for, 0 if it did not.
	RetryAfter time.Duration
	// Err is the cause.
	Err error

	ambiguous bool // the request may have been processed
	noAnswer  bool // the token endpoint gave none
	unsent    bool // there was nothing to send
}

func (e *RefreshError) Error() string {
	var b strings.Builder
	b.WriteString("authtrip: refresh")
	if e.StatusCode != 0 {
		b.WriteString(": status " + strconv.Itoa(e.StatusCode))
	}
	if e.Code != "" {
		b.WriteString(" " + wire.Code(e.Code))
	}
	if e.Err != nil {
		b.WriteString(": " + strings.ReplaceAll(e.Err.Error(), "authtrip: ", ""))
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *RefreshError) Unwrap() error { return e.Err }

// As fills an *[oauth2.RetrieveError] with what is safe to print, if the server has
// answered.
func (e *RefreshError) As(target any) bool {
	t, ok := target.(**oauth2.RetrieveError)
	if !ok || e.StatusCode == 0 {
		return false // as with x/oauth2, it is for what a server has answered
	}
	*t = &oauth2.RetrieveError{
		ErrorCode: e.Code,
		Response: &http.Response{
			StatusCode: e.StatusCode,
			Status:     strings.TrimSpace(strconv.Itoa(e.StatusCode) + " " + http.StatusText(e.StatusCode)),
		},
	}
	return true
}

// explain makes a Refresher's error one of ours.
func explain(from Refresher, err error) error {
	if re, ok := errors.AsType[*RefreshError](err); ok {
		return judged(re)
	}
	if re, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return explainRetrieve(re)
	}
	if _, own := from.(*Grant); own && !isPanic(err) {
		return err // names a field
	}
	sent := !notSent(err)
	if _, ok := errors.AsType[*url.Error](err); ok {
		err = bare(err) // net/http quotes what a server wrote
	}
	return &RefreshError{Err: err, ambiguous: sent}
}

// judged is an error as a [Grant] would have made it: a Refresher of the program's own has
// only the fields that can be seen.
func judged(re *RefreshError) *RefreshError {
	if re.ambiguous || re.noAnswer || errors.Is(re, ErrReauthRequired) {
		return re
	}
	own := *re
	switch {
	case re.StatusCode == http.StatusServiceUnavailable && re.RetryAfter > 0:
	case re.StatusCode >= 500:
		own.ambiguous = re.StatusCode != http.StatusServiceUnavailable || re.Code != "temporarily_unavailable"
	case re.Code == "invalid_grant" || endsSession(re.Code, re.Description):
		own.Err = ErrSessionEnded
		if re.Err != nil {
			own.Err = fmt.Errorf("%w: %w", ErrSessionEnded, re.Err)
		}
	}
	return &own
}

// explainRetrieve keeps of x/oauth2's error what is safe to print.
func explainRetrieve(re *oauth2.RetrieveError) *RefreshError {
	e := &RefreshError{Code: wire.Code(re.ErrorCode), Description: wire.Clean(re.ErrorDescription), ambiguous: true}
	if re.Response != nil {
		e.StatusCode = re.Response.StatusCode
		e.RetryAfter = wire.RetryAfter(re.Response.Header, time.Now())
	}
	e.ambiguous = e.Code == "" && e.StatusCode < 300
	if re.Response != nil && mayBeProcessed(e.StatusCode, e.Code, re.Response.Header) {
		e.ambiguous = true
	}
	e.Err = rejection(e.StatusCode, e.Code, re.ErrorDescription, "of the TokenSource")
	return e
}

func isPanic(err error) bool {
	_, ok := errors.AsType[*flight.PanicError](err)
	return ok
}

func isAmbiguous(err error) bool {
	re, ok := errors.AsType[*RefreshError](err)
	return ok && (re.ambiguous || errors.Is(err, ErrInDoubt))
}
