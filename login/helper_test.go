package login_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// printed is what every usual way of printing makes of v.
func printed(v ...any) string {
	var b bytes.Buffer
	text, doc := slog.New(slog.NewTextHandler(&b, nil)), slog.New(slog.NewJSONHandler(&b, nil))
	for _, v := range v {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			fmt.Fprintf(&b, verb, v)
		}
		text.Info("", "v", v)
		doc.Info("", "v", v)
	}
	return b.String()
}

func typeOf(s string) jose.ContentType { return jose.ContentType(s) }

func signingKey(k opKey) jose.SigningKey {
	return jose.SigningKey{Algorithm: k.alg, Key: jose.JSONWebKey{Key: k.key, KeyID: k.id}}
}

// wait lets time pass in a bubble of testing/synctest.
func wait(d time.Duration) { <-time.After(d) }

// sourceOf is the Source of a login.
func sourceOf(t *testing.T, c *login.Client, s *login.Session) *authtrip.Source {
	t.Helper()
	src := c.Source()
	if err := src.SetToken(t.Context(), s.Token); err != nil {
		t.Fatal(err)
	}
	return src
}
