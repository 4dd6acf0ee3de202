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

// document is a record as it is in a [Store]: a JSON document of which the member names
// are those of the token response (RFC 6749, section 5.1), with times in RFC 3339.
type document struct {
	Format int `json:"format"`
	*record
}

// record is what a session keeps in a [Store]. It is not changed once it is made, but by
// who makes it.
//
// Among many sessions most have the same terms and nothing rare, and share both: see
// [common.share]. Neither pointer is nil.
type record struct {
	// Number and Generation order the records of a key: logins are numbered, and
	// refreshes since a login are counted.
	Number     uint64 `json:"login_number"`
	Generation uint64 `json:"generation,omitempty"`
	// Login is a random name of the login that the tokens come from. A record with
	// another one may be of another user.
	Login        string `json:"login,omitempty"`
	AccessToken  text   `json:"access_token,omitempty"`
	ObtainedAt   stamp  `json:"obtained_at,omitzero"`
	Expiry       stamp  `json:"expiry,omitzero"` // zero: unknown
	RefreshToken text   `json:"refresh_token,omitempty"`
	*terms
	*rare
}

// terms is what a server says of all its tokens.
type terms struct {
	TokenType string `json:"token_type,omitempty"`
	Scope     string `json:"scope,omitempty"`
	ExpiresIn int64  `json:"expires_in,omitempty"`
	// Reusable is set once a refresh has left the refresh token as it was: it can be
	// used again at no loss.
	Reusable bool `json:"reusable,omitempty"`
}

// rare is what most records do not have.
type rare struct {
	// RefreshExpiry is when the session ends, where the server says it.
	RefreshExpiry time.Time `json:"refresh_token_expiry,omitzero"`
	IDToken       string    `json:"id_token,omitempty"`
	// DPoPKey is the key to which the tokens are bound, as its Binder writes it (Rule 72).
	DPoPKey string `json:"dpop_key,omitempty"`
	// Original are claims of the login's ID token, which those of a refresh must not
	// contradict (OpenID Connect Core 1.0, section 12.2).
	Original *wire.IDClaims `json:"id_token_original,omitempty"`
	// Extra are the other members of the token response.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`
	// Marker is there while a refresh token may be on its way to the server.
	Marker *marker `json:"refresh_marker,omitempty"`
	// Ended is there once the server has refused the refresh token.
	Ended *ended `json:"ended,omitempty"`
	// LoggedOut is set in a tombstone, which holds no tokens.
	LoggedOut bool `json:"logged_out,omitempty"`
	// Variants are the other access tokens that the refresh token has given, by
	// [Source.Variant]. In memory the access token of a record is the own variant's;
	// in the document it is that of "".
	Variants map[string]access `json:"variants,omitempty"`
}

// access is an access token of a variant and what belongs to it.
type access struct {
	AccessToken text                       `json:"access_token,omitempty"`
	TokenType   string                     `json:"token_type,omitempty"`
	Scope       string                     `json:"scope,omitempty"`
	ObtainedAt  stamp                      `json:"obtained_at,omitzero"`
	Expiry      stamp                      `json:"expiry,omitzero"`
	ExpiresIn   int64                      `json:"expires_in,omitempty"`
	Extra       map[string]json.RawMessage `json:"extra,omitempty"`
}

// newRecord returns an empty record, for the caller to fill.
func newRecord() *record { return &record{terms: new(terms), rare: new(rare)} }

// clone returns a copy of r, for the caller to change.
func (r *record) clone() *record {
	next, own, seldom := *r, *r.terms, *r.rare
	next.terms, next.rare = &own, &seldom
	return &next
}

// isBound reports whether the access token goes with proofs.
func (r *record) isBound() bool { return strings.EqualFold(r.TokenType, typeDPoP) }

func (r *record) access() access {
	return access{r.AccessToken, r.TokenType, r.Scope, r.ObtainedAt, r.Expiry, r.ExpiresIn, r.Extra}
}

func (r *record) setAccess(a access) {
	r.AccessToken, r.TokenType, r.Scope = a.AccessToken, a.TokenType, a.Scope
	r.ObtainedAt, r.Expiry, r.ExpiresIn, r.Extra = a.ObtainedAt, a.Expiry, a.ExpiresIn, a.Extra
}

// A stamp is a time in microseconds since 1970, 0 if it is not known: a third of a
// [time.Time], without the time zone of whoever wrote the record.
type stamp int64

func stampOf(t time.Time) stamp {
	switch s := stamp(t.UnixMicro()); {
	case t.IsZero():
		return 0
	case s == 0:
		return 1 // known
	default:
		return s
	}
}

func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(s))
}

// MarshalJSON implements [json.Marshaler].
func (s stamp) MarshalJSON() ([]byte, error) { return s.time().UTC().MarshalJSON() }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *stamp) UnmarshalJSON(b []byte) error {
	var t time.Time
	err := t.UnmarshalJSON(b)
	*s = stampOf(t)
	return err
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
	r := newRecord()
	doc := document{record: r}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, errors.New("authtrip: record in Store is not the JSON document of a token: repair or delete it")
	}
	switch doc.Format {
	case recordFormat:
	case 1:
		r.upgrade(b)
	default:
		return nil, fmt.Errorf("authtrip: record in Store has format %d, want %d: it was written by another version of authtrip", doc.Format, recordFormat)
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
	r.Number = 1
	if old.Pending != nil {
		r.Marker = &marker{Owner: "1 " + old.Pending.Owner} // that of no process of today
	}
	r.Original = claimsOf(r.IDToken)
}

func (r *record) encode(variant string) []byte {
	own := r.clone()
	own.exchange(variantName(variant), "")
	b, _ := json.Marshal(document{recordFormat, own}) // strings, times within the years of JSON, numbers: cannot fail
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
		all[there] = r.access()
	}
	r.setAccess(all[wanted])
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
	next := r.clone()
	next.Marker, next.Ended = nil, nil
	if m := draft.Marking; m.There || m.Doubt {
		next.Marker = &marker{Owner: m.Owner, Doubt: m.Doubt, Over: !m.There}
	}
	if draft.Ended {
		next.Ended, next.RefreshToken = end, ""
	}
	return next
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
func loggedOut(number uint64) *record {
	r := newRecord()
	r.Number, r.LoggedOut = number, true
	return r
}

// login is the record of a new login. number is above all that are known.
func login(tok *oauth2.Token, number uint64, now time.Time) *record {
	r := newRecord()
	r.setAccess(accessOf(tok, now))
	r.Number, r.Login, r.RefreshToken, r.IDToken = number, rand.Text(), text(tok.RefreshToken), extra(tok, "id_token")
	r.DPoPKey = extra(tok, DPoPKey)
	r.RefreshExpiry = wire.SessionExpiry(tok.Extra, now)
	r.Original = claimsOf(r.IDToken)
	return r
}

// with returns the record that follows r when tok came, keeping of r what the
// response did not repeat (RFC 6749, sections 5.1 and 6). Rules 25, 26, 27.
func (r *record) with(tok *oauth2.Token, now time.Time) *record {
	next := newRecord()
	next.setAccess(accessOf(tok, now))
	next.Number, next.Generation, next.Login, next.Original = r.Number, r.Generation+1, r.Login, r.Original
	next.RefreshToken, next.IDToken = text(tok.RefreshToken), extra(tok, "id_token")
	next.RefreshExpiry = wire.SessionExpiry(tok.Extra, now)
	next.DPoPKey = cmp.Or(extra(tok, DPoPKey), r.DPoPKey)
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
			return other.Expiry != 0 && !other.Expiry.time().After(now)
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
		ObtainedAt: stampOf(now), Expiry: stampOf(tok.Expiry), ExpiresIn: tok.ExpiresIn,
	}
	if y := tok.Expiry.UTC().Year(); y < 0 || y > 9999 {
		a.Expiry = 0 // JSON holds no such year, and the server decides anyway
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
		Expiry:       r.Expiry.time(),
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
