// Package authtriptest helps to test programs that use OAuth 2.0: an
// authorization server and an API that a test scripts, an in-memory network on
// which an hour passes at once, a fake token source, and a conformance suite
// for token stores and caches.
//
//	srv := &authtriptest.Server{Rotate: true, Lifetime: time.Minute}
//	site := authtriptest.Start(t, srv)
//	conf, tok := srv.Config(site.URL), srv.Issue("alice")
//	srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Status: 503})
//	… use conf and tok …
//	if n := srv.Counts().Token; n != 2 { … }
//
// # Servers
//
// [Server] is an [http.Handler]. [Start] serves it (or any other handler) on a
// loopback address over HTTP/1.1, [StartTLS] over TLS and HTTP/2, and
// [EachProtocol] runs a test over both. A [Fault] makes it misbehave: wait,
// answer nonsense, lose an answer after the work was done.
//
// # Time
//
// A [Network] carries HTTP over memory instead of sockets, so that a test that
// runs in [testing/synctest.Test] can wait for an hour and take no time. All
// times of a Server are read from package time, which the bubble replaces.
//
// # Tokens
//
// The tokens are random and opaque, but worth nothing: a Server accepts only
// the ones that it issued itself. No error of this package contains one.
package authtriptest

import (
	"crypto/ecdsa"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// The paths that a [Server] answers, and the names under which [Server.Fail]
// knows its endpoints. A path below one of them belongs to the same endpoint:
// "/api/v1/books" is answered as "/api".
const (
	TokenPath    = "/token"                            // RFC 6749, section 3.2
	RevokePath   = "/revoke"                           // RFC 7009
	UserInfoPath = "/userinfo"                         // OpenID Connect Core, section 5.3
	APIPath      = "/api"                              // a protected resource; see Echo
	KeysPath     = "/keys"                             // the public key as a JWK set
	MetadataPath = "/.well-known/openid-configuration" // OpenID Connect Discovery, section 4
)

// Server is an OAuth 2.0 authorization server and a protected API behind one
// handler. It issues tokens for the grants refresh_token, client_credentials,
// JWT bearer (RFC 7523) and token exchange (RFC 8693), and it answers as the
// RFCs say, until [Server.Fail] tells it otherwise. Assertions and the subject
// tokens of others only have to be there. The subject of a token is the user of
// [Server.Issue] where there is one, else the client.
//
// The zero value is ready to use: one client, tokens of an hour, refresh tokens
// that stay the same. The fields must not be modified after first use; the
// methods are safe for concurrent use by multiple goroutines, also while
// requests are served. A Server must not be copied after first use.
type Server struct {
	// ClientID is the client that the server knows. If empty, "client".
	ClientID string

	// ClientSecret is the secret of the client, which is checked whether it
	// arrives in the header or in the form. If empty, "client-secret".
	ClientSecret string

	// Public makes the client one without a secret: it names itself in the form, and a
	// request that carries a secret is rejected.
	Public bool

	// CheckClient replaces the check of the client's id and secret, for any
	// other client authentication. If nil, the fields above count. It is
	// called with the form parsed, by many goroutines at once.
	CheckClient func(r *http.Request) bool

	// Issuer is the iss of the ID tokens and the issuer of the metadata. If
	// empty, it is the URL where the server was first started, or
	// "https://issuer.example" before that.
	Issuer string

	// Lifetime is how long an access token is accepted, also told as
	// expires_in. If zero, an hour. If negative, the responses have no
	// expires_in and the tokens are accepted until they are revoked.
	Lifetime time.Duration

	// Rotate gives a new refresh token with every refresh. A used one that comes again
	// revokes its whole family: all refresh tokens that descend from one login, and their
	// access tokens. If false, the refresh token stays and the response of a refresh contains
	// none.
	Rotate bool

	// ReuseGrace is for how long after a rotation the used token is answered once more, with
	// the same successor and a new access token. It holds for the immediate parent of the
	// newest refresh token only. Zero or negative means that there is no grace.
	ReuseGrace time.Duration

	// RevokeOnRefresh ends the older access tokens of the family with every
	// refresh.
	RevokeOnRefresh bool

	// APIScope is a scope that a token needs at [APIPath]; without it the
	// answer is 403 with insufficient_scope. If empty, any token will do.
	APIScope string

	// Claims returns further user info claims of a subject. If nil, the answer
	// has nothing but sub. It is called by many goroutines at once.
	Claims func(subject string) map[string]any

	// OnRequest is called synchronously for every request, before any Fault
	// acts and without a lock held. Form bodies are parsed at that time
	// (r.PostForm), other bodies are consumed. It is called by many goroutines
	// at once. If nil, it is not called.
	OnRequest func(r *http.Request)

	mu       sync.Mutex // guards everything below
	base     string
	key      *ecdsa.PrivateKey
	access   map[string]*access // by access token
	refresh  map[string]*family // by refresh token, spent ones included
	inFlight map[string]int     // requests being served, by refresh token
	queues   map[string][]Fault
	always   map[string]Fault
	counts   Counts
}

// Config returns the configuration of the server's client, with the token
// endpoint below base, a URL such as [Site.URL]. The caller owns the result.
func (s *Server) Config(base string) *oauth2.Config {
	return &oauth2.Config{
		ClientID:     s.clientID(),
		ClientSecret: s.clientSecret(),
		Endpoint: oauth2.Endpoint{
			TokenURL:  base + TokenPath,
			AuthStyle: s.authStyle(),
		},
	}
}

// ClientCredentials is [Server.Config] for the client credentials grant.
func (s *Server) ClientCredentials(base string) *clientcredentials.Config {
	return &clientcredentials.Config{
		ClientID:     s.clientID(),
		ClientSecret: s.clientSecret(),
		TokenURL:     base + TokenPath,
		AuthStyle:    s.authStyle(),
	}
}

// ServeHTTP answers the paths listed at [TokenPath], and 404 to all others. Where
// there is to be no answer or half of one, it panics with [http.ErrAbortHandler],
// as net/http wants it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := endpoint(r.URL.Path)
	f := s.nextFault(path)
	c := &call{path: path}
	if !f.Early {
		c.read(w, r)
	}
	if s.OnRequest != nil {
		s.OnRequest(r)
	}
	s.arrive(c, r)
	defer s.leave(c)

	if f.Commit {
		c.answer = s.work(c, r)
	}
	if !f.wait(r.Context()) {
		panic(http.ErrAbortHandler)
	}
	if f.Handler != nil {
		s.leave(c)
		f.Handler.ServeHTTP(w, r)
		return
	}
	if !f.Commit && !f.replaces() {
		c.answer = s.work(c, r)
	}
	f.alter(&c.answer)
	s.leave(c)
	f.send(w, r, c.answer)
}

// work does what the endpoint is for.
func (s *Server) work(c *call, r *http.Request) answer {
	switch c.path {
	case TokenPath:
		return s.token(r)
	case RevokePath:
		return s.revocation(r)
	case UserInfoPath:
		return s.userInfo(r)
	case APIPath:
		return s.api(c, r)
	case KeysPath:
		return s.keys()
	case MetadataPath:
		return s.metadata()
	default:
		return jsonAnswer(http.StatusNotFound, map[string]any{"error": "not_found"})
	}
}

func (s *Server) api(c *call, r *http.Request) answer {
	if _, refusal := s.bearer(r, s.APIScope); refusal != nil {
		return *refusal
	}
	return jsonAnswer(http.StatusOK, c.echo)
}

func (s *Server) userInfo(r *http.Request) answer {
	subject, refusal := s.bearer(r, "")
	if refusal != nil {
		return *refusal
	}
	claims := map[string]any{}
	if s.Claims != nil {
		maps.Copy(claims, s.Claims(subject))
	}
	claims["sub"] = subject
	return jsonAnswer(http.StatusOK, claims)
}

// bearer returns the subject of the request's access token, or the answer that
// RFC 6750, section 3 prescribes.
func (s *Server) bearer(r *http.Request, scope string) (subject string, refusal *answer) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
		return "", challenge(http.StatusUnauthorized, "Bearer")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.access[token]
	switch {
	case a == nil || !a.valid(time.Now()):
		return "", challenge(http.StatusUnauthorized, InvalidToken)
	case scope != "" && !slices.Contains(a.scopes, scope):
		return "", challenge(http.StatusForbidden,
			`Bearer error="insufficient_scope", scope="`+scope+`"`)
	}
	return a.subject, nil
}

// bind remembers the first URL under which the server is reached.
func (s *Server) bind(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base == "" {
		s.base = base
	}
}

func (s *Server) issuerLocked() string {
	switch {
	case s.Issuer != "":
		return s.Issuer
	case s.base != "":
		return s.base
	default:
		return "https://issuer.example"
	}
}

func (s *Server) clientID() string {
	if s.ClientID == "" {
		return "client"
	}
	return s.ClientID
}

func (s *Server) clientSecret() string {
	switch {
	case s.Public:
		return ""
	case s.ClientSecret == "":
		return "client-secret"
	default:
		return s.ClientSecret
	}
}

func (s *Server) authStyle() oauth2.AuthStyle {
	if s.Public {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// endpoint returns the endpoint that path belongs to.
func endpoint(path string) string {
	for _, p := range []string{TokenPath, RevokePath, UserInfoPath, APIPath, KeysPath} {
		if path == p || strings.HasPrefix(path, p+"/") {
			return p
		}
	}
	return path
}

// formOf returns the parsed form of r, which is empty if it was never read.
func formOf(r *http.Request) url.Values {
	if r.PostForm == nil {
		return url.Values{}
	}
	return r.PostForm
}
