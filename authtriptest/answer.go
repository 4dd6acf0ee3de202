package authtriptest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"
)

// InvalidToken is the challenge of an API that does not accept a token (RFC
// 6750, section 3.1).
const InvalidToken = `Bearer error="invalid_token"`

// maxForm is the size up to which a form is read.
const maxForm = 1 << 20

// Echo is what [APIPath] answers to an accepted request: the request as it
// arrived, so that a test can check that a repeated request carried the same
// bytes. A zero Length means that the body was empty.
type Echo struct {
	Method string      `json:"method"`
	Proto  string      `json:"proto"` // "HTTP/1.1" or "HTTP/2.0"
	Host   string      `json:"host"`
	URI    string      `json:"uri"`    // path and query
	Header http.Header `json:"header"` // Authorization included
	Length int64       `json:"length"` // bytes received
	SHA256 string      `json:"sha256"` // of the body, in hexadecimal
}

// ReadEcho decodes the answer of [APIPath] and closes its body. A response that
// is none ends the test.
func ReadEcho(tb testing.TB, resp *http.Response) Echo {
	tb.Helper()
	defer func() { _ = resp.Body.Close() }()
	var e Echo
	if resp.StatusCode != http.StatusOK {
		tb.Fatalf("authtriptest: status = %d, want an echo with 200", resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		tb.Fatalf("authtriptest: reading an echo: %v", err)
	}
	return e
}

// Counts says what a [Server] has seen. It is a snapshot that the caller owns.
// A request that a [Fault] answers counts as well. One whose client has given up
// is being served until the server sees the connection end.
type Counts struct {
	Token       int // requests to TokenPath
	API         int // requests to APIPath
	UserInfo    int // requests to UserInfoPath
	Revocations int // requests to RevokePath
	Faults      int // faults that acted, at any endpoint

	APIRefused      int // answers of APIPath with status 401
	UserInfoRefused int // answers of UserInfoPath with status 401

	Grants map[string]int // tokens granted, by grant_type
	Errors map[string]int // token requests rejected by the server, by error code

	Overlaps        int // refreshes that arrived while one with the same token was served
	Reuses          int // refreshes with a used token, within the grace period or not
	FamiliesRevoked int // by reuse detection, by RevokePath or by Revoke
}

// Counts returns what the server has seen until now.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Grants, c.Errors = map[string]int{}, map[string]int{}
	maps.Copy(c.Grants, s.counts.Grants)
	maps.Copy(c.Errors, s.counts.Errors)
	return c
}

// call is one request while it is served.
type call struct {
	path   string
	echo   Echo
	answer answer
	token  string // the refresh token in it
	left   bool
}

// read consumes the body of r.
func (c *call) read(w http.ResponseWriter, r *http.Request) {
	if c.path == TokenPath || c.path == RevokePath {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		_ = r.ParseForm() // A broken form lacks what the endpoint asks for.
		return
	}
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // The client went away in the middle.
	}
	c.echo = Echo{
		Method: r.Method,
		Proto:  r.Proto,
		Host:   r.Host,
		URI:    r.URL.RequestURI(),
		Header: r.Header.Clone(),
		Length: n,
		SHA256: hex.EncodeToString(sum.Sum(nil)),
	}
}

// arrive counts the request.
func (s *Server) arrive(c *call, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.path {
	case TokenPath:
		s.counts.Token++
		c.token = formOf(r).Get("refresh_token")
	case APIPath:
		s.counts.API++
	case UserInfoPath:
		s.counts.UserInfo++
	case RevokePath:
		s.counts.Revocations++
	}
	if c.token == "" {
		return
	}
	if s.inFlight == nil {
		s.inFlight = map[string]int{}
	}
	if s.inFlight[c.token]++; s.inFlight[c.token] > 1 {
		s.counts.Overlaps++
	}
}

// leave ends what arrive began. It is called before the client can see the
// answer, for which the client may well send the same refresh token again; and
// a second time, without effect, for requests that end in another way.
func (s *Server) leave(c *call) {
	if c.left {
		return
	}
	c.left = true
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.token != "" {
		if s.inFlight[c.token]--; s.inFlight[c.token] == 0 {
			delete(s.inFlight, c.token)
		}
	}
	refused := c.answer.status == http.StatusUnauthorized
	switch {
	case refused && c.path == APIPath:
		s.counts.APIRefused++
	case refused && c.path == UserInfoPath:
		s.counts.UserInfoRefused++
	}
}

// answer is a response before it is written.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// jsonAnswer is an answer of any endpoint. None of them may be cached.
func jsonAnswer(status int, v any) answer {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	return answer{
		status: status,
		header: http.Header{
			"Content-Type":  {"application/json"},
			"Cache-Control": {"no-store"},
			"Pragma":        {"no-cache"},
		},
		body: body,
	}
}

// challenge refuses a request with a WWW-Authenticate header.
func challenge(status int, value string) *answer {
	a := jsonAnswer(status, map[string]any{"error": http.StatusText(status)})
	a.header.Set("WWW-Authenticate", value)
	return &a
}
