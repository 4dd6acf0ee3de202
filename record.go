package authtrip

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/oauth2"
)

// recordFormat is the version of the record's JSON document. A document of a
// later format is refused, and kept.
const recordFormat = 1

// record is what a [Source] keeps in a [Store]: a JSON document of which the
// member names are those of the token response (RFC 6749, section 5.1), with
// times in RFC 3339.
type record struct {
	Format int `json:"format"`
	access
	RefreshToken string `json:"refresh_token,omitempty"`
	// Login is a random name of the login that the tokens come from. A record with
	// another one may be of another user.
	Login   string `json:"login,omitempty"`
	IDToken string `json:"id_token,omitempty"`
	// Generation counts the refreshes of a login.
	Generation uint64 `json:"generation,omitempty"`
	// Reusable is set once a refresh has left the refresh token as it was: it
	// is no one-time token, and spending it again does no harm.
	Reusable bool `json:"reusable,omitempty"`
	// Pending is there while a refresh has been sent and its answer is not
	// saved; a record that is found with it was left so by a crash.
	Pending *pending `json:"pending,omitempty"`
	// Variants are the other access tokens that the refresh token has given, by
	// [Source.Variant]. In memory the members of access are the own variant's;
	// in the document they are those of "".
	Variants map[string]access `json:"variants,omitempty"`
}

// access is an access token and what belongs to it.
type access struct {
	AccessToken string    `json:"access_token,omitempty"`
	TokenType   string    `json:"token_type,omitempty"`
	Scope       string    `json:"scope,omitempty"`
	ObtainedAt  time.Time `json:"obtained_at,omitzero"`
	Expiry      time.Time `json:"expiry,omitzero"` // zero: unknown
}

// pending says that a refresh token may have been spent.
type pending struct {
	TokenHash string    `json:"refresh_token_hash"`
	FirstSent time.Time `json:"first_sent"`
	LastSent  time.Time `json:"last_sent"`
	Attempts  int       `json:"attempts"`
	Owner     string    `json:"owner"` // a random name of the Source that sent it
}

func decodeRecord(b []byte, variant string) (*record, error) {
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, errors.New("authtrip: record in Store is not the JSON document of a token: repair or delete it")
	}
	if r.Format != recordFormat {
		return nil, fmt.Errorf("authtrip: record in Store has format %d, want %d: it was written by another version of authtrip", r.Format, recordFormat)
	}
	r.exchange("", variant)
	return r, nil
}

func (r *record) encode(variant string) []byte {
	doc := *r
	doc.Format = recordFormat
	doc.exchange(variant, "")
	b, _ := json.Marshal(doc) // strings, times, numbers: cannot fail
	return b
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
	if r.access != (access{}) {
		all[there] = r.access
	}
	r.access = all[wanted]
	delete(all, wanted)
	r.Variants = all
}

// spends reports whether a refresh spends something that cannot be had again.
func (r *record) spends() bool { return r != nil && r.RefreshToken != "" }

// with returns the record that follows r when tok came, keeping of r what the
// response did not repeat (RFC 6749, sections 5.1 and 6). Rules 25, 26, 27.
func (r *record) with(tok *oauth2.Token, now time.Time) *record {
	next := &record{
		access: access{
			AccessToken: tok.AccessToken,
			TokenType:   tok.TokenType,
			Scope:       extra(tok, "scope"),
			ObtainedAt:  now,
			Expiry:      tok.Expiry,
		},
		RefreshToken: tok.RefreshToken,
		IDToken:      extra(tok, "id_token"),
	}
	if r == nil {
		next.Login = rand.Text()
		return next
	}
	next.Login, next.Generation = r.Login, r.Generation+1
	next.Variants = r.Variants
	if next.RefreshToken == "" || next.RefreshToken == r.RefreshToken {
		next.RefreshToken = r.RefreshToken
		next.Reusable = r.RefreshToken != ""
	}
	if next.Scope == "" {
		next.Scope = r.Scope
	}
	if next.IDToken == "" {
		next.IDToken = r.IDToken
	}
	return next
}

// token returns the record as a token, its scope and ID token in Extra.
func (r *record) token() *oauth2.Token {
	tok := &oauth2.Token{
		AccessToken:  r.AccessToken,
		TokenType:    r.TokenType,
		RefreshToken: r.RefreshToken,
		Expiry:       r.Expiry,
	}
	if r.Scope == "" && r.IDToken == "" {
		return tok
	}
	members := make(map[string]any, 2)
	if r.Scope != "" {
		members["scope"] = r.Scope
	}
	if r.IDToken != "" {
		members["id_token"] = r.IDToken
	}
	return tok.WithExtra(members)
}

func extra(tok *oauth2.Token, name string) string {
	s, _ := tok.Extra(name).(string)
	return s
}
