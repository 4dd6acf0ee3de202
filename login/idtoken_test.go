package login_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// unsigned is a JWT with alg none.
func unsigned(claims map[string]any) string {
	b, _ := json.Marshal(claims)
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(`{"alg":"none"}`)) + "." + enc.EncodeToString(b) + "."
}

// TestRule47IDToken has the negative cases of the OpenID Foundation's test plan
// for relying parties.
func TestRule47IDToken(t *testing.T) {
	t.Parallel()
	set := func(name string, v any) func(*op) {
		return func(o *op) {
			o.claims = func(c map[string]any) {
				c[name] = v
				if d, ok := v.(time.Duration); ok { // from now
					c[name] = time.Now().Add(d).Unix()
				}
			}
		}
	}
	drop := func(name string) func(*op) {
		return func(o *op) { o.claims = func(c map[string]any) { delete(c, name) } }
	}
	hour := time.Hour
	tests := []struct {
		name   string
		change func(o *op)
		check  string // "" is accepted
	}{
		{"right", func(*op) {}, ""},
		{"missing", func(o *op) { o.token = func(m map[string]any) { delete(m, "id_token") } }, "id_token"},
		{"no string", func(o *op) { o.token = func(m map[string]any) { m["id_token"] = []int{1} } }, "id_token"},
		{"no JWT", func(o *op) { o.token = func(m map[string]any) { m["id_token"] = "a.b" } }, "id_token"},
		{"rubbish", func(o *op) { o.token = func(m map[string]any) { m["id_token"] = "a.b.c" } }, "id_token"},
		{"encrypted", func(o *op) { o.token = func(m map[string]any) { m["id_token"] = "a.b.c.d.e" } }, "id_token"},
		{"too long", func(o *op) { set("x", strings.Repeat("x", 70<<10))(o) }, "id_token"},
		{"wrong iss", set("iss", "https://evil.example"), "id_token iss"},
		{"iss with a slash", set("iss", issuer+"/"), "id_token iss"},
		{"no iss", drop("iss"), "id_token iss"},
		{"no sub", drop("sub"), "id_token sub"},
		{"empty sub", set("sub", ""), "id_token sub"},
		{"sub is a number", set("sub", 7), "id_token claims"},
		{"long sub", set("sub", strings.Repeat("x", 256)), "id_token sub"},
		{"wrong aud", set("aud", "other"), "id_token aud"},
		{"no aud", drop("aud"), "id_token aud"},
		{"aud is a prefix", set("aud", clientID+"2"), "id_token aud"},
		{"aud in a list", set("aud", []string{clientID}), ""},
		{"several aud without azp", set("aud", []string{clientID, "other"}), "id_token azp"},
		{"several aud with azp", func(o *op) {
			o.claims = func(c map[string]any) { c["aud"], c["azp"] = []string{clientID, "other"}, clientID }
		}, ""},
		{"wrong azp", set("azp", "other"), "id_token azp"},
		{"right azp", set("azp", clientID), ""},
		{"expired", set("exp", -hour), "id_token exp"},
		{"expired within the skew", set("exp", -30*time.Second), ""},
		{"no exp", drop("exp"), "id_token exp"},
		{"exp is a string", set("exp", "soon"), "id_token claims"},
		{"no iat", drop("iat"), "id_token iat"},
		{"future iat", set("iat", hour), "id_token iat"},
		{"iat within the skew", set("iat", 30*time.Second), ""},
		{"future nbf", set("nbf", hour), "id_token nbf"},
		{"no nonce", drop("nonce"), "id_token nonce"},
		{"wrong nonce", set("nonce", "other"), "id_token nonce"},
		{"nonce of another login", set("nonce", strings.Repeat("A", 43)), "id_token nonce"},
		{"wrong at_hash", set("at_hash", halfHash("other")), "id_token at_hash"},
		{"no at_hash", drop("at_hash"), ""},
		{"alg none", func(o *op) { o.sign = unsigned }, "id_token alg"},
		{"alg none, upper case", func(o *op) {
			o.sign = func(c map[string]any) string {
				return strings.Replace(unsigned(c), base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)),
					base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"NONE"}`)), 1)
			}
		}, "id_token alg"},
		{"HS256 with the client's secret", func(o *op) {
			o.sign = func(c map[string]any) string {
				return sign(o.t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(clientToken + strings.Repeat(" ", 32))}, "JWT", c)
			}
		}, "id_token alg"},
		{"an algorithm that the server does not have", func(o *op) {
			key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				o.t.Fatal(err)
			}
			o.sign = func(c map[string]any) string { return o.signedBy(opKey{"k1", key, jose.ES384}, c) }
		}, "id_token alg"},
		{"bad signature", func(o *op) {
			o.sign = func(c map[string]any) string {
				s := o.signed(c)
				c["sub"] = "mallory"
				b, _ := json.Marshal(c)
				parts := strings.Split(s, ".")
				return parts[0] + "." + base64.RawURLEncoding.EncodeToString(b) + "." + parts[2]
			}
		}, "id_token signature"},
		{"no signature", func(o *op) {
			o.sign = func(c map[string]any) string { s := o.signed(c); return s[:strings.LastIndex(s, ".")+1] }
		}, "id_token signature"},
		{"key of a stranger under a known name", func(o *op) {
			stranger := newKey(o.t, "k1")
			o.sign = func(c map[string]any) string { return o.signedBy(stranger, c) }
		}, "id_token signature"},
		{"key of a stranger in the header", func(o *op) {
			stranger := newKey(o.t, "")
			o.sign = func(c map[string]any) string {
				signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: stranger.key}, &jose.SignerOptions{EmbedJWK: true})
				if err != nil {
					o.t.Fatal(err)
				}
				s, err := jwt.Signed(signer).Claims(c).Serialize()
				if err != nil {
					o.t.Fatal(err)
				}
				return s
			}
		}, "id_token signature"},
		{"unknown kid", func(o *op) {
			stranger := newKey(o.t, "k9")
			o.sign = func(c map[string]any) string { return o.signedBy(stranger, c) }
		}, "id_token signature"},
		{"no kid, one key", func(o *op) {
			o.sign = func(c map[string]any) string { return o.signedBy(opKey{"", o.keys[0].key, jose.ES256}, c) }
		}, ""},
		{"no kid, several keys", func(o *op) {
			o.keys = append(o.keys, newKey(o.t, "k2"))
			o.sign = func(c map[string]any) string { return o.signedBy(opKey{"", o.keys[1].key, jose.ES256}, c) }
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { tryIDToken(t, tt.change, tt.check) })
		})
	}
}

// tryIDToken logs in at a server that was changed.
func tryIDToken(t *testing.T, change func(o *op), check string) {
	t.Helper()
	o := newOP(t)
	change(o)
	s, err := o.run(t, o.client(), nil)
	if check == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	ce := wantCheck(t, err, check)
	if s != nil {
		t.Error("a session came with the error")
	}
	for _, secret := range []string{"mallory", "alice", "eyJ", "at-", "rt-"} {
		if strings.Contains(err.Error()+ce.Want+ce.Got, secret) {
			t.Errorf("the error names %q: %v", secret, err)
		}
	}
}

func TestIDTokenAlgs(t *testing.T) {
	t.Parallel()
	for alg, check := range map[string]string{"ES256": "", "RS256": "id_token alg", "none": "id_token alg", "HS256": "id_token alg"} {
		o := newOP(t)
		if alg == "none" {
			o.sign = unsigned
		}
		c := o.client()
		c.IDTokenAlgs = []string{alg}
		_, err := o.run(t, c, nil)
		if check == "" && err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if check != "" {
			wantCheck(t, err, check)
		}
	}
}

func TestMaxAge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		maxAge time.Duration
		sent   string
		auth   any
		check  string
	}{
		"in time":     {time.Hour, "3600", time.Now().Unix(), ""},
		"too old":     {time.Hour, "3600", time.Now().Add(-2 * time.Hour).Unix(), "id_token auth_time"},
		"missing":     {time.Hour, "3600", nil, "id_token auth_time"},
		"now":         {-1, "0", time.Now().Unix(), ""},
		"not now":     {-1, "0", time.Now().Add(-2 * time.Minute).Unix(), "id_token auth_time"},
		"no max_age":  {0, "", nil, ""},
		"nonsense":    {time.Hour, "3600", -5, "id_token auth_time"},
		"as a string": {time.Hour, "3600", "yesterday", "id_token claims"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.claims = func(c map[string]any) {
				delete(c, "auth_time")
				if tt.auth != nil {
					c["auth_time"] = tt.auth
				}
			}
			c := o.client()
			asked, tx := begin(t, c, &login.AuthRequest{MaxAge: tt.maxAge})
			if asked.Get("max_age") != tt.sent {
				t.Errorf("max_age = %q, want %q", asked.Get("max_age"), tt.sent)
			}
			_, err := c.Exchange(t.Context(), tx, callback(o.consent(asked)))
			if tt.check != "" {
				wantCheck(t, err, tt.check)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRule32RefreshedIDToken(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		change  func(o *op)
		refused bool
	}{
		{"same", func(*op) {}, false},
		{"none", func(o *op) { o.token = func(m map[string]any) { delete(m, "id_token") } }, false},
		{"no nonce", func(o *op) { o.claims = func(c map[string]any) { delete(c, "nonce") } }, false},
		{"over", func(o *op) { o.claims = func(c map[string]any) { c["exp"] = 1 } }, false},
		{"other sub", func(o *op) { o.claims = func(c map[string]any) { c["sub"] = "mallory" } }, true},
		{"other iss", func(o *op) { o.claims = func(c map[string]any) { c["iss"] = "https://evil.example" } }, true},
		{"other aud", func(o *op) { o.claims = func(c map[string]any) { c["aud"] = "other" } }, true},
		{"other auth_time", func(o *op) { o.claims = func(c map[string]any) { c["auth_time"] = 7 } }, true},
		{"other nonce", func(o *op) { o.claims = func(c map[string]any) { c["nonce"] = "other" } }, true},
		{"other sub with alg none", func(o *op) {
			o.sign = unsigned
			o.claims = func(c map[string]any) { c["sub"] = "mallory" }
		}, true},
		{"stranger's signature", func(o *op) {
			stranger := newKey(o.t, "k1")
			o.sign = func(c map[string]any) string { return o.signedBy(stranger, c) }
		}, true},
		{"other sub while keys are out of reach", func(o *op) {
			o.keys = []opKey{newKey(o.t, "k2")}
			o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
			o.claims = func(c map[string]any) { c["sub"] = "mallory" }
		}, true},
		{"same while keys are out of reach", func(o *op) {
			o.keys = []opKey{newKey(o.t, "k2")}
			o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOP(t)
				c := o.client()
				s, err := o.run(t, c, nil)
				if err != nil {
					t.Fatal(err)
				}
				tt.change(o)
				if _, err := c.RefreshToken().Refresh(t.Context(), s.Token); errors.Is(err, authtrip.ErrReauthRequired) != tt.refused {
					t.Errorf("Refresh: %v", err)
				}
				src := sourceOf(t, c, s)
				wait(20 * time.Minute)
				tok, err := src.Token()
				if tt.refused && (!errors.Is(err, authtrip.ErrReauthRequired) || tok != nil) {
					t.Errorf("error = %v, want ErrReauthRequired", err)
				}
				if !tt.refused && (err != nil || tok.AccessToken == s.Token.AccessToken) {
					t.Errorf("error = %v", err)
				}
				_ = src.Close()
			})
		})
	}
}

// A provider changes its keys, and the new one is found at once; one that it never
// publishes is looked for less and less often.
func TestPain23KeyRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		login := func() error { _, err := o.run(t, c, nil); return err }
		if err := login(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			o.keys = []opKey{newKey(t, "rotated-"+string(rune('a'+i)))}
			if err := login(); err != nil {
				t.Fatal(err)
			}
		}
		if n := o.count("/keys"); n != 4 {
			t.Fatalf("key requests = %d, want 4", n)
		}
		stranger := newKey(t, "unknown")
		o.sign = func(claims map[string]any) string { return o.signedBy(stranger, claims) }
		start := time.Now()
		wantCheck(t, login(), "id_token signature")
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("a login waited %v for its key, want 7s", took)
		}
		for range 60 {
			wantCheck(t, login(), "id_token signature")
			wait(time.Second)
		}
		if n := o.count("/keys") - 4; n < 5 || n > 8 {
			t.Errorf("key requests in two minutes of unknown keys = %d, want 5 to 8", n)
		}
	})
}

// Neither the transaction nor the code is spent while keys cannot be had.
func TestPain23KeysOutOfReachSpendNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		down := true
		o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) {
			if down {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			o.serveKeys(w)
		}
		c := o.client()
		asked, tx := begin(t, c, nil)
		q := o.consent(asked)
		_, err := c.Exchange(t.Context(), tx, callback(q))
		if ee, ok := errors.AsType[*login.EndpointError](err); !ok || ee.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("error is %T %v", err, err)
		}
		noTokenRequest(t, o)
		down = false
		wait(time.Second)
		if _, err := c.Exchange(t.Context(), tx, callback(q)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRule50UserIsIssuerAndSubject(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for _, id := range []login.IDToken{
		{Issuer: "https://a.example", Subject: "1"},
		{Issuer: "https://b.example", Subject: "1"},
		{Issuer: "https://a.example", Subject: "2"},
		{Issuer: "https://a.example1", Subject: ""},
	} {
		keys[id.Key()] = true
	}
	if len(keys) != 4 {
		t.Errorf("keys = %d, want 4", len(keys))
	}
}

// userInfo makes a source of a session at a user info endpoint that answers as
// serve says.
func userInfo(t *testing.T, o *op, serve http.HandlerFunc) (*authtrip.UserInfo, error) {
	t.Helper()
	o.handle["/userinfo"] = serve
	c := o.client()
	s, err := o.run(t, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	src := sourceOf(t, c, s)
	t.Cleanup(func() { _ = src.Close() })
	return c.UserInfoSource(src).UserInfo(t.Context())
}

func TestRule48UserInfoSubject(t *testing.T) {
	t.Parallel()
	for sub, ok := range map[string]bool{"alice": true, "mallory": false, "": false} {
		info, err := userInfo(t, newOP(t), func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, map[string]any{"sub": sub})
		})
		if ok && (err != nil || info.Subject != "alice" || info.Issuer != issuer) {
			t.Errorf("sub %q: %v", sub, err)
		}
		if _, is := errors.AsType[*authtrip.SubjectError](err); !ok && (!is || info != nil) {
			t.Errorf("sub %q: error is %v, want a SubjectError", sub, err)
		}
	}
}

func TestRule49UserInfoJWT(t *testing.T) {
	t.Parallel()
	good := func() map[string]any { return map[string]any{"sub": "alice", "iss": issuer, "aud": clientID} }
	with := func(name string, v any) func(*op) string {
		return func(o *op) string { c := good(); c[name] = v; return o.signed(c) }
	}
	for name, tt := range map[string]struct {
		jwt   func(o *op) string
		check string
	}{
		"right":          {func(o *op) string { return o.signed(good()) }, ""},
		"no iss, no aud": {func(o *op) string { return o.signed(map[string]any{"sub": "alice"}) }, ""},
		"wrong iss":      {with("iss", "https://evil.example"), "userinfo iss"},
		"wrong aud":      {with("aud", "other"), "userinfo aud"},
		"alg none":       {func(*op) string { return unsigned(good()) }, "userinfo alg"},
		"stranger":       {func(o *op) string { return o.signedBy(newKey(o.t, "k1"), good()) }, "userinfo signature"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			_, err := userInfo(t, o, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/jwt")
				_, _ = w.Write([]byte(tt.jwt(o)))
			})
			if tt.check != "" {
				wantCheck(t, err, tt.check)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	asked, tx := begin(t, c, nil)
	s, err := c.Exchange(t.Context(), tx, callback(o.consent(asked)))
	if err != nil {
		t.Fatal(err)
	}
	text := printed(tx, s)
	for _, secret := range []string{tx.State, tx.Nonce, tx.Verifier, s.Token.AccessToken, s.Token.RefreshToken} {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is printed: %.40s", text)
		}
	}
}

func TestUserInfoSourceNeedsNoProviderToBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOP(t)
		c := o.client()
		s, err := o.run(t, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		c = o.client() // of a process that starts again
		src := sourceOf(t, c, s)
		info := c.UserInfoSource(src)
		down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		o.handle["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, map[string]any{"sub": "alice"}) }
		const metadata = "/.well-known/openid-configuration"
		o.handle[metadata] = down
		var failed *login.EndpointError
		if _, err = info.UserInfo(t.Context()); !errors.As(err, &failed) {
			t.Errorf("UserInfo() = %v, want an EndpointError", err)
		}
		delete(o.handle, metadata)
		<-time.After(time.Minute)
		if user, err := info.UserInfo(t.Context()); err != nil || user.Subject != "alice" {
			t.Errorf("UserInfo() = %v, want alice", err)
		}
	})
}
