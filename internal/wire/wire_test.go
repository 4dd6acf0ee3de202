package wire_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/authtrip/internal/wire"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestTokenExpiresIn(t *testing.T) {
	for _, tt := range []struct {
		name, expiresIn string
		want            time.Duration // 0: unknown
		wantErr         bool
	}{
		{"number", `,"expires_in":3600`, time.Hour, false},
		{"float", `,"expires_in":3600.0`, time.Hour, false},
		{"fraction", `,"expires_in":1.5`, 1500 * time.Millisecond, false},
		{"exponent", `,"expires_in":3.6e3`, time.Hour, false},
		{"string", `,"expires_in":"3600"`, time.Hour, false},
		{"float in a string", `,"expires_in":"3600.0"`, time.Hour, false},
		{"missing", ``, 0, false},
		{"null", `,"expires_in":null`, 0, false},
		{"empty", `,"expires_in":""`, 0, false},
		{"zero", `,"expires_in":0`, 0, false},
		{"negative", `,"expires_in":-5`, 0, false},
		{"huge", `,"expires_in":1e300`, 100 * 365 * 24 * time.Hour, false},
		{"beyond a float", `,"expires_in":1e999`, 100 * 365 * 24 * time.Hour, false},
		{"NaN", `,"expires_in":"NaN"`, 0, true},
		{"word", `,"expires_in":"soon"`, 0, true},
		{"object", `,"expires_in":{}`, 0, true},
		{"bool", `,"expires_in":true`, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tok, err := wire.Token([]byte(`{"access_token":"a","token_type":"Bearer"`+tt.expiresIn+`}`), "application/json", now)
			if tt.wantErr {
				if err == nil || !strings.Contains(err.Error(), "expires_in") {
					t.Fatalf("error = %v, want one that names expires_in", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := time.Time{}
			if tt.want > 0 {
				want = now.Add(tt.want)
			}
			if !tok.Expiry.Equal(want) {
				t.Errorf("Expiry = %v, want %v", tok.Expiry, want)
			}
		})
	}
}

func TestTokenRefusesWhatIsNone(t *testing.T) {
	for _, tt := range []struct{ name, body, contentType, want string }{
		{"no access_token", `{"token_type":"Bearer"}`, "application/json", "no access_token"},
		{"no token_type", `{"access_token":"a"}`, "application/json", "no token_type"},
		{"access_token a number", `{"access_token":1,"token_type":"Bearer"}`, "application/json", "access_token is not a string"},
		{"HTML", `<html>sign in</html>`, "text/html; charset=utf-8", "not a JSON object (Content-Type text/html)"},
		{"array", `[]`, "application/json", "not a JSON object"},
		{"null", `null`, "", "not a JSON object (Content-Type missing)"},
		{"two values", `{"access_token":"a","token_type":"Bearer"}{}`, "application/json", "not a JSON object"},
		{"cut", `{"access_token":"a`, "application/json", "not a JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wire.Token([]byte(tt.body), tt.contentType, now)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want it to contain %q", err, tt.want)
			}
		})
	}
}

func TestReadAllHasALimit(t *testing.T) {
	if _, err := wire.ReadAll(bytes.NewReader(make([]byte, wire.MaxBody))); err != nil {
		t.Errorf("MaxBody bytes: error = %v, want none", err)
	}
	if _, err := wire.ReadAll(bytes.NewReader(make([]byte, wire.MaxBody+1))); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("MaxBody+1 bytes: error = %v, want ErrTooLarge", err)
	}
}

func TestErrorKeepsSecretsOut(t *testing.T) {
	code, description := wire.Error([]byte(`{"error":"invalid_grant","error_description":"Token abcdefghijklmnopqrstuvwxyz0123456789 of\nbob@example.com is not active"}`))
	if code != "invalid_grant" {
		t.Errorf("code = %q, want invalid_grant", code)
	}
	if want := "Token [redacted] of [redacted] is not active"; description != want {
		t.Errorf("description = %q, want %q", description, want)
	}
	if code, _ := wire.Error([]byte(`{"error":"Secret S3CR3T"}`)); code != "unprintable" {
		t.Errorf("code = %q, want unprintable", code)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"120", 2 * time.Minute},
		{"0", 0},
		{"-1", 0},
		{"99999999999999999999", 5 * time.Minute},
		{"86400", 5 * time.Minute},
		{now.Add(time.Minute).Format(http.TimeFormat), time.Minute},
		{now.Add(-time.Minute).Format(http.TimeFormat), 0},
		{now.Add(24 * time.Hour).Format(http.TimeFormat), 5 * time.Minute},
		{"soon", 0},
	} {
		if got := wire.RetryAfter(http.Header{"Retry-After": {tt.value}}, now); got != tt.want {
			t.Errorf("RetryAfter(%q) = %v, want %v", tt.value, got, tt.want)
		}
	}
}

func idToken(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
}

func TestIDClaimsContinue(t *testing.T) {
	const original = `{"iss":"https://as","sub":"u","aud":"c","auth_time":1,"nonce":"n"}`
	for _, tt := range []struct{ name, claims, want string }{
		{"same", original, ""},
		{"no nonce, no auth_time, wider aud", `{"iss":"https://as","sub":"u","aud":["d","c"]}`, ""},
		{"iss", `{"iss":"https://other","sub":"u","aud":"c"}`, "iss"},
		{"sub", `{"iss":"https://as","sub":"v","aud":"c"}`, "sub"},
		{"aud", `{"iss":"https://as","sub":"u","aud":"d"}`, "aud"},
		{"auth_time", `{"iss":"https://as","sub":"u","aud":"c","auth_time":2}`, "auth_time"},
		{"nonce", `{"iss":"https://as","sub":"u","aud":"c","nonce":"m"}`, "nonce"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old, err := wire.ParseIDClaims(idToken(original))
			if err != nil {
				t.Fatal(err)
			}
			c, err := wire.ParseIDClaims(idToken(tt.claims))
			if err != nil {
				t.Fatal(err)
			}
			err = c.Continues(old)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.HasPrefix(err.Error(), tt.want)) {
				t.Errorf("Continues() = %v, want %q", err, tt.want)
			}
		})
	}
	for _, bad := range []string{"", "a.b", "a.!.c", "a.e30", "e30.WzFd.sig"} {
		if _, err := wire.ParseIDClaims(bad); err == nil {
			t.Errorf("ParseIDClaims(%q): no error", bad)
		}
	}
}

// FuzzToken holds that a token response that is read has what a token needs,
// and that its lifetime is in bounds.
func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"s"}`))
	f.Add([]byte(`{"access_token":"a","token_type":"bearer","expires_in":"3600.5"}`))
	f.Add([]byte(`{"error":"invalid_grant","error_description":"x"}`))
	f.Add([]byte(`{"access_token":null,"token_type":[],"expires_in":1e999}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		code, description := wire.Error(body)
		if len(code) > 64 || len(description) > 3*200 || strings.ContainsAny(code+description, "\r\n") {
			t.Errorf("Error() = %q, %q: not fit for one line", code, description)
		}
		tok, err := wire.Token(body, "application/json", now)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error has more than one line: %q", err)
			}
			return
		}
		if tok.AccessToken == "" || tok.TokenType == "" {
			t.Errorf("a token without access_token or token_type was accepted")
		}
		if !tok.Expiry.IsZero() && (tok.Expiry.Before(now) || tok.Expiry.Sub(now) > 101*365*24*time.Hour) {
			t.Errorf("Expiry = %v is out of bounds", tok.Expiry)
		}
	})
}

// FuzzIDClaims holds that claims that are read continue themselves.
func FuzzIDClaims(f *testing.F) {
	f.Add(idToken(`{"iss":"https://as","sub":"u","aud":["a","b"],"auth_time":1}`))
	f.Add(idToken(`{"auth_time":{}}`))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := wire.ParseIDClaims(raw)
		if err != nil {
			return
		}
		if err := c.Continues(c); err != nil {
			t.Errorf("claims do not continue themselves: %v", err)
		}
	})
}
