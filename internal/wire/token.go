package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/exact"
)

// Token reads a successful token response (RFC 6749, section 5.1): a JSON object, or a form where the
// Content-Type says so, as x/oauth2 does.
//
//   - All members are in the token's Extra, with the types that x/oauth2 gives them: numbers of JSON
//     are float64; of a form a whole number is an int64 and one with a point a float64.
//   - A missing token_type is Bearer (rule 21).
//   - expires_in may be a number or a string that holds one. Whatever else it is, the lifetime is
//     unknown (rule 23), and the rest of the answer counts.
//   - Names are matched exactly, and a member that matters must not be there twice (rule 62).
//
// An error says what cannot be read. It holds nothing of the body.
func Token(body []byte, contentType string, now time.Time) (*oauth2.Token, error) {
	m, err := read(body, contentType)
	if err != nil {
		return nil, fmt.Errorf("token response: %w", err)
	}
	tok := new(oauth2.Token)
	for name, to := range map[string]*string{
		"access_token": &tok.AccessToken, "token_type": &tok.TokenType, "refresh_token": &tok.RefreshToken,
	} {
		if *to, err = m.text(name); err != nil {
			return nil, fmt.Errorf("token response: %w", err)
		}
	}
	if tok.AccessToken == "" {
		return nil, errors.New("token response: no access_token")
	}
	if tok.TokenType == "" {
		tok.TokenType = "Bearer"
	}
	for _, name := range []string{"expires_in", "scope", "id_token"} {
		if err := m.once(name); err != nil {
			return nil, fmt.Errorf("token response: %w", err)
		}
	}
	if life := lifetime(m.values["expires_in"]); life > 0 {
		tok.Expiry = now.Add(life)
		tok.ExpiresIn = int64(life / time.Second)
	}
	return tok.WithExtra(m.values), nil
}

// SessionExpiry returns when the refresh token of a token response ends, or the user's permission
// behind it, whichever is first; the zero time if the server did not say. get is the [oauth2.Token.Extra]
// of the response. The members are those of draft-ietf-oauth-refresh-token-expiration-03, and
// those that servers had before it.
func SessionExpiry(get func(name string) any, now time.Time) time.Time {
	var end time.Time
	for _, name := range []string{
		"refresh_token_timeout",      // the draft: without a refresh until then
		"authorization_expires_in",   // the draft: whatever is done until then
		"refresh_token_expires_in",   // Google, GitHub, Microsoft Entra, and many more
		"refresh_expires_in",         // Keycloak; 0 for an offline session
		"x_refresh_token_expires_in", // Intuit
	} {
		if life := lifetime(get(name)); life > 0 && (end.IsZero() || now.Add(life).Before(end)) {
			end = now.Add(life)
		}
	}
	return end
}

// Failure reads an error response (RFC 6749, section 5.2) as [Error] does, also one in a form where
// the Content-Type says so.
func Failure(body []byte, contentType string) (code, description string) {
	m, err := read(body, contentType)
	if err != nil {
		return "", ""
	}
	code, _ = m.text("error") // two of them are none
	description, _ = m.text("error_description")
	return Code(code), Clean(description)
}

// members are those of a response, and which of those that matter were there twice.
type members struct {
	values map[string]any
	twice  map[string]bool
}

// once returns an error for a member that is there twice.
func (m members) once(name string) error {
	if m.twice[name] {
		return fmt.Errorf("%s is there twice", name)
	}
	return nil
}

// text returns a member that has to be a string; "" if it is absent.
func (m members) text(name string) (string, error) {
	if err := m.once(name); err != nil {
		return "", err
	}
	switch v := m.values[name].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	return "", fmt.Errorf("%s is not a string", name)
}

// read reads a body by its Content-Type.
func read(body []byte, contentType string) (members, error) {
	mt := mediaType(contentType)
	switch trimmed := bytes.TrimSpace(body); {
	case mt == "application/x-www-form-urlencoded",
		// Some servers call JSON plain text.
		mt == "text/plain" && !bytes.HasPrefix(trimmed, []byte("{")):
		if m, err := form(string(trimmed)); err == nil {
			return m, nil
		}
		return members{}, fmt.Errorf("not a form (Content-Type %s)", Shown(mt))
	}
	m, err := object(body)
	if err != nil {
		return members{}, fmt.Errorf("not a JSON object (Content-Type %s)", Shown(mt))
	}
	return m, nil
}

// form reads a body of application/x-www-form-urlencoded.
func form(body string) (members, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return members{}, err
	}
	m := members{make(map[string]any, len(values)), make(map[string]bool)}
	for name, all := range values {
		m.twice[name] = len(all) > 1
		m.values[name] = typed(name, all[0])
	}
	return m, nil
}

// typed gives a value of a form the type that [oauth2.Token.Extra] gives it, unless it is one of those
// that are text whatever they look like.
func typed(name, value string) any {
	switch name {
	case "access_token", "token_type", "refresh_token", "id_token", "scope", "error", "error_description":
		return value
	}
	switch s := strings.TrimSpace(value); strings.Count(s, ".") {
	case 0:
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i
		}
	case 1:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f
		}
	}
	return value
}

// object reads a body that is one JSON object. [json.Unmarshal] would take the last one of two
// members with the same name, and say nothing.
func object(body []byte) (members, error) {
	all, twice, err := exact.Members(body)
	if err != nil {
		return members{}, err
	}
	m := members{make(map[string]any, len(all)), twice}
	for name, raw := range all {
		m.values[name] = value(raw)
	}
	return m, nil
}

// value is a JSON value with its numbers as float64, and as they are written where none can hold them.
func value(raw json.RawMessage) any {
	var v any
	if json.Unmarshal(raw, &v) == nil {
		return v
	}
	var exact any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	_ = dec.Decode(&exact) // was decoded once
	return exact
}

// maxLifetime keeps a lifetime, added to any date of this century, inside the
// years that JSON can hold.
const maxLifetime = 100 * 365 * 24 * time.Hour

// lifetime reads a number of seconds; 0 for what is none.
func lifetime(v any) time.Duration {
	var seconds float64
	switch v := v.(type) {
	case float64:
		seconds = v
	case int64:
		seconds = float64(v)
	case json.Number: // too large for a float64
		seconds, _ = v.Float64()
	case string:
		n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0
		}
		seconds = n
	}
	switch {
	case math.IsNaN(seconds) || seconds <= 0:
		return 0
	case seconds >= maxLifetime.Seconds():
		return maxLifetime
	}
	return time.Duration(seconds * float64(time.Second))
}
