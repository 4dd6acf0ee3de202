package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/authtrip"
)

// An index lists the sessions of a user, and those of a session at the provider (sid).
// It is in the Store and not in the Cache: a Store saves only over the version that was
// read, so that of two logins at the same time none is lost. A session that is not in
// the list would outlive its end at the provider.
type index struct{ store authtrip.Store }

// indexTries is how many others may write the same list meanwhile.
const indexTries = 10

// A listed is a session in a list.
type listed struct {
	Key     string    `json:"key"`
	Issuer  string    `json:"iss"`
	Subject string    `json:"sub"`
	SID     string    `json:"sid,omitempty"`
	Began   time.Time `json:"began"`
	Expires time.Time `json:"expires"`
}

func (l *listed) session() *session {
	return &session{key: l.Key, Issuer: l.Issuer, Subject: l.Subject, SID: l.SID, Began: l.Began, Expires: l.Expires}
}

func userKey(issuer, subject string) string { return "user:" + keyOf(issuer+" "+subject) }
func sidKey(issuer, sid string) string      { return "sid:" + keyOf(issuer+" "+sid) }

// keysOf returns the lists that a session is in.
func keysOf(sess *session) []string {
	keys := []string{userKey(sess.Issuer, sess.Subject)}
	if sess.SID != "" {
		keys = append(keys, sidKey(sess.Issuer, sess.SID))
	}
	return keys
}

// add puts sess into its lists.
func (x index) add(ctx context.Context, sess *session) error {
	for _, key := range keysOf(sess) {
		err := x.change(ctx, key, func(list []listed) []listed {
			return append(list, listed{sess.key, sess.Issuer, sess.Subject, sess.SID, sess.Began, sess.Expires})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// remove takes sess out of its lists.
func (x index) remove(ctx context.Context, sess *session) error {
	for _, key := range keysOf(sess) {
		err := x.change(ctx, key, func(list []listed) []listed {
			return slices.DeleteFunc(list, func(l listed) bool { return l.Key == sess.key })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// list returns the sessions under key, the newest first.
func (x index) list(ctx context.Context, key string) ([]*session, error) {
	list, _, err := x.load(ctx, key)
	if err != nil {
		return nil, err
	}
	var all []*session
	for i := len(list) - 1; i >= 0; i-- {
		all = append(all, list[i].session())
	}
	return all, nil
}

// load returns the list under key without what has expired, and its version.
func (x index) load(ctx context.Context, key string) ([]listed, string, error) {
	doc, version, err := x.store.Load(ctx, key)
	if errors.Is(err, authtrip.ErrNotFound) || errors.Is(err, authtrip.ErrSealed) { // sealed with a key that is gone
		return nil, version, nil
	}
	var list []listed
	if err == nil {
		err = json.Unmarshal(doc, &list)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading a list of sessions: %w: %w", errUnavailable, err)
	}
	now := time.Now()
	return slices.DeleteFunc(list, func(l listed) bool { return now.After(l.Expires) }), version, nil
}

func (x index) change(ctx context.Context, key string, f func([]listed) []listed) error {
	for range indexTries {
		list, version, err := x.load(ctx, key)
		if err != nil {
			return err
		}
		switch list = f(list); {
		case len(list) > 0:
			var doc []byte
			if doc, err = json.Marshal(list); err == nil {
				_, err = x.store.Save(ctx, key, doc, version)
			}
		case version != "":
			err = x.store.Delete(ctx, key, version)
		}
		switch {
		case err == nil, errors.Is(err, authtrip.ErrNotFound):
			return nil
		case !errors.Is(err, authtrip.ErrConflict): // which is somebody else's login or logout
			return fmt.Errorf("saving a list of sessions: %w: %w", errUnavailable, err)
		}
	}
	return fmt.Errorf("saving a list of sessions: %w", errUnavailable)
}
