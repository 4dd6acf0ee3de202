package authtrip

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/lifecycle"
	"example.com/authtrip/internal/wire"
)

// recordFormat is the version of the record's JSON document. A document of a later
// format is left as it is, and an error.
const recordFormat = 2

// record is what a session keeps in a [Store]: a JSON document of which the member
// names are those of the token response (RFC 6749, section 5.1), with times in RFC
// 3339. A record is not changed once it is made.
type record struct {
	Format int `json:"format"`
	// Number and Generation order the records of a key: logins are numbered, and
	// refreshes since a login are counted.
	Number     uint64 `json:"login_number"`
	Generation uint64 `json:"generation,omitempty"`
	// Login is a random name of the login that the tokens come from. A record with
	// another one may be of another user.
	Login string `json:"login,omitempty"`
	access
	RefreshToken text `json:"refresh_token,omitempty"`
	// RefreshExpiry is when the session ends, where the server says it.
	RefreshExpiry time.Time `json:"refresh_token_expiry,omitzero"`
	IDToken       string    `json:"id_token,omitempty"`
	// DPoPKey is the key to which the tokens are bound, as its Binder writes it (Rule 72).
	DPoPKey string `json:"dpop_key,omitempty"`
	// Original are claims of the login's ID token, which those of a refresh must not
	// contradict (OpenID Connect Core 1.0, section 12.2).
	Original *wire.IDClaims `json:"id_token_original,omitempty"`
	// Reusable is set once a refresh has left the refresh token as it was: it can be
	// used again at no loss.
	Reusable bool `json:"reusable,omitempty"`
	// Marker is there while a refresh token may be on its way to the server.
	Marker *marker `json:"refresh_marker,omitempty"`
	// Ended is there once the server has refused the refresh token.
	Ended *ended `json:"ended,omitempty"`
	// LoggedOut is set in a tombstone, which holds no tokens.
	LoggedOut bool `json:"logged_out,omitempty"`
	// Variants are the other access tokens that the refresh token has given, by
	// [Source.Variant]. In memory the members of access are the own variant's;
	// in the document they are those of "".
	Variants map[string]access `json:"variants,omitempty"`
}

// access is an access token and what belongs to it.
type access struct {
	AccessToken text      `json:"access_token,omitempty"`
	TokenType   string    `json:"token_type,omitempty"`
	Scope       string    `json:"scope,omitempty"`
	ObtainedAt  time.Time `json:"obtained_at,omitzero"`
	Expiry      time.Time `json:"expiry,omitzero"` // zero: unknown
	ExpiresIn   int64     `json:"expires_in,omitempty"`
	// Extra are the other members of the token response.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`
}

// marker says that the record's refresh token may be on its way, or was.
type marker struct {
	Owner string `json:"owner,omitempty"` // a random name of a process; "": nobody's
	Doubt bool   `json:"outcome_unknown,omitempty"`
	// Over says that nothing is on its way any more: only the doubt is left.
	Over bool `json:"over,omitempty"`
}

// binds reports whether others have to wait while it is there. It works for nil.
func (m *marker) binds() bool { return m != nil && !m.Over }

// ended is the server's no.
type ended struct {
	Code       string    `json:"error,omitempty"`
	StatusCode int       `json:"status,omitempty"`
	At         time.Time `json:"at,omitzero"`
	Cause      string    `json:"cause,omitempty"` // where it was no answer of the token endpoint
}

// text is a string that survives JSON also if it is not UTF-8.
type text string

// MarshalJSON implements [json.Marshaler].
func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal([][]byte{[]byte(t)}) // base64 in an array of one
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *text) UnmarshalJSON(b []byte) error {
	var encoded [][]byte
	if len(b) > 0 && b[0] == '[' && json.Unmarshal(b, &encoded) == nil && len(encoded) == 1 {
		*t = text(encoded[0])
		return nil
	}
	return json.Unmarshal(b, (*string)(t))
}

func decodeRecord(b []byte, variant string) (*record, error) {
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, errors.New("authtrip: record in Store is not the JSON document of a token: repair or delete it")
	}
	switch r.Format {
	case recordFormat:
	case 1:
		r.upgrade(b)
	default:
		return nil, fmt.Errorf("authtrip: record in Store has format %d, want %d: it was written by another version of authtrip", r.Format, recordFormat)
	}
	r.Number = max(r.Number, 1) // 0 would be the position of nothing at all
	r.exchange("", variantName(variant))
	return r, nil
}

// upgrade makes of a record of format 1 one of today's. It had no numbers, and said in
// another way that a refresh token may be on its way.
func (r *record) upgrade(b []byte) {
	var old struct {
		Pending *struct {
			Owner string `json:"owner"`
		} `json:"pending"`
	}
	_ = json.Unmarshal(b, &old) // it was read once
	r.Format, r.Number = recordFormat, 1
	if old.Pending != nil {
		r.Marker = &marker{Owner: "1 " + old.Pending.Owner} // that of no process of today
	}
	r.Original = claimsOf(r.IDToken)
}

func (r *record) encode(variant string) []byte {
	doc := *r
	doc.Format = recordFormat
	doc.exchange(variantName(variant), "")
	b, _ := json.Marshal(doc) // strings, times within the years of JSON, numbers: cannot fail
	return b
}

// variantName is the name of a variant in the document. JSON has no way to say one that is
// not UTF-8: two of them would be one.
func variantName(variant string) string {
	if utf8.ValidString(variant) && !strings.HasPrefix(variant, "\x00") {
		return variant
	}
	return "\x00" + base64.RawURLEncoding.EncodeToString([]byte(variant))
}

// exchange puts the access token of another variant in the place of the one that
// is there.
func (r *record) exchange(there, wanted string) {
	if there == wanted {
		return
	}
	all := maps.Clone(r.Variants)
	if all == nil {
		all = make(map[string]access, 1)
	}
	if r.AccessToken != "" {
		all[there] = r.access
	}
	r.access = all[wanted]
	delete(all, wanted)
	r.Variants = all
}

// position orders r among the records of its key. It works for nil.
func (r *record) position() lifecycle.Position {
	switch {
	case r == nil:
		return lifecycle.Position{}
	case r.LoggedOut:
		return lifecycle.LogoutOf(r.Number)
	}
	return lifecycle.Position{Login: r.Number, Generation: r.Generation}
}

// facts is r as the decision sees it.
func (r *record) facts() lifecycle.Record {
	f := lifecycle.Record{Position: r.position(), Ended: r.Ended != nil}
	if r.Marker != nil {
		f.Marking = lifecycle.Marking{There: r.Marker.binds(), Owner: r.Marker.Owner, Doubt: r.Marker.Doubt}
	}
	return f
}

// drawn returns r with the marker and the end of a draft.
func (r *record) drawn(draft lifecycle.Record, end *ended) *record {
	next := *r
	next.Marker, next.Ended = nil, nil
	if m := draft.Marking; m.There || m.Doubt {
		next.Marker = &marker{Owner: m.Owner, Doubt: m.Doubt, Over: !m.There}
	}
	if draft.Ended {
		next.Ended, next.RefreshToken = end, ""
	}
	return &next
}

// isTwin reports whether r and other, at one position, hold different tokens.
func (r *record) isTwin(other *record) bool {
	if other == nil || r.LoggedOut {
		return false
	}
	switch {
	case r.Login != other.Login:
		return true
	case r.Ended != nil || other.Ended != nil:
		return false
	}
	return r.RefreshToken != other.RefreshToken || r.AccessToken != other.AccessToken ||
		!maps.EqualFunc(r.Variants, other.Variants, func(a, b access) bool { return a.AccessToken == b.AccessToken })
}

// loggedOut is the tombstone of a login.
func loggedOut(number uint64) *record { return &record{Number: number, LoggedOut: true} }

// login is the record of a new login. number is above all that are known.
func login(tok *oauth2.Token, number uint64, now time.Time) *record {
	r := &record{Number: number, Login: rand.Text(), access: accessOf(tok, now), RefreshToken: text(tok.RefreshToken), IDToken: extra(tok, "id_token"), DPoPKey: extra(tok, DPoPKey)}
	r.RefreshExpiry = wire.SessionExpiry(tok.Extra, now)
	r.Original = claimsOf(r.IDToken)
	return r
}

// with returns the record that follows r when tok came, keeping of r what the
// response did not repeat (RFC 6749, sections 5.1 and 6). Rules 25, 26, 27.
func (r *record) with(tok *oauth2.Token, now time.Time) *record {
	next := &record{
		Number: r.Number, Generation: r.Generation + 1, Login: r.Login,
		access: accessOf(tok, now), RefreshToken: text(tok.RefreshToken),
		IDToken: extra(tok, "id_token"), Original: r.Original,
		RefreshExpiry: wire.SessionExpiry(tok.Extra, now),
		DPoPKey:       cmp.Or(extra(tok, DPoPKey), r.DPoPKey),
	}
	next.Scope, next.IDToken = cmp.Or(next.Scope, r.Scope), cmp.Or(next.IDToken, r.IDToken)
	if next.RefreshToken == "" || next.RefreshToken == r.RefreshToken {
		next.RefreshToken, next.Reusable = r.RefreshToken, r.RefreshToken != ""
		if next.RefreshExpiry.IsZero() {
			next.RefreshExpiry = r.RefreshExpiry
		}
	}
	if next.Original == nil {
		next.Original = claimsOf(next.IDToken)
	}
	if len(r.Extra) > 0 {
		all := maps.Clone(r.Extra)
		maps.Copy(all, next.Extra)
		next.Extra = all
	}
	if len(r.Variants) > 0 {
		next.Variants = maps.Clone(r.Variants)
		maps.DeleteFunc(next.Variants, func(_ string, other access) bool {
			return !other.Expiry.IsZero() && !other.Expiry.After(now)
		})
	}
	return next
}

// claimsOf are the claims of an ID token; nil if it has none that can be read.
func claimsOf(idToken string) *wire.IDClaims {
	claims, err := wire.ParseIDClaims(idToken)
	if err != nil {
		return nil
	}
	return &claims
}

func accessOf(tok *oauth2.Token, now time.Time) access {
	a := access{
		AccessToken: text(tok.AccessToken), TokenType: tok.TokenType, Scope: extra(tok, "scope"),
		ObtainedAt: now, Expiry: tok.Expiry, ExpiresIn: tok.ExpiresIn,
	}
	if y := a.Expiry.Year(); y < 0 || y > 9999 {
		a.Expiry = time.Time{} // JSON holds no such year, and the server decides anyway
	}
	for _, name := range wire.ExtraNames(tok) {
		switch name {
		case "access_token", "token_type", "refresh_token", "expires_in", "scope", "id_token", DPoPKey:
			continue
		}
		if v, err := json.Marshal(tok.Extra(name)); err == nil {
			if a.Extra == nil {
				a.Extra = make(map[string]json.RawMessage)
			}
			a.Extra[name] = v
		}
	}
	return a
}

// token returns the record as a token, with all members of the response in Extra.
func (r *record) token() *oauth2.Token {
	tok := &oauth2.Token{
		AccessToken:  string(r.AccessToken),
		TokenType:    r.TokenType,
		RefreshToken: string(r.RefreshToken),
		Expiry:       r.Expiry,
		ExpiresIn:    r.ExpiresIn,
	}
	if r.Scope == "" && r.IDToken == "" && r.DPoPKey == "" && len(r.Extra) == 0 {
		return tok
	}
	members := make(map[string]any, 3+len(r.Extra))
	for name, raw := range r.Extra {
		var v any
		_ = json.Unmarshal(raw, &v) // it was made by json.Marshal
		members[name] = v
	}
	for name, v := range map[string]string{"scope": r.Scope, "id_token": r.IDToken, "token_type": r.TokenType, DPoPKey: r.DPoPKey} {
		if v != "" {
			members[name] = v
		}
	}
	if r.ExpiresIn != 0 {
		members["expires_in"] = float64(r.ExpiresIn)
	}
	return tok.WithExtra(members)
}

func extra(tok *oauth2.Token, name string) string {
	s, _ := tok.Extra(name).(string)
	return s
}
