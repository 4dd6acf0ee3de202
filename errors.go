package authtrip

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/wire"
)

// What a caller can do about an error is told apart with [errors.Is]. An error
// that is none of these is a fault that passes (a *[RefreshError]: try again
// later) or a mistake in the configuration (it names the field).
var (
	// ErrReauthRequired means that no refresh can help any more: the user has to
	// log in again, and [Source.SetToken] takes the result.
	ErrReauthRequired = errors.New("authtrip: log in again")
	// ErrInDoubt means that a refresh token was sent and no usable answer came:
	// it may have been spent. With ErrReauthRequired beside it the doubt can no
	// longer be resolved.
	ErrInDoubt = errors.New("authtrip: outcome of the refresh is unknown")
	// ErrNotSaved means that a new token came and the Store did not take it. It
	// is kept in memory, and saved and used as soon as the Store is back: repair
	// the Store before this process ends.
	ErrNotSaved = errors.New("authtrip: new token could not be saved")
	// ErrClosed means that Close was called.
	ErrClosed = errors.New("authtrip: closed")
)

// A RefreshError is a refresh that failed. Its text holds no token, no secret
// and nothing that a server wrote but its error code.
//
// errors.As finds an *[oauth2.RetrieveError] in it too, with the error code and
// the status only.
type RefreshError struct {
	// Code is the server's error code (RFC 6749, section 5.2), "" if it sent
	// none.
	Code string
	// Description is what the server said beside it, cut and cleaned of what
	// looks like a token or an address. It may still name a user.
	Description string
	// StatusCode is that of the answer, 0 if there was none.
	StatusCode int
	// RetryAfter is the wait the server asked for, 0 if it did not.
	RetryAfter time.Duration
	// Err is the cause.
	Err error

	ambiguous bool // the request may have been processed
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

// As fills an *[oauth2.RetrieveError] with what is safe to print.
func (e *RefreshError) As(target any) bool {
	t, ok := target.(**oauth2.RetrieveError)
	if !ok {
		return false
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
func (r *renewal) explain(err error) error {
	if re, ok := errors.AsType[*RefreshError](err); ok {
		return re
	}
	if re, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return explainRetrieve(re)
	}
	if _, own := r.Refresher.(*Grant); own && !isPanic(err) {
		return err // names a field
	}
	return &RefreshError{Err: err, ambiguous: true}
}

// explainRetrieve keeps of x/oauth2's error what is safe to print.
func explainRetrieve(re *oauth2.RetrieveError) *RefreshError {
	e := &RefreshError{Code: wire.Code(re.ErrorCode), Description: wire.Clean(re.ErrorDescription), ambiguous: true}
	if re.Response != nil {
		e.StatusCode = re.Response.StatusCode
		e.RetryAfter = wire.RetryAfter(re.Response.Header, time.Now())
	}
	e.ambiguous = e.StatusCode >= 500 || e.Code == "" && e.StatusCode < 300
	e.Err = refusal(e.Code, "of the TokenSource")
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
