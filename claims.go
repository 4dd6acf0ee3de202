package authtrip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// UserInfo is what a server says of a token's user (OpenID Connect Core 1.0, section
// 5.3). It is shared and must not be modified.
type UserInfo struct {
	// Issuer and Subject together name the user. Nothing else does (section 5.7).
	Issuer, Subject string
	// FetchedAt is when the server gave this answer.
	FetchedAt time.Time
	// Stale is set if the server could not be asked again, and this is its last good
	// answer.
	Stale bool

	claims []byte
}

func (u *UserInfo) age() time.Duration { return time.Since(u.FetchedAt) }

// String does not say who the user is, so that no log does.
func (u *UserInfo) String() string { return "authtrip.UserInfo" }

// LogValue implements [slog.LogValuer] as String does.
func (u *UserInfo) LogValue() slog.Value { return slog.StringValue(u.String()) }

// Claims decodes all claims into v, as [json.Unmarshal] does. That fills the fields of
// a struct from names in any case; decode into a map to have the exact names.
func (u *UserInfo) Claims(v any) error {
	if err := json.Unmarshal(u.claims, v); err != nil {
		return fmt.Errorf("authtrip: user info: %w", err)
	}
	return nil
}

// A wantedUser is the user whom an answer must be about.
type wantedUser struct {
	issuer  string
	subject string // if "", any
	claim   string // that names the subject
	numbers bool   // which may be one
}

// read returns claims as user info of the wanted user. Rule 48.
func (w wantedUser) read(claims []byte, fetched time.Time) (*UserInfo, error) {
	all, err := members(claims)
	if err != nil {
		return nil, &UserInfoError{StatusCode: http.StatusOK, Err: errors.New("the answer is not a JSON object")}
	}
	got := name(all[w.claim], w.numbers)
	if got == "" || w.subject != "" && got != w.subject {
		return nil, &SubjectError{Want: w.subject, Got: got, Claim: w.claim}
	}
	return &UserInfo{Issuer: w.issuer, Subject: got, FetchedAt: fetched, claims: claims}, nil
}

// members returns the members of a JSON object by their exact names, without those that
// are there more than once: such an object has no single reading. encoding/json would
// fill a struct's sub from "SUB" as well, and from the last of several. Rule 62.
func members(doc []byte) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(doc, &all); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(all))
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err = dec.Decode(&value); err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if seen[name] {
			delete(all, name)
		}
		seen[name] = true
	}
	return all, nil
}

// name returns what a member of an answer says of who the user is, "" if nothing: a
// string or, where numbers is set, the text of a number as it was sent.
func name(member json.RawMessage, numbers bool) string {
	var number json.Number
	if numbers && !bytes.HasPrefix(member, []byte(`"`)) && json.Unmarshal(member, &number) == nil {
		return number.String()
	}
	var text string
	if json.Unmarshal(member, &text) != nil {
		return ""
	}
	return text
}
