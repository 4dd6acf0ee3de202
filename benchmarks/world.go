package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// tokenSize is how long an access token is, as a JWT is.
const tokenSize = 900

// A world is an authorization server and an API on loopback addresses. It does as
// little as it can, so that what is measured is the client. The API accepts the
// tokens that have not expired and were not revoked.
type world struct {
	auth   *httptest.Server // HTTP/1.1 over TLS
	client *http.Client     // for it

	lifetime atomic.Int64                        // of new tokens, in seconds
	delay    atomic.Int64                        // before a token is answered, in nanoseconds
	fault    atomic.Pointer[http.HandlerFunc]    // answers token requests instead
	requests atomic.Int64                        // to the token endpoint
	infos    atomic.Int64                        // requests for user info
	issued   atomic.Int64                        // tokens
	revoked  atomic.Int64                        // when; what was issued before is not accepted
	clients  map[string]*http.Client             // of the API, by protocol
	apis     map[string]*httptest.Server         // by protocol
	released chan struct{}                       // closed when requests that hang may go
	once     sync.Once                           // closes released
	hold     atomic.Pointer[func(*http.Request)] // called by the API without a network
}

// newWorld starts the servers. close must be called.
func newWorld() *world {
	w := &world{clients: make(map[string]*http.Client), apis: make(map[string]*httptest.Server), released: make(chan struct{})}
	w.lifetime.Store(3600)
	mux := http.NewServeMux()
	mux.HandleFunc("/token", w.serveToken)
	mux.HandleFunc("/userinfo", w.serveUserInfo)
	w.auth, w.client = serve(mux, false)
	for _, proto := range []string{"HTTP/1.1", "HTTP/2"} {
		w.apis[proto], w.clients[proto] = serve(http.HandlerFunc(w.serveAPI), proto == "HTTP/2")
	}
	return w
}

func serve(h http.Handler, h2 bool) (*httptest.Server, *http.Client) {
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = h2
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that leave are part of it
	s.StartTLS()
	client := s.Client()
	t := client.Transport.(*http.Transport)
	t.MaxIdleConnsPerHost = 100
	t.ForceAttemptHTTP2 = h2
	return s, client
}

func (w *world) close() {
	w.release()
	for _, s := range w.apis {
		s.CloseClientConnections()
		s.Close()
	}
	w.auth.CloseClientConnections()
	w.auth.Close()
}

// release lets go of what hangs.
func (w *world) release() { w.once.Do(func() { close(w.released) }) }

// endpoint is the grant of a program.
func (w *world) endpoint() *Endpoint {
	return &Endpoint{URL: w.auth.URL + "/token", Client: w.client}
}

// revoke ends all tokens that were issued, by any process of this machine.
func (w *world) revoke() { w.revoked.Store(time.Now().UnixNano()) }

// issue returns a token that says when it was issued and when it ends.
func (w *world) issue(life time.Duration) string {
	now := time.Now()
	return tokenFor(fmt.Sprintf("%d.%d.%d", now.UnixNano(), now.Add(life).UnixNano(), w.issued.Add(1)))
}

// tokenFor returns a token of tokenSize bytes.
func tokenFor(name string) string {
	return name + "." + strings.Repeat("x", tokenSize-1-len(name))
}

func (w *world) accepts(req *http.Request) bool {
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	born, rest, _ := strings.Cut(token, ".")
	end, _, _ := strings.Cut(rest, ".")
	issued, err := strconv.ParseInt(born, 10, 64)
	expires, err2 := strconv.ParseInt(end, 10, 64)
	return ok && err == nil && err2 == nil && len(token) == tokenSize &&
		issued > w.revoked.Load() && time.Now().UnixNano() < expires
}

func (w *world) serveToken(rw http.ResponseWriter, req *http.Request) {
	w.requests.Add(1)
	if fault := w.fault.Load(); fault != nil {
		(*fault)(rw, req)
		return
	}
	if err := pause(req.Context(), time.Duration(w.delay.Load())); err != nil {
		return
	}
	life := w.lifetime.Load()
	rw.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(rw, `{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, w.issue(seconds(life)), life)
}

func (w *world) serveUserInfo(rw http.ResponseWriter, req *http.Request) {
	w.infos.Add(1)
	if !w.accepts(req) {
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	if err := pause(req.Context(), time.Duration(w.delay.Load())); err != nil {
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(rw, `{"sub":"alice","name":"Alice","email":"alice@example.com","email_verified":true}`)
}

// serveAPI answers what is open, and what carries a good token.
func (w *world) serveAPI(rw http.ResponseWriter, req *http.Request) {
	if req.URL.Path != "/open" && !w.accepts(req) {
		rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(rw, `{"title":"The Left Hand of Darkness"}`)
}

// RoundTrip is the API without a network. A hold, if there is one, delays the
// answer to a request whose token is judged after it.
func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	if hold := w.hold.Load(); hold != nil {
		(*hold)(req)
	}
	resp := &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: http.NoBody, Request: req,
	}
	if !w.accepts(req) {
		resp.Status, resp.StatusCode = "401 Unauthorized", http.StatusUnauthorized
		resp.Header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	return resp, nil
}

// answer makes the token endpoint answer with a status and an OAuth error code.
func (w *world) answer(status int, code string, header http.Header) {
	h := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		for k, v := range header {
			rw.Header()[k] = v
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		_, _ = fmt.Fprintf(rw, `{"error":%q}`, code)
	})
	w.fault.Store(&h)
}

// hang makes the token endpoint take requests and never answer.
func (w *world) hang() {
	h := http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-req.Context().Done():
		case <-w.released:
		}
	})
	w.fault.Store(&h)
}

func (w *world) heal() { w.fault.Store(nil) }

// fetch issues tokens without a network.
func (w *world) fetch(context.Context) (*oauth2.Token, error) {
	life := seconds(w.lifetime.Load())
	return &oauth2.Token{AccessToken: w.issue(life), TokenType: "Bearer", Expiry: time.Now().Add(life)}, nil
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

const stubURL = "https://api.example.com/v1/books"

// call sends a request and returns its status, or 0.
func call(ctx context.Context, rt http.RoundTripper, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	return send(rt, req)
}

func send(rt http.RoundTripper, req *http.Request) (int, error) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// mustCall is call for what has to work before anything is measured.
func mustCall(p Peer, rt http.RoundTripper, url string) error {
	status, err := call(context.Background(), rt, url)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name(), err)
	}
	return nil
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
