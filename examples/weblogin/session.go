package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"example.com/authtrip"
)

// sessionLifetime is how long a login lasts here, whatever the user does.
const sessionLifetime = 12 * time.Hour

// A session is a browser in which somebody has logged in. The browser has nothing
// of it but a random ID.
type session struct {
	// key is made of the ID, which is stored nowhere. The session's record and its
	// token are kept under it.
	key     string
	service *service // where the user has logged in

	Issuer  string    `json:"iss"`
	Subject string    `json:"sub"`
	SID     string    `json:"sid,omitempty"` // the session at the provider, if it says so
	Began   time.Time `json:"began"`
	Expires time.Time `json:"expires"`
}

// tokenKey is the key of the session's tokens. It says at which provider they are
// refreshed.
func (s *session) tokenKey() string { return s.service.id + ":" + s.key }

var (
	// errNoSession means that the browser has no session, or none any more.
	errNoSession = errors.New("there is no session")
	// errUnavailable means that what keeps the sessions does not answer.
	errUnavailable = errors.New("the storage does not answer")
)

// sessions keeps the sessions.
type sessions struct {
	cache  authtrip.Cache
	secure bool // browsers come by https
}

// cookie returns a cookie that lasts for a time.
//
// With https the prefix has the browser keep it only if it is Secure and this
// host's own, so that no neighbour can plant one. Plain http cannot have that: a
// Secure cookie does not go over it, and some browsers make no exception for this
// machine. There the name is a long one, as the ports of a host share cookies.
func (s *sessions) cookie(value string, maxAge int) *http.Cookie {
	c := &http.Cookie{
		Name: "weblogin-session", Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true,
		Secure:   s.secure,
		SameSite: http.SameSiteLaxMode, // Strict would not come along when the provider sends the browser back
	}
	if s.secure {
		c.Name = "__Host-session"
	}
	return c
}

// newKey makes a session ID for the browser that gets w, and returns the key.
func newKey() (id, key string) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	id = base64.RawURLEncoding.EncodeToString(b)
	return id, keyOf(id)
}

func keyOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// user is the same for the same user, and says nothing else.
func (s *session) user() string { return keyOf(s.Issuer + " " + s.Subject)[:16] }

// begin keeps sess and gives the browser its ID.
func (s *sessions) begin(ctx context.Context, w http.ResponseWriter, id string, sess *session) error {
	doc, err := json.Marshal(sess)
	if err != nil {
		return err
	}
	if err := s.cache.Set(ctx, cacheKey(sess.key), doc, sessionLifetime); err != nil {
		return fmt.Errorf("keeping the session: %w: %w", errUnavailable, err)
	}
	http.SetCookie(w, s.cookie(id, int(sessionLifetime/time.Second)))
	return nil
}

// get returns the session of a request, or errNoSession. Any other error means
// that it cannot be said whether there is one.
func (s *sessions) get(r *http.Request) (*session, error) {
	c, err := r.Cookie(s.cookie("", 0).Name)
	if err != nil {
		return nil, errNoSession
	}
	key := keyOf(c.Value)
	doc, err := s.cache.Get(r.Context(), cacheKey(key))
	switch {
	case errors.Is(err, authtrip.ErrNotFound), errors.Is(err, authtrip.ErrSealed): // sealed with a key that is gone
		return nil, errNoSession
	case err != nil:
		return nil, fmt.Errorf("reading the session: %w: %w", errUnavailable, err)
	}
	sess := &session{key: key}
	if json.Unmarshal(doc, sess) != nil || time.Now().After(sess.Expires) {
		return nil, errNoSession
	}
	return sess, nil
}

// end removes what is kept of a session.
func (s *sessions) end(ctx context.Context, sess *session) error {
	if err := s.cache.Set(ctx, cacheKey(sess.key), nil, 0); err != nil {
		return fmt.Errorf("ending the session: %w: %w", errUnavailable, err)
	}
	return nil
}

// forget takes the ID from the browser.
func (s *sessions) forget(w http.ResponseWriter) { http.SetCookie(w, s.cookie("", -1)) }

func cacheKey(key string) string { return "session:" + key }
