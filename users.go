package authtrip

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"example.com/authtrip/internal/digest"
)

// Users is a program's record of its users: for each the last verified claims, and when
// they were fetched. It outlives their tokens. A user is an issuer and a subject together
// (OpenID Connect Core 1.0, section 5.7), never an email address.
//
// The zero value keeps 10,000 users in memory for thirty days. If there are more, it
// drops the oldest record. Set Cache for more users, or for more than one process.
//
// Users is safe for concurrent use, must not be copied, and its fields must not be
// modified after first use. Its methods block as Cache does.
type Users struct {
	// Cache keeps the records, under keys that do not show who the users are. If nil,
	// it is 10,000 users of memory; another number is &MemoryCache{MaxEntries: n}.
	Cache Cache
	// TTL is how long a record is kept after it was put. If 0 or less, it is thirty
	// days.
	TTL time.Duration

	memory MemoryCache
}

// Put saves what a [UserInfoSource] returned. It replaces the record of the same user. A
// UserInfoSource with the field Users does so itself. If info has no issuer, no subject
// or no claims, that is an error. A literal has no claims.
func (u *Users) Put(ctx context.Context, info *UserInfo) error {
	if err := completeUserInfo(info); err != nil {
		return err
	}
	ttl := u.TTL
	if ttl <= 0 {
		ttl = 30 * 24 * time.Hour
	}
	if err := u.cache().Set(ctx, userKey(info.Issuer, info.Subject), encodeUserInfo(info), ttl); err != nil {
		return fmt.Errorf("authtrip: Users.Cache: %w", err)
	}
	return nil
}

// Get returns the record of a user, or [ErrNotFound]. Stale is set, as no server was
// asked. FetchedAt says how old the record is.
func (u *Users) Get(ctx context.Context, issuer, subject string) (*UserInfo, error) {
	doc, err := u.cache().Get(ctx, userKey(issuer, subject))
	if errors.Is(err, ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("authtrip: Users.Cache: %w", err)
	}
	info, err := decodeUserInfo(doc)
	if err != nil {
		return nil, err
	}
	if info.Issuer != issuer || info.Subject != subject {
		return nil, errors.New("authtrip: the record in Users.Cache is another user's")
	}
	info.Stale = true
	return info, nil
}

// Delete removes the record of a user. If there is none, that is no error.
func (u *Users) Delete(ctx context.Context, issuer, subject string) error {
	if _, err := u.cache().Take(ctx, userKey(issuer, subject)); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("authtrip: Users.Cache: %w", err)
	}
	return nil
}

func (u *Users) cache() Cache {
	if u.Cache == nil {
		return &u.memory
	}
	return u.Cache
}

func userKey(issuer, subject string) string { return "user:" + digest.Of(issuer, subject) }

const userInfoFormat = 1

// userInfoDocument is how user info is kept in a [Cache].
type userInfoDocument struct {
	Format    int             `json:"format"`
	Issuer    string          `json:"iss"`
	Subject   string          `json:"sub"`
	FetchedAt time.Time       `json:"fetched_at"`
	Claims    json.RawMessage `json:"claims"`
}

func encodeUserInfo(info *UserInfo) []byte {
	doc, _ := json.Marshal(userInfoDocument{userInfoFormat, info.Issuer, info.Subject, info.FetchedAt, info.claims}) // claims were decoded once
	return doc
}

func decodeUserInfo(b []byte) (*UserInfo, error) {
	all, err := members(b)
	var doc userInfoDocument
	for name, field := range map[string]any{
		"format": &doc.Format, "iss": &doc.Issuer, "sub": &doc.Subject, "fetched_at": &doc.FetchedAt, "claims": &doc.Claims,
	} {
		err = cmp.Or(err, json.Unmarshal(all[name], field))
	}
	if err != nil || doc.Format != userInfoFormat || doc.Subject == "" || !bytes.HasPrefix(doc.Claims, []byte("{")) {
		return nil, errors.New("authtrip: user info in the Cache is not of this version of authtrip")
	}
	return &UserInfo{Issuer: doc.Issuer, Subject: doc.Subject, FetchedAt: doc.FetchedAt, claims: doc.Claims}, nil
}

// completeUserInfo returns an error that names what a record of info would lack.
func completeUserInfo(info *UserInfo) error {
	switch {
	case info == nil:
		return errors.New("authtrip: Users.Put: user info is nil")
	case info.Issuer == "":
		return errors.New("authtrip: Users.Put: user info has no Issuer: Subject alone does not name a user")
	case info.Subject == "":
		return errors.New("authtrip: Users.Put: user info has no Subject")
	case len(info.claims) == 0:
		return errors.New("authtrip: Users.Put: user info has no claims: it must come from a UserInfoSource or from Users.Get")
	}
	return nil
}
