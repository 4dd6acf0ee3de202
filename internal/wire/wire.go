// Package wire reads what an authorization server sends: token responses,
// error responses, Retry-After, the claims of an ID token. Everything here
// assumes a hostile sender: every size has a limit, and no text that a server
// chose gets into an error.
package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/authtrip/internal/exact"
)

// MaxBody is the largest response of an identity endpoint that is read, in
// bytes. Real ones have a few kilobytes.
const MaxBody = 1 << 20

// maxText is the length at which text from a server is cut.
const maxText = 200

// ErrTooLarge is returned by [ReadAll].
var ErrTooLarge = fmt.Errorf("response is larger than %d bytes", MaxBody)

// ReadAll reads a response's body up to [MaxBody] bytes.
func ReadAll(body io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, MaxBody+1))
	if err == nil && len(b) > MaxBody {
		return nil, ErrTooLarge
	}
	return b, err
}

// Drain reads what is left of a body up to limit bytes and closes it, so that
// its connection can be used again.
func Drain(body io.ReadCloser, limit int64) {
	_, _ = io.CopyN(io.Discard, body, limit)
	_ = body.Close()
}

// Error reads an error response in JSON (RFC 6749, section 5.2). The code is empty
// where the body is none; the description is cut, on one line, and may name a
// user: it is not for messages.
func Error(body []byte) (code, description string) {
	return Failure(body, "application/json")
}

// Code returns an error code that a server sent if it is made of words, and
// "unprintable" otherwise: what a server puts there may be an echo of a secret.
func Code(s string) string {
	digits := 0
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == '_' || r == '-' || r == '.' }) {
		if len(word) > maxWord {
			return "unprintable"
		}
		for _, r := range word {
			switch {
			case '0' <= r && r <= '9':
				digits++
			case r < 'a' || r > 'z':
				return "unprintable"
			}
		}
	}
	if len(s) > 64 || digits > maxDigits {
		return "unprintable"
	}
	return s
}

// The longest word of an error code, and how many digits it has at most: there is
// an "insufficient_user_authentication", but a token in lower case is longer, or has more.
const (
	maxWord   = 20
	maxDigits = 3
)

// Clean makes text of a server fit for one line of output: printable ASCII, cut,
// and without anything long enough to be a token.
func Clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	for i, w := range words {
		if len(w) > 24 || strings.Contains(w, "@") {
			words[i] = "[redacted]"
		}
	}
	return strings.Join(words, " ")
}

func mediaType(contentType string) string {
	if contentType == "" {
		return "missing"
	}
	mt, _, err := mime.ParseMediaType(contentType)
	if err != nil || len(mt) > 64 {
		return "malformed"
	}
	return mt
}

// Shown returns a media type if it is a common one, for an error's text: a server
// could write anything there.
func Shown(mediaType string) string {
	switch mediaType {
	case "missing", "malformed", "text/html", "text/plain", "text/xml", "application/json", "application/xml",
		"application/jwt", "application/problem+json", "application/octet-stream", "application/x-www-form-urlencoded":
		return mediaType
	}
	return "of another kind"
}

// MediaType returns the type of a Content-Type header without its parameters,
// in lower case; "missing" or "malformed" where there is none.
func MediaType(h http.Header) string { return mediaType(h.Get("Content-Type")) }

// maxRetryAfter is the longest wait that a server can ask for.
const maxRetryAfter = 5 * time.Minute

// RetryAfter reads the Retry-After header (RFC 9110, section 10.2.3), capped at
// five minutes; 0 where there is none.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return maxRetryAfter
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}

// IDClaims are the claims of an ID token that a refresh must not change (OpenID
// Connect Core 1.0, section 12.2).
type IDClaims struct {
	Issuer   string      `json:"iss"`
	Subject  string      `json:"sub"`
	Audience Audience    `json:"aud,omitempty"`
	AuthTime json.Number `json:"auth_time,omitempty"`
	Nonce    string      `json:"nonce,omitempty"`
}

// Audience is a JSON string, or an array of them.
type Audience []string

// UnmarshalJSON implements [json.Unmarshaler].
func (a *Audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = Audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// ParseIDClaims reads the claims of an ID token without verifying it: enough to
// compare it with one that was verified, or that came from the token endpoint
// itself, and for nothing else. Members are matched by their exact names, and none may
// be there twice (rule 62).
func ParseIDClaims(idToken string) (IDClaims, error) {
	var c IDClaims
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return c, errors.New("id_token is not a signed JWT")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, errors.New("id_token is not base64url")
	}
	if err := exact.Decode(b, &c, exact.Every); err != nil {
		return IDClaims{}, errors.New("id_token holds no claims that can be read")
	}
	return c, nil
}

// Continues reports, as an error that names the claim, how a refreshed ID token
// differs from its predecessor where it must not (Rule 32).
func (c IDClaims) Continues(old IDClaims) error {
	switch {
	case c.Issuer != old.Issuer:
		return errors.New("iss of the refreshed id_token is another one")
	case c.Subject != old.Subject:
		return errors.New("sub of the refreshed id_token is another one")
	case !c.Audience.contains(old.Audience):
		return errors.New("aud of the refreshed id_token lacks the original one")
	case c.AuthTime != "" && old.AuthTime != "" && c.AuthTime != old.AuthTime:
		return errors.New("auth_time of the refreshed id_token is another one")
	case c.Nonce != "" && c.Nonce != old.Nonce:
		return errors.New("nonce of the refreshed id_token is another one")
	}
	return nil
}

func (a Audience) contains(all Audience) bool {
	have := make(map[string]bool, len(a))
	for _, s := range a {
		have[s] = true
	}
	for _, s := range all {
		if !have[s] {
			return false
		}
	}
	return true
}
