package login_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/login"
)

// deviceAnswer changes what the device endpoint answers.
func deviceAnswer(o *op, change func(m map[string]any)) {
	o.handle["/device"] = func(w http.ResponseWriter, _ *http.Request) {
		m := map[string]any{
			"device_code": "dc-secret", "user_code": "ABCD-EFGH", "verification_uri": issuer + "/activate",
			"expires_in": 300, "interval": 5,
		}
		change(m)
		reply(w, http.StatusOK, m)
	}
}

// An interval of more than a minute was cut to one, and slow_down had no effect there:
// a server that counts refuses such a client.
func TestDeviceIntervalIsTheServers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		device(o, deviceError("authorization_pending"), deviceError("slow_down"), deviceError("authorization_pending"))
		deviceAnswer(o, func(m map[string]any) { m["interval"], m["expires_in"] = 90, 1800 })
		c := o.client()
		d, err := c.DeviceAuth(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := c.DeviceToken(t.Context(), d, nil); err != nil {
			t.Fatal(err)
		}
		if took, want := time.Since(start), (90+90+95+95)*time.Second; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

// Who said yes in the last seconds of the code was told that it had expired.
func TestDeviceLoginGoesOnUntilTheCodeHasExpired(t *testing.T) {
	t.Parallel()
	for name, confirmed := range map[string]bool{"confirmed": true, "not confirmed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				pending := deviceError("authorization_pending")
				device(o, pending, pending)
				if !confirmed {
					o.handle["/token"] = pending
				}
				deviceAnswer(o, func(m map[string]any) { m["interval"], m["expires_in"] = 7, 20 })
				c := o.client()
				d, err := c.DeviceAuth(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.DeviceToken(t.Context(), d, nil)
				if confirmed && err != nil {
					t.Error(err)
				}
				if ae, ok := errors.AsType[*login.AuthorizationError](err); !confirmed && (!ok || ae.Code != "expired_token" || o.count("/token") != 3) {
					t.Errorf("error = %v after %d polls", err, o.count("/token"))
				}
			})
		})
	}
}

// What a server sends for a user to read and open may hold an escape of the terminal,
// or lead anywhere.
func TestDeviceAnswerIsFitForATerminal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		member, value string
		ok            bool
	}{
		"a code":                      {"user_code", "WDJB-MJHT", true},
		"a code with a space":         {"user_code", "WDJB MJHT", true},
		"a code in another script":    {"user_code", "ÄБ12", true},
		"an escape in the code":       {"user_code", "\x1b[2JWDJB", false},
		"a line break in the code":    {"user_code", "WDJB\nhttps://evil.example", false},
		"a control of C1 in the code": {"user_code", "A\u009b2J", false},
		"a turn of the line":          {"user_code", "A\u202eB", false},
		"a very long code":            {"user_code", string(make([]byte, 300)), false},
		"an escape in the address":    {"verification_uri", issuer + "/a\u009b2J", false},
		"plain http":                  {"verification_uri", "http://as.example/activate", false},
		"complete":                    {"verification_uri_complete", issuer + "/activate?user_code=WDJB", true},
		"complete elsewhere":          {"verification_uri_complete", "https://short.example/WDJB", true},
		"complete with a script":      {"verification_uri_complete", "javascript:alert(1)", false},
		"complete with an escape":     {"verification_uri_complete", issuer + "/\u009b2J", false},
		"complete over http":          {"verification_uri_complete", "http://as.example/a", false},
		"complete with a user":        {"verification_uri_complete", "https://as.example@evil.example/", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			deviceAnswer(o, func(m map[string]any) { m[tt.member] = tt.value })
			d, err := o.client().DeviceAuth(t.Context(), nil)
			if tt.ok != (err == nil) {
				t.Fatalf("error = %v", err)
			}
			if _, is := errors.AsType[*login.EndpointError](err); !tt.ok && !is {
				t.Errorf("error is %T", err)
			}
			if tt.ok && d.VerificationURI == "" {
				t.Error("no address")
			}
		})
	}
}

// A program that ends has not redeemed anything.
func TestDeviceLoginEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		device(o, deviceError("authorization_pending"))
		c := o.client()
		d, err := c.DeviceAuth(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		if _, err := c.DeviceToken(ctx, d, nil); !errors.Is(err, context.DeadlineExceeded) || o.count("/token") != 1 {
			t.Errorf("error = %v after %d polls", err, o.count("/token"))
		}
	})
}

// An interval that does not fit a Duration became a short one: the server was asked three
// times a second.
func TestDeviceIntervalThatIsTooLongIsNotShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		device(o, deviceError("authorization_pending"))
		deviceAnswer(o, func(m map[string]any) { m["interval"], m["expires_in"] = 18446744074, 600 })
		c := o.client()
		d, err := c.DeviceAuth(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = c.DeviceToken(t.Context(), d, nil)
		if took := time.Since(start); err == nil || took < time.Minute {
			t.Errorf("error = %v after %v, want that the code has expired", err, took)
		}
	})
}
