package login_test

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/authtrip/login"
)

// methods counts the client authentication methods in a request.
func methods(form url.Values, header http.Header) (n int) {
	for _, there := range []bool{header.Get("Authorization") != "", form.Has("client_secret"), form.Has("client_assertion")} {
		if there {
			n++
		}
	}
	return n
}

func TestRule17OneMethod(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("s", 40)
	for _, tt := range []struct {
		name   string
		client login.Client
		offers []string // of the metadata; nil is none
		want   string   // what carries the authentication; "" is an error
	}{
		{"nothing offered", login.Client{Secret: clientToken}, nil, "basic"},
		{"basic first", login.Client{Secret: clientToken}, []string{"client_secret_post", "client_secret_basic"}, "basic"},
		{"post", login.Client{Secret: clientToken}, []string{"client_secret_post"}, "post"},
		{"secret JWT", login.Client{Secret: long}, []string{"client_secret_jwt", "private_key_jwt"}, "jwt"},
		{"key", login.Client{Key: key, Secret: clientToken}, []string{"client_secret_basic", "private_key_jwt"}, "jwt"},
		{"public", login.Client{}, []string{"client_secret_basic"}, "none"},
		{"set by hand", login.Client{Secret: clientToken, AuthMethod: "client_secret_post"}, []string{"client_secret_basic"}, "post"},
		{"certificate", login.Client{AuthMethod: "tls_client_auth"}, nil, "none"},
		{"nothing fits", login.Client{Secret: clientToken}, []string{"private_key_jwt"}, ""},
		{"key does not fit", login.Client{Key: key}, []string{"client_secret_basic"}, ""},
		{"no secret", login.Client{AuthMethod: "client_secret_basic"}, nil, ""},
		{"no key", login.Client{AuthMethod: "private_key_jwt"}, nil, ""},
		{"unknown", login.Client{AuthMethod: "basic"}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.metadata = func(m map[string]any) {
				if tt.offers != nil {
					m["token_endpoint_auth_methods_supported"] = tt.offers
				}
			}
			c := tt.client
			c.Provider, c.ID, c.RedirectURL = o.provider(), clientID, redirectURL
			if tt.want == "" {
				if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil {
					t.Error("no error")
				}
				return
			}
			if _, err := o.run(t, &c, nil); err != nil {
				t.Fatal(err)
			}
			form, header := o.last("/token")
			got := map[bool]string{true: "none"}[methods(form, header) == 0]
			switch {
			case header.Get("Authorization") != "":
				got = "basic"
			case form.Has("client_secret"):
				got = "post"
			case form.Has("client_assertion"):
				got = "jwt"
			}
			if got != tt.want || methods(form, header) > 1 {
				t.Errorf("method = %s, want %s", got, tt.want)
			}
			if got != "basic" && form.Get("client_id") != clientID {
				t.Error("client_id is missing")
			}
		})
	}
}

// A signer that is only a crypto.Signer, as one in a device is.
type deviceKey struct{ crypto.Signer }

func TestRule53PrivateKeyJWT(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		key    crypto.Signer
		set    string
		offers []string
		want   jose.SignatureAlgorithm
	}{
		{"RSA", rsaKey, "", nil, jose.RS256},
		{"RSA where only PS256 is taken", rsaKey, "", []string{"PS256", "ES256"}, jose.PS256},
		{"RSA set by hand", rsaKey, "PS256", nil, jose.PS256},
		{"P-256", p256, "", nil, jose.ES256},
		{"P-384", p384, "", nil, jose.ES384},
		{"Ed25519", ed, "", nil, jose.EdDSA},
		{"in a device", deviceKey{p256}, "", nil, jose.ES256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.metadata = func(m map[string]any) {
				m["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"}
				if tt.offers != nil {
					m["token_endpoint_auth_signing_alg_values_supported"] = tt.offers
				}
			}
			c := &login.Client{Provider: o.provider(), ID: clientID, RedirectURL: redirectURL, Key: tt.key, KeyID: "mine", KeyAlg: tt.set}
			seen := map[string]bool{}
			for range 2 {
				if _, err := o.run(t, c, nil); err != nil {
					t.Fatal(err)
				}
				form, _ := o.last("/token")
				checkAssertion(t, form, tt.want, tt.key.Public(), seen)
			}
		})
	}
}

func checkAssertion(t *testing.T, form url.Values, alg jose.SignatureAlgorithm, key any, seen map[string]bool) {
	t.Helper()
	if form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Error("client_assertion_type is wrong")
	}
	tok, err := jwt.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{alg})
	if err != nil {
		t.Fatal(err)
	}
	var c jwt.Claims
	if err := tok.Claims(key, &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(jwt.Expected{Issuer: clientID, Subject: clientID, AnyAudience: jwt.Audience{issuer}}); err != nil {
		t.Error(err)
	}
	if typ := tok.Headers[0].ExtraHeaders["typ"]; typ != "client-authentication+jwt" || len(c.Audience) != 1 {
		t.Errorf("typ = %v, aud = %q", typ, c.Audience)
	}
	if tok.Headers[0].KeyID != "mine" && alg != jose.HS256 {
		t.Errorf("kid = %q", tok.Headers[0].KeyID)
	}
	if c.ID == "" || seen[c.ID] || c.Expiry.Time().Sub(c.IssuedAt.Time()) != time.Minute {
		t.Error("jti is missing or was there before, or the assertion lives too long")
	}
	seen[c.ID] = true
}

func TestClientSecretJWT(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	secret := strings.Repeat("s", 32)
	c := o.client()
	c.Secret, c.AuthMethod = secret, "client_secret_jwt"
	if _, err := o.run(t, c, nil); err != nil {
		t.Fatal(err)
	}
	form, _ := o.last("/token")
	checkAssertion(t, form, jose.HS256, []byte(secret), map[string]bool{})
}

func TestAssertionAudience(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := newOP(t)
	c := o.client()
	c.Key, c.AuthMethod, c.AssertionAudience = key, "private_key_jwt", issuer+"/token"
	if _, err := o.run(t, c, nil); err != nil {
		t.Fatal(err)
	}
	form, _ := o.last("/token")
	tok, err := jwt.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := tok.Claims(key.Public(), &claims); err != nil || !claims.Audience.Contains(issuer+"/token") {
		t.Errorf("aud = %q, %v", claims.Audience, err)
	}
}

func TestSecretFunc(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	calls := 0
	c.Secret, c.AuthMethod = "", "client_secret_post"
	c.SecretFunc = func(context.Context) (string, error) { calls++; return "secret-" + string(rune('0'+calls)), nil }
	for i := range 2 {
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		if form, _ := o.last("/token"); form.Get("client_secret") != "secret-"+string(rune('1'+i)) {
			t.Errorf("secret of request %d is not the current one", i)
		}
	}
	vault := errors.New("vault is sealed")
	c.SecretFunc = func(context.Context) (string, error) { return "", vault }
	if _, err := o.run(t, c, nil); !errors.Is(err, vault) {
		t.Errorf("error = %v", err)
	}
}

func TestMTLSAliases(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.network.Handle("https://mtls.example", o)
	o.metadata = func(m map[string]any) {
		m["mtls_endpoint_aliases"] = map[string]string{"token_endpoint": "https://mtls.example/token"}
	}
	var host string
	o.handle["/token"] = func(w http.ResponseWriter, r *http.Request) { host = r.Host; o.serveToken(w, r) }
	c := o.client()
	c.Secret, c.AuthMethod = "", "self_signed_tls_client_auth"
	if _, err := o.run(t, c, nil); err != nil || host != "mtls.example" {
		t.Errorf("host = %q, %v", host, err)
	}
}

func TestRule52NoPasswordGrant(t *testing.T) {
	t.Parallel()
	client := reflect.TypeFor[*login.Client]()
	for i := range client.NumMethod() {
		if name := strings.ToLower(client.Method(i).Name); strings.Contains(name, "password") {
			t.Errorf("there is a Client.%s", client.Method(i).Name)
		}
	}
}

// Rule 60: what older servers want instead is a setting, and aud is one string.
func TestRule60AssertionForOlderServers(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := o.client()
	c.Key, c.AuthMethod, c.AssertionType = p256(t), "private_key_jwt", "JWT"
	for _, aud := range []string{"", issuer + "/token"} {
		c.AssertionAudience = aud
		if _, err := o.run(t, c, nil); err != nil {
			t.Fatal(err)
		}
		form, _ := o.last("/token")
		tok, err := jwt.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			Audience string `json:"aud"` // a string, not a list
		}
		if err := tok.UnsafeClaimsWithoutVerification(&claims); err != nil || claims.Audience != cmp.Or(aud, issuer) {
			t.Errorf("aud = %q, %v", claims.Audience, err)
		}
		if tok.Headers[0].ExtraHeaders["typ"] != "JWT" {
			t.Errorf("typ = %v", tok.Headers[0].ExtraHeaders["typ"])
		}
	}
}

// Rule 61: an assertion of somebody else, in a file that is written anew every hour.
func TestRule61AssertionFromAFileThatChanges(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	file := filepath.Join(t.TempDir(), "token")
	c := o.client()
	c.Secret = ""
	c.AssertionFunc = func(context.Context) (string, error) {
		b, err := os.ReadFile(file)
		return string(b), err
	}
	r := c.ClientCredentials(nil)
	if _, err := r.Refresh(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	for _, token := range []string{"first", "second"} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Refresh(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		form, header := o.last("/token")
		if form.Get("client_assertion") != token || methods(form, header) != 1 ||
			form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
			t.Errorf("form = %v", form)
		}
	}
	c.AssertionFormat = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
	if _, err := c.ClientCredentials(nil).Refresh(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if form, _ := o.last("/token"); form.Get("client_assertion_type") != c.AssertionFormat {
		t.Errorf("client_assertion_type = %q", form.Get("client_assertion_type"))
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Refresh(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Client.AssertionFunc") {
		t.Errorf("an empty file: %v", err)
	}
}

// The salt of a PS256 signature was as long as fits into the key, and servers that hold it
// against RFC 7518, section 3.5, refused the client: oidc-provider does.
func TestSaltOfPS256IsAsLongAsItsHash(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	o := newOP(t)
	o.metadata = func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"} }
	c := o.client()
	c.Secret, c.Key, c.KeyAlg, c.SignRequests = "", key, "PS256", true
	asked, _ := begin(t, c, nil)
	if _, err = c.ClientCredentials(nil).Refresh(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	form, _ := o.last("/token")
	for name, raw := range map[string]string{"assertion": form.Get("client_assertion"), "request": asked.Get("request")} {
		at := strings.LastIndex(raw, ".")
		digest := sha256.Sum256([]byte(raw[:at]))
		signature, err := base64.RawURLEncoding.DecodeString(raw[at+1:])
		if err != nil {
			t.Fatal(err)
		}
		if err = rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
