package wire_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/wire"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestTokenExpiresIn(t *testing.T) {
	for _, tt := range []struct {
		name, expiresIn string
		want            time.Duration // 0: unknown
	}{
		{"number", `,"expires_in":3600`, time.Hour},
		{"float", `,"expires_in":3600.0`, time.Hour},
		{"fraction", `,"expires_in":1.5`, 1500 * time.Millisecond},
		{"exponent", `,"expires_in":3.6e3`, time.Hour},
		{"string", `,"expires_in":"3600"`, time.Hour},
		{"float in a string", `,"expires_in":"3600.0"`, time.Hour},
		{"missing", ``, 0},
		{"null", `,"expires_in":null`, 0},
		{"empty", `,"expires_in":""`, 0},
		{"zero", `,"expires_in":0`, 0},
		{"negative", `,"expires_in":-5`, 0},
		{"huge", `,"expires_in":1e300`, 100 * 365 * 24 * time.Hour},
		{"beyond a float", `,"expires_in":1e999`, 100 * 365 * 24 * time.Hour},
		{"NaN", `,"expires_in":"NaN"`, 0},
		// A rotated refresh token was thrown away for it.
		{"words", `,"expires_in":"1 hour"`, 0},
		{"word", `,"expires_in":"soon"`, 0},
		{"object", `,"expires_in":{}`, 0},
		{"bool", `,"expires_in":true`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tok, err := wire.Token([]byte(`{"access_token":"a","token_type":"Bearer"`+tt.expiresIn+`}`), "application/json", now)
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
		{"an array", `{"access_token":["a"]}`, "application/json", "access_token is not a string"},
		{"refresh_token a number", `{"access_token":"a","refresh_token":1}`, "application/json", "refresh_token is not a string"},
		{"in upper case", `{"ACCESS_TOKEN":"a"}`, "application/json", "no access_token"},
		{"two of them", `{"access_token":"a","access_token":"b"}`, "application/json", "access_token is there twice"},
		{"two refresh tokens", `{"access_token":"a","refresh_token":"b","refresh_token":"b"}`, "application/json", "refresh_token is there twice"},
		{"two scopes", `{"access_token":"a","scope":"b","scope":"c"}`, "application/json", "scope is there twice"},
		{"two in a form", `access_token=a&access_token=b`, "application/x-www-form-urlencoded", "access_token is there twice"},
		{"a form that is none", `access_token=a;b=%zz`, "application/x-www-form-urlencoded", "not a form"},
		{"plain text", `Service unavailable`, "text/plain", "no access_token"},
		{"a form that calls itself JSON", `access_token=a`, "application/json", "not a JSON object (Content-Type application/json)"},
		{"a type that quotes the request", `<html>`, "text/abcdefghijklmnopqrstuvwxyz", "not a JSON object (Content-Type of another kind)"},
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

func TestTokenReadsWhatServersSend(t *testing.T) {
	for _, tt := range []struct{ name, body, contentType string }{
		{"JSON", `{"access_token":"a","refresh_token":"r","expires_in":60}`, "application/json; charset=utf-8"},
		{"JSON without a type", `{"access_token":"a","refresh_token":"r","expires_in":60}`, ""},
		{"JSON as JavaScript", `{"access_token":"a","refresh_token":"r","expires_in":60}`, "text/javascript"},
		{"JSON as plain text", ` {"access_token":"a","refresh_token":"r","expires_in":60}`, "text/plain"},
		{"a form", `access_token=a&refresh_token=r&expires_in=60`, "application/x-www-form-urlencoded"},
		{"a form as plain text", "access_token=a&refresh_token=r&expires_in=60\n", "text/plain; charset=utf-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tok, err := wire.Token([]byte(tt.body), tt.contentType, now)
			if err != nil {
				t.Fatal(err)
			}
			if tok.AccessToken != "a" || tok.RefreshToken != "r" || tok.TokenType != "Bearer" || tok.ExpiresIn != 60 || !tok.Expiry.Equal(now.Add(time.Minute)) {
				t.Errorf("access token %q, refresh token %q, type %q, for %d s until %v", tok.AccessToken, tok.RefreshToken, tok.TokenType, tok.ExpiresIn, tok.Expiry)
			}
		})
	}
}

// TestExtraIsWhatOAuth2Gives holds all members, and their types, against x/oauth2 reading the same answer.
func TestExtraIsWhatOAuth2Gives(t *testing.T) {
	for contentType, body := range map[string]string{
		"application/json":                  `{"access_token":"a","token_type":"bearer","expires_in":60,"instance_url":"https://x","id":7,"big":12345678901234567890,"share":0.5,"team":{"id":1},"list":[1,"a"],"on":true,"none":null,"scope":"a b"}`,
		"application/x-www-form-urlencoded": `access_token=a&token_type=bearer&expires_in=60&instance_url=https%3A%2F%2Fx&id=7&share=0.5&on=true&empty=&scope=a+b&space=+7+`,
	} {
		t.Run(contentType, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				_, _ = io.WriteString(w, body)
			}))
			defer server.Close()
			conf := &oauth2.Config{Endpoint: oauth2.Endpoint{TokenURL: server.URL, AuthStyle: oauth2.AuthStyleInParams}}
			theirs, err := conf.Exchange(t.Context(), "code")
			if err != nil {
				t.Fatal(err)
			}
			ours, err := wire.Token([]byte(body), contentType, now)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"access_token", "expires_in", "instance_url", "id", "big", "share", "team", "list", "on", "none", "scope", "empty", "space"} {
				want, got := theirs.Extra(name), ours.Extra(name)
				if want == "" {
					want, got = nil, cmp.Or(got, any("")) // of a form x/oauth2 does not tell absent from empty
					if got == "" {
						got = nil
					}
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("Extra(%q) = %T %v, want %T %v", name, got, got, want, want)
				}
			}
		})
	}
}

func TestSessionExpiryIsTheFirstThatTheServerNames(t *testing.T) {
	for _, tt := range []struct {
		name, members string
		want          time.Duration // 0: not known
	}{
		{"nothing", ``, 0},
		{"GitHub", `,"refresh_token_expires_in":15811200`, 183 * 24 * time.Hour},
		{"Keycloak", `,"refresh_expires_in":1800`, 30 * time.Minute},
		{"Keycloak, offline", `,"refresh_expires_in":0`, 0},
		{"Intuit", `,"x_refresh_token_expires_in":8726400`, 101 * 24 * time.Hour},
		{"the draft", `,"refresh_token_timeout":604800,"authorization_expires_in":864000`, 7 * 24 * time.Hour},
		{"the draft, later", `,"refresh_token_timeout":604800,"authorization_expires_in":3600`, time.Hour},
		{"a string", `,"refresh_token_expires_in":"60"`, time.Minute},
		{"a word", `,"refresh_token_expires_in":"never"`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tok, err := wire.Token([]byte(`{"access_token":"a"`+tt.members+`}`), "application/json", now)
			if err != nil {
				t.Fatal(err)
			}
			want := time.Time{}
			if tt.want > 0 {
				want = now.Add(tt.want)
			}
			if got := wire.SessionExpiry(tok.Extra, now); !got.Equal(want) {
				t.Errorf("SessionExpiry() = %v, want %v", got, want)
			}
		})
	}
}

func TestFailureReadsAForm(t *testing.T) {
	code, description := wire.Failure([]byte("error=bad_refresh_token&error_description=incorrect+or+expired"), "application/x-www-form-urlencoded; charset=utf-8")
	if code != "bad_refresh_token" || description != "incorrect or expired" {
		t.Errorf("Failure() = %q, %q", code, description)
	}
	for _, body := range []string{`<a href="?a=b&error=invalid_grant&c=d">`, `{"error":"invalid_grant","error":"x"}`, `{"ERROR":"invalid_grant"}`} {
		if code, _ := wire.Failure([]byte(body), "text/html"); code != "" {
			t.Errorf("Failure(%s) = %q, want no code", body, code)
		}
	}
}

func TestErrorCodesAreWords(t *testing.T) {
	for _, code := range []string{"invalid_grant", "unsupported_grant_type", "insufficient_user_authentication", "temporarily_unavailable", "error-404", ""} {
		if got := wire.Code(code); got != code {
			t.Errorf("Code(%q) = %q", code, got)
		}
	}
	for _, echo := range []string{"5f2d9c81a47e4b6f", "abcdefghijklmnopqrstuvwxyz", "Invalid", "a b", "a\nb"} {
		if got := wire.Code(echo); got != "unprintable" {
			t.Errorf("Code(%q) = %q, want it hidden", echo, got)
		}
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

// Rule 62: {"sub": "alice", "SUB": "mallory"} is alice's, as encoding/json does not read it.
func TestRule62IDClaimsHaveExactNames(t *testing.T) {
	for name, claims := range map[string]string{
		"after":  `{"iss":"https://as","sub":"alice","aud":"c","SUB":"mallory","Iss":"https://evil"}`,
		"before": `{"SUB":"mallory","Iss":"https://evil","iss":"https://as","sub":"alice","aud":"c"}`,
	} {
		c, err := wire.ParseIDClaims(idToken(claims))
		if err != nil || c.Subject != "alice" || c.Issuer != "https://as" {
			t.Errorf("%s: the claims of another name are read: %v", name, err)
		}
	}
	if c, err := wire.ParseIDClaims(idToken(`{"iss":"https://as","SUB":"mallory","aud":"c"}`)); err != nil || c.Subject != "" {
		t.Errorf("SUB is taken for sub: %v", err)
	}
	if _, err := wire.ParseIDClaims(idToken(`{"iss":"https://as","sub":"alice","sub":"mallory"}`)); err == nil {
		t.Error("sub is there twice, and one of them is read")
	}
}

// FuzzToken holds that a token response that is read has what a token needs,
// and that its lifetime is in bounds.
func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"s"}`))
	f.Add([]byte(`{"access_token":"a","token_type":"bearer","expires_in":"3600.5"}`))
	f.Add([]byte(`{"error":"invalid_grant","error_description":"x"}`))
	f.Add([]byte(`{"access_token":null,"token_type":[],"expires_in":1e999}`))
	f.Add([]byte(`access_token=a&expires_in=60`))
	f.Fuzz(func(t *testing.T, body []byte) {
		contentType := "application/json"
		if len(body)%2 == 0 {
			contentType = "text/plain"
		}
		code, description := wire.Failure(body, contentType)
		if len(code) > 64 || len(description) > 3*200 || strings.ContainsAny(code+description, "\r\n") {
			t.Errorf("Error() = %q, %q: not fit for one line", code, description)
		}
		tok, err := wire.Token(body, contentType, now)
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
