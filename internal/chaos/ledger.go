package chaos

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// A Server is an authorization server with a token endpoint at /token.
type Server interface {
	http.Handler
	Issue(subject string, scopes ...string) *oauth2.Token
}

// processHeader names the process that sends a token request.
const processHeader = "Chaos-Process"

// loginPath is where a process logs a user in again: the answer is a token.
const loginPath = "/login"

// A ledger is what a server has seen: each refresh token with all of its uses, and when
// the processes that sent them were killed. It stands before the server.
type ledger struct {
	server Server
	began  time.Time
	grace  time.Duration // of the server

	mu       sync.Mutex // guards what follows
	tokens   map[string]*token
	order    []*token // in the order in which they were issued
	deaths   map[int]death
	logins   int
	requests int
	ended    map[string]int // refusals, by session
}

// A token is a refresh token.
type token struct {
	session string
	uses    []*use
	next    *token // what it was rotated to
	first   bool   // it is of a login
	saved   time.Time
}

// A use is one request that had a refresh token.
type use struct {
	process  int
	arrived  time.Time
	answered time.Time // zero: not yet
	status   int
}

func (u *use) rotated() bool { return u.status == http.StatusOK }

// A death is that of a process: it was alive before, and no more after.
type death struct{ before, after time.Time }

func newLedger(server Server) *ledger {
	return &ledger{server: server, began: time.Now(), tokens: map[string]*token{}, deaths: map[int]death{}, ended: map[string]int{}}
}

// login issues tokens to a session.
func (l *ledger) login(session string) *oauth2.Token {
	tok := l.server.Issue(session)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins++
	l.add(tok.RefreshToken, &token{session: session, first: true})
	return tok
}

func (l *ledger) add(name string, t *token) {
	l.tokens[name] = t
	l.order = append(l.order, t)
}

func (l *ledger) died(process int, d death) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaths[process] = d
}

// isSaved notes what a Store holds.
func (l *ledger) isSaved(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tokens[name]; t != nil && t.saved.IsZero() {
		t.saved = time.Now()
	}
}

// ServeHTTP notes what comes, and lets the server answer it.
func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == loginPath {
		tok := l.login(r.URL.Query().Get("session"))
		_ = json.NewEncoder(w).Encode(tok)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it was killed in the middle of it
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body))
	t, u := l.arrive(form.Get("refresh_token"), r.Header.Get(processHeader))
	rec := httptest.NewRecorder()
	func() {
		defer func() { // of a fault that gives no answer
			if p := recover(); p != nil {
				l.answer(t, u, 0, nil)
				panic(p)
			}
		}()
		l.server.ServeHTTP(rec, r)
	}()
	l.answer(t, u, rec.Code, rec.Body.Bytes())
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

func (l *ledger) arrive(name, process string) (*token, *use) {
	u := &use{arrived: time.Now()}
	u.process, _ = strconv.Atoi(process)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	t := l.tokens[name]
	if t == nil {
		t = &token{session: "none: a token that was not issued"}
		l.add(name, t)
	}
	t.uses = append(t.uses, u)
	return t, u
}

func (l *ledger) answer(t *token, u *use, status int, body []byte) {
	var members struct {
		RefreshToken string `json:"refresh_token"`
		Error        string `json:"error"`
	}
	_ = json.Unmarshal(body, &members)
	l.mu.Lock()
	defer l.mu.Unlock()
	u.answered, u.status = time.Now(), status
	if members.Error == "invalid_grant" {
		l.ended[t.session]++
	}
	if status != http.StatusOK || l.tokens[members.RefreshToken] != nil {
		return
	}
	t.next = &token{session: t.session}
	l.add(members.RefreshToken, t.next)
}
