package dpop_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
)

// server is an authorization server with an API that verifies proofs as RFC 9449 says. It is
// written from the RFC, and shares no code with the package.
type server struct {
	*httptest.Server
	ahead   time.Duration // of its clock
	anyTime bool          // it does not look at iat

	bearer bool // it gives bearer tokens

	mu       sync.Mutex
	nonces   map[string]string // the role's current nonce
	jti      map[string]bool
	jkt      map[string]string // of access and refresh tokens
	refresh  string
	n        int
	tokens   atomic.Int32 // token requests that were processed
	asked    atomic.Int32 // use_dpop_nonce
	api      atomic.Int32 // API requests
	rejected atomic.Int32 // tokens
	every    int32        // the API's nonce changes with every so many requests
}

func newServer(t testing.TB) *server {
	s := &server{nonces: map[string]string{}, jti: map[string]bool{}, jkt: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) conf() *oauth2.Config {
	return &oauth2.Config{ClientID: "public", Endpoint: oauth2.Endpoint{TokenURL: s.URL + "/token"}}
}

func (s *server) demand(role, nonce string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nonces[role] = nonce
}

func (s *server) revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tok := range s.jkt {
		if strings.HasPrefix(tok, "at") {
			delete(s.jkt, tok)
		}
	}
}

// proof verifies the proof of a request; code is the error.
func (s *server) proof(r *http.Request, role, token string) (jkt, code string) {
	if len(r.Header["Dpop"]) != 1 {
		return "", "invalid_dpop_proof"
	}
	jws, err := jose.ParseSigned(r.Header.Get("Dpop"), []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		return "", "invalid_dpop_proof"
	}
	head := jws.Signatures[0].Protected
	if head.JSONWebKey == nil || !head.JSONWebKey.IsPublic() || head.ExtraHeaders[jose.HeaderType] != "dpop+jwt" {
		return "", "invalid_dpop_proof"
	}
	b, err := jws.Verify(head.JSONWebKey)
	var c struct {
		JTI, HTM, HTU, ATH, Nonce string
		IAT                       int64
	}
	if err != nil || json.Unmarshal(b, &c) != nil {
		return "", "invalid_dpop_proof"
	}
	hash := sha256.Sum256([]byte(token))
	ath := base64.RawURLEncoding.EncodeToString(hash[:])
	late := time.Now().Add(s.ahead).Sub(time.Unix(c.IAT, 0)).Abs() > 30*time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.JTI == "" || s.jti[c.JTI], c.HTM != r.Method, c.HTU != s.URL+r.URL.EscapedPath(),
		token != "" && c.ATH != ath, token == "" && c.ATH != "", late && !s.anyTime:
		return "", "invalid_dpop_proof"
	case s.nonces[role] != c.Nonce && s.nonces[role] != "":
		s.asked.Add(1)
		return "", "use_dpop_nonce"
	}
	s.jti[c.JTI] = true
	thumb, _ := head.JSONWebKey.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(thumb), ""
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
	role := strings.TrimPrefix(r.URL.Path, "/")
	defer func() { _, _ = io.Copy(io.Discard, r.Body) }()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "DPoP ")
	if role == "token" {
		token = ""
	} else {
		role = "api"
	}
	jkt, code := s.proof(r, role, token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if role == "api" {
		if n := s.api.Add(1); s.every > 0 && n%s.every == 0 {
			s.nonces["api"] = "changed" + strconv.Itoa(int(n))
		}
	}
	if nonce := s.nonces[role]; nonce != "" {
		w.Header().Set("DPoP-Nonce", nonce)
	}
	if role == "token" {
		s.token(w, r, jkt, code)
		return
	}
	switch {
	case code != "":
	case s.jkt[token] != jkt || token == "":
		code = "invalid_token"
		s.rejected.Add(1)
	default:
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(append([]byte("hello "), b...))
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="old", DPoP error="`+code+`", algs="ES256 EdDSA"`)
	w.WriteHeader(http.StatusUnauthorized)
}

func (s *server) token(w http.ResponseWriter, r *http.Request, jkt, code string) {
	w.Header().Set("Content-Type", "application/json")
	used := r.PostFormValue("refresh_token")
	if code == "" {
		s.tokens.Add(1)
		if r.PostFormValue("grant_type") == "refresh_token" && (used != s.refresh || s.jkt[used] != jkt) {
			code = "invalid_grant"
		}
	}
	if code != "" {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code})
		return
	}
	kind := "DPoP"
	if s.bearer {
		kind = "Bearer"
	}
	s.n++
	access := "at" + strconv.Itoa(s.n)
	s.refresh = "rt" + strconv.Itoa(s.n)
	s.jkt[access], s.jkt[s.refresh] = jkt, jkt
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": access, "refresh_token": s.refresh, "token_type": kind, "expires_in": 3600})
}

// login gives a session to a source, as a login would.
func (s *server) login(t testing.TB, src *authtrip.Source, keys *dpop.Keys) {
	t.Helper()
	g := authtrip.RefreshToken(s.conf())
	g.Type, g.DPoP = "authorization_code", keys
	tok, err := g.Refresh(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := src.SetToken(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
}

func (s *server) source(t testing.TB, keys *dpop.Keys, store authtrip.Store) *authtrip.Source {
	g := authtrip.RefreshToken(s.conf())
	g.DPoP = keys
	src := &authtrip.Source{Refresher: g, Store: store, Key: "session"}
	t.Cleanup(func() { _ = src.Close() })
	return src
}

func get(t testing.TB, src oauth2.TokenSource, at string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &authtrip.Transport{Source: src}}).Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func want200(t testing.TB, src oauth2.TokenSource, at string) {
	t.Helper()
	if status, body := get(t, src, at); status != http.StatusOK || body != "hello body" {
		t.Errorf("status = %d, %d bytes; want 200 and the body of the request", status, len(body))
	}
}

func TestRule40ProofIsThatOfTheRFC(t *testing.T) {
	for _, alg := range []string{"", dpop.EdDSA} {
		s := newServer(t)
		keys := &dpop.Keys{Alg: alg}
		src := s.source(t, keys, nil)
		src.Key = ""
		s.login(t, src, keys)
		want200(t, src, s.URL+"/a%20b/c?query=1#fragment")
		want200(t, src, s.URL+"/again")
		if n := s.api.Load(); n != 2 {
			t.Errorf("%q: API requests = %d, want 2", alg, n)
		}
	}
}

func TestSignerMakesProofsWithAKeyThatNobodySees(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ed, ec} {
		s := newServer(t)
		keys := &dpop.Keys{Signer: struct{ crypto.Signer }{key}}
		store := new(authtrip.MemoryStore)
		src := s.source(t, keys, store)
		s.login(t, src, keys)
		want200(t, src, s.URL+"/api")
		if b, _, err := store.Load(t.Context(), "session"); err != nil || strings.Contains(string(b), `\"d\"`) {
			t.Errorf("the record has a private key (%v)", err)
		}
		other := s.source(t, new(dpop.Keys), store)
		if _, err := (&http.Client{Transport: &authtrip.Transport{Source: other}}).Get(s.URL + "/api"); err == nil || !strings.Contains(err.Error(), "Keys.Signer") {
			t.Errorf("without the Signer: %v", err)
		}
	}
}

func TestRule44AnotherProcessGoesOnWithTheKeyOfTheRecord(t *testing.T) {
	s := newServer(t)
	store := &authtrip.Sealed{Store: new(authtrip.MemoryStore), Keys: [][]byte{make([]byte, 32)}}
	first := s.source(t, new(dpop.Keys), store)
	s.login(t, first, new(dpop.Keys))
	want200(t, first, s.URL+"/api")
	for range 3 { // processes
		next := s.source(t, new(dpop.Keys), store)
		s.revoke()
		want200(t, next, s.URL+"/api")
	}
	if n := s.tokens.Load(); n != 4 {
		t.Errorf("token requests = %d, want 4", n)
	}
	want200(t, first, s.URL+"/api")
}

func TestRule72EachSessionHasAKeyOfItsOwn(t *testing.T) {
	s, keys := newServer(t), new(dpop.Keys)
	seen := map[string]bool{}
	for range 3 {
		g := authtrip.RefreshToken(s.conf())
		g.Type, g.DPoP = "authorization_code", keys
		tok, err := g.Refresh(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		key, _ := tok.Extra(authtrip.DPoPKey).(string)
		seen[key] = true
	}
	if len(seen) != 3 || seen[""] {
		t.Errorf("keys = %d, want 3", len(seen))
	}
}

func TestRule43BearerTokenIsRefusedWhereDPoPWasAskedFor(t *testing.T) {
	s, keys := newServer(t), new(dpop.Keys)
	src := s.source(t, keys, nil)
	src.Key = ""
	src.GracePeriod = -1 // or the server, which rotates, is asked again, and says no
	var failed atomic.Pointer[authtrip.Event]
	src.OnEvent = func(e authtrip.Event) {
		if e.Err != nil {
			failed.CompareAndSwap(nil, &e)
		}
	}
	s.login(t, src, keys)
	s.bearer = true
	s.revoke()
	status, _ := get(t, src, s.URL+"/api")
	if status != http.StatusUnauthorized {
		t.Errorf("status = %d, want the 401 of the API", status)
	}
	if e := failed.Load(); e == nil || !strings.Contains(e.Err.Error(), "want DPoP") {
		t.Error("no event names the type")
	}
	if tok, err := src.TokenContext(t.Context()); err == nil && tok.TokenType != "DPoP" {
		t.Error("the bearer token is handed out")
	}
}

func TestRule73NonceCostsOneRequestAndNoRefresh(t *testing.T) {
	s, keys := newServer(t), new(dpop.Keys)
	s.demand("token", "first")
	s.demand("api", "another")
	src := s.source(t, keys, nil)
	src.Key = ""
	s.login(t, src, keys)
	for range 5 {
		want200(t, src, s.URL+"/api")
	}
	if n, asked := s.tokens.Load(), s.asked.Load(); n != 1 || asked != 2 {
		t.Errorf("token requests = %d, asked for a nonce %d times; want 1 and 2", n, asked)
	}
	// The nonces are kept apart (Rule 42), and the newest is used.
	s.demand("token", "second")
	s.demand("api", "other")
	s.revoke()
	want200(t, src, s.URL+"/api")
	want200(t, src, s.URL+"/api")
	if n, asked := s.tokens.Load(), s.asked.Load(); n != 2 || asked != 4 {
		t.Errorf("token requests = %d, asked for a nonce %d times; want 2 and 4", n, asked)
	}
}

func TestRule42NewestNonceOfAnyAnswerIsUsed(t *testing.T) {
	s, keys := newServer(t), new(dpop.Keys)
	s.every = 1 // each answer has the nonce of the next request
	src := s.source(t, keys, nil)
	src.Key = ""
	s.login(t, src, keys)
	want200(t, src, s.URL+"/api")
	for range 5 {
		want200(t, src, s.URL+"/api")
	}
	if n, asked := s.api.Load(), s.asked.Load(); n != 6 || asked != 0 {
		t.Errorf("API requests = %d, asked for a nonce %d times; want 6 and 0", n, asked)
	}
}

func TestNonceThatChangesUnderLoadCostsNoRefreshAndNoSession(t *testing.T) {
	s, keys := newServer(t), new(dpop.Keys)
	s.demand("api", "start")
	s.every = 97
	src := s.source(t, keys, nil)
	src.Key = ""
	s.login(t, src, keys)
	const callers, each = 20, 20
	var wg sync.WaitGroup
	var ok atomic.Int32
	for range callers {
		wg.Go(func() {
			for range each {
				if status, _ := get(t, src, s.URL+"/api"); status == http.StatusOK {
					ok.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := s.tokens.Load(); n != 1 {
		t.Errorf("token requests = %d, want that of the login", n)
	}
	if n := s.api.Load(); n > 2*callers*each {
		t.Errorf("API requests = %d for %d, want at most two each", n, callers*each)
	}
	// One whose second try met the next change is the caller's to try again.
	if n := ok.Load(); n < callers*each*98/100 {
		t.Errorf("answered = %d of %d", n, callers*each)
	}
}

func TestStormWithABoundTokenIsOneRefresh(t *testing.T) {
	s, keys := newServer(t), new(dpop.Keys)
	s.demand("api", "start")
	s.demand("token", "start")
	src := s.source(t, keys, nil)
	src.Key = ""
	s.login(t, src, keys)
	for range 3 {
		s.revoke()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { want200(t, src, s.URL+"/api") })
		}
		wg.Wait()
	}
	if n := s.tokens.Load(); n != 4 {
		t.Errorf("token requests = %d, want 4", n)
	}
}

func TestNoncesAreSharedByACache(t *testing.T) {
	s, cache := newServer(t), new(authtrip.MemoryCache)
	s.demand("api", "start")
	s.demand("token", "start")
	told := &tellingCache{MemoryCache: cache, set: make(chan struct{}, 2)}
	keys, store := &dpop.Keys{Cache: told}, new(authtrip.MemoryStore)
	src := s.source(t, keys, store)
	s.login(t, src, keys)
	want200(t, src, s.URL+"/api")
	<-told.set
	<-told.set
	before := s.asked.Load()
	s.revoke()
	want200(t, s.source(t, &dpop.Keys{Cache: told}, store), s.URL+"/api")
	if n := s.asked.Load() - before; n != 0 {
		t.Errorf("another process was asked for a nonce %d times, want 0", n)
	}
}

type tellingCache struct {
	*authtrip.MemoryCache
	set chan struct{}
}

func (c *tellingCache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	defer func() { c.set <- struct{}{} }()
	return c.MemoryCache.Set(ctx, key, value, ttl)
}

func TestWrongClockCostsOneRequest(t *testing.T) {
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute, 25 * time.Hour} {
		s, keys := newServer(t), new(dpop.Keys)
		s.ahead = ahead
		src := s.source(t, keys, nil)
		src.Key = ""
		s.login(t, src, keys)
		for range 3 {
			want200(t, src, s.URL+"/api")
		}
		s.revoke()
		want200(t, src, s.URL+"/api")
		if n, api := s.tokens.Load(), s.api.Load(); n != 2 || api != 6 {
			t.Errorf("%v: token requests = %d, API requests = %d; want 2 and 6", ahead, n, api)
		}
	}
}

func TestKeysPrintNothing(t *testing.T) {
	keys := &dpop.Keys{Alg: "secret"}
	if got := keys.String() + keys.GoString() + keys.LogValue().String(); strings.Contains(got, "secret") {
		t.Error("a field is printed")
	}
}
