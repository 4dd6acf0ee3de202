package login_test

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"

	"example.com/authtrip/authtriptest"
	"example.com/authtrip/login"
)

const (
	issuer      = "https://as.example"
	redirectURL = "https://app.example/callback"
	clientID    = "app"
	clientToken = "s3cr3t with space+plus%"
)

// op is a small provider that a test bends. Its zero values are those of an
// honest one; every hook sees what would be sent and may change it.
type op struct {
	t       testing.TB
	network *authtriptest.Network
	issuer  string
	began   time.Time

	mu       sync.Mutex
	keys     []opKey // the first one signs
	codes    map[string]url.Values
	hits     map[string]int
	requests map[string]*http.Request // the last of each path, its form parsed

	metadata func(m map[string]any)
	claims   func(c map[string]any) // of an ID token
	token    func(m map[string]any) // the token response
	status   int                    // of the token response; 0 is 200
	sign     func(claims map[string]any) string
	handle   map[string]http.HandlerFunc // replaces a path
}

type opKey struct {
	id  string
	key crypto.Signer
	alg jose.SignatureAlgorithm
}

func newKey(t testing.TB, id string) opKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return opKey{id: id, key: key, alg: jose.ES256}
}

func newOP(t testing.TB) *op {
	t.Helper()
	o := &op{
		t:        t,
		network:  authtriptest.NewNetwork(t),
		issuer:   issuer,
		began:    time.Now(),
		keys:     []opKey{newKey(t, "k1")},
		codes:    map[string]url.Values{},
		hits:     map[string]int{},
		requests: map[string]*http.Request{},
		handle:   map[string]http.HandlerFunc{},
	}
	o.network.Handle(issuer, o)
	return o
}

func (o *op) provider() *login.Provider {
	return &login.Provider{Issuer: o.issuer, HTTPClient: &http.Client{Transport: o.network}}
}

func (o *op) client() *login.Client {
	return &login.Client{Provider: o.provider(), ID: clientID, Secret: clientToken, RedirectURL: redirectURL}
}

func (o *op) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hits[path]
}

// last returns the form and the header of the last request to a path.
func (o *op) last(path string) (url.Values, http.Header) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.requests[path]
	if r == nil {
		o.t.Fatalf("no request to %s", path)
	}
	return r.Form, r.Header
}

func (o *op) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	o.mu.Lock()
	o.hits[r.URL.Path]++
	o.requests[r.URL.Path] = r
	h := o.handle[r.URL.Path]
	o.mu.Unlock()
	if h != nil {
		h(w, r)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		o.serveMetadata(w)
	case "/keys":
		o.serveKeys(w)
	case "/token":
		o.serveToken(w, r)
	default:
		http.NotFound(w, r)
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (o *op) serveMetadata(w http.ResponseWriter) {
	m := map[string]any{
		"issuer":                                o.issuer,
		"authorization_endpoint":                o.issuer + "/authorize",
		"token_endpoint":                        o.issuer + "/token",
		"jwks_uri":                              o.issuer + "/keys",
		"userinfo_endpoint":                     o.issuer + "/userinfo",
		"revocation_endpoint":                   o.issuer + "/revoke",
		"introspection_endpoint":                o.issuer + "/introspect",
		"end_session_endpoint":                  o.issuer + "/logout",
		"device_authorization_endpoint":         o.issuer + "/device",
		"pushed_authorization_request_endpoint": o.issuer + "/par",
		"id_token_signing_alg_values_supported": []string{"ES256", "RS256", "none", "HS256"},
	}
	if o.metadata != nil {
		o.metadata(m)
	}
	reply(w, http.StatusOK, m)
}

func (o *op) serveKeys(w http.ResponseWriter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	replyKeys(w, o.keys)
}

func replyKeys(w http.ResponseWriter, keys []opKey) {
	set := jose.JSONWebKeySet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Algorithm: string(k.alg), Use: "sig"})
	}
	reply(w, http.StatusOK, set)
}

// signed returns a JWT of the first key.
func (o *op) signed(claims map[string]any) string { return o.signedBy(o.keys[0], claims) }

func (o *op) signedBy(k opKey, claims map[string]any) string {
	return sign(o.t, jose.SigningKey{Algorithm: k.alg, Key: jose.JSONWebKey{Key: k.key, KeyID: k.id}}, "JWT", claims)
}

func sign(t testing.TB, key jose.SigningKey, typ jose.ContentType, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType(typ))
	if err != nil {
		t.Fatal(err)
	}
	s, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// halfHash is at_hash for ES256.
func halfHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func (o *op) idToken(nonce, accessToken string) string {
	now := time.Now()
	c := map[string]any{
		"iss": o.issuer, "sub": "alice", "aud": clientID, "nonce": nonce,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "auth_time": o.began.Unix(),
		"at_hash": halfHash(accessToken), "name": "Alice",
	}
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == "" })
	if o.claims != nil {
		o.claims(c)
	}
	if o.sign != nil {
		return o.sign(c)
	}
	return o.signed(c)
}

func (o *op) serveToken(w http.ResponseWriter, r *http.Request) {
	if id, secret, ok := r.BasicAuth(); ok {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
		if id != clientID || secret != clientToken {
			reply(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
			return
		}
	}
	var asked url.Values
	if r.PostForm.Get("grant_type") == "authorization_code" {
		o.mu.Lock()
		asked = o.codes[r.PostForm.Get("code")]
		delete(o.codes, r.PostForm.Get("code"))
		o.mu.Unlock()
		if asked == nil || asked.Get("redirect_uri") != r.PostForm.Get("redirect_uri") ||
			asked.Get("code_challenge") != oauth2.S256ChallengeFromVerifier(r.PostForm.Get("code_verifier")) {
			reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
			return
		}
	}
	access := "at-" + rand.Text()
	m := map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": 300, "refresh_token": "rt-" + rand.Text(),
	}
	scope := cmp.Or(asked.Get("scope"), r.PostForm.Get("scope"))
	if slices.Contains(strings.Fields(scope), "openid") || r.PostForm.Get("grant_type") == "refresh_token" {
		m["id_token"] = o.idToken(asked.Get("nonce"), access)
	}
	if o.token != nil {
		o.token(m)
	}
	reply(w, cmp.Or(o.status, http.StatusOK), m)
}

// begin sends a user away; the values are the parameters of the request.
func begin(t testing.TB, c *login.Client, req *login.AuthRequest) (url.Values, *login.Transaction) {
	t.Helper()
	at, tx, err := c.AuthCodeURL(t.Context(), req)
	if err != nil {
		t.Fatalf("AuthCodeURL: %v", err)
	}
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query(), tx
}

// consent makes a code for a request and returns the parameters of the redirect.
func (o *op) consent(asked url.Values) url.Values {
	code := "code-" + rand.Text()
	o.mu.Lock()
	o.codes[code] = asked
	o.mu.Unlock()
	return url.Values{"code": {code}, "state": {asked.Get("state")}, "iss": {o.issuer}}
}

func callback(q url.Values) string { return redirectURL + "?" + q.Encode() }

// run is a login with everything in its place.
func (o *op) run(t testing.TB, c *login.Client, req *login.AuthRequest) (*login.Session, error) {
	t.Helper()
	asked, tx := begin(t, c, req)
	return c.Exchange(t.Context(), tx, callback(o.consent(asked)))
}
