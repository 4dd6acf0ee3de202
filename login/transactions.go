package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/internal/digest"
	"example.com/authtrip/internal/seal"
)

// Transactions carries a [Transaction] from the response that sends a browser away to the
// request that brings it back. A cookie shows that it is the same browser. Each login has
// a cookie of its own, so logins in several tabs can end in any order. An expired login
// is remembered for an hour, to tell a slow user from a stranger.
//
// The fields say where the transaction itself is meanwhile:
//   - Cache: in the Cache. The cookie has a random value that is compared. The transaction
//     is good for one use among all processes that share the Cache.
//   - Keys without Cache: sealed, in the cookie. Nothing is stored anywhere, and any process
//     that has the Keys can go on. The transaction is good for one use in each process, and
//     the code for one use at the server.
//   - Neither: in this process's memory, 10,000 at most. If there are more, the oldest is
//     forgotten. Set Keys for a site that everybody can reach.
//
// The zero value is ready to use. Transactions is safe for concurrent use, must
// not be copied, and its fields must not be modified after first use.
type Transactions struct {
	// Cache keeps the transactions until the user is back.
	Cache authtrip.Cache
	// Keys seal what is kept, each of 32 random bytes. The first one seals, all of them
	// open: they can be changed as those of [authtrip.Sealed].
	Keys [][]byte
	// CookieName is the beginning of the cookies' names, of letters, digits and the
	// like. If "", it is login. Over https, __Host- is put before it.
	CookieName string

	memory authtrip.MemoryCache
	mu     sync.Mutex // makes look and mark of the sealed ones one step
}

// Format implements [fmt.Formatter]: it prints nothing that is in t.
func (t *Transactions) Format(s fmt.State, _ rune) { blank(s, "login.Transactions") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in t.
func (t *Transactions) LogValue() slog.Value { return slog.StringValue("login.Transactions{…}") }

const (
	// maxCookies is how many logins a browser has under way; beyond it the
	// oldest is forgotten.
	maxCookies = 8
	// maxCookie is the largest cookie that all browsers keep, in bytes, with room
	// for its name and attributes.
	maxCookie = 3800
	// late is how long a login is remembered that has taken too long, so that it can
	// begin again where it began.
	late = time.Hour
	// maxCookieHeader is how much of a request's header the logins of a browser may
	// take, in bytes: many servers refuse one of more than 8 KiB.
	maxCookieHeader = 4096
)

// Keep remembers tx for the browser that gets w as the answer to r. Call it before the
// header is written. r may be nil.
func (t *Transactions) Keep(ctx context.Context, w http.ResponseWriter, r *http.Request, tx *Transaction) error {
	if err := t.check(); err != nil {
		return err
	}
	ttl := time.Until(tx.Expires) + late
	name := t.cookieName(tx.State, tx)
	value, err := t.put(ctx, tx, name, ttl)
	if err != nil {
		return err
	}
	cookie := t.cookie(name, tx)
	cookie.Value = value
	cookie.MaxAge = max(1, int(ttl/time.Second))
	t.makeRoom(w, r, tx, headerSize(cookie))
	http.SetCookie(w, cookie)
	return nil
}

// Take returns the transaction that the redirect in r belongs to, if it was kept for r's
// browser, and ends it: the next call does not find it. w removes the cookie.
//
// Its errors are *[CheckError] and those of the Cache. After a *[CheckError] the
// transaction is still there.
func (t *Transactions) Take(ctx context.Context, w http.ResponseWriter, r *http.Request) (*Transaction, error) {
	f, err := t.find(ctx, r)
	if err != nil {
		return nil, err
	}
	if err = t.spend(ctx, f.tx); err != nil {
		return nil, err
	}
	t.removeCookie(w, f)
	return f.tx, nil
}

// A found transaction belongs to the browser that asks.
type found struct {
	tx          *Transaction
	name, value string // of its cookie
}

// find returns the transaction that the redirect in r belongs to, and leaves it
// where it is: a stranger who knows the state must not end the login. One that is over
// or too old comes with the error that says so.
func (t *Transactions) find(ctx context.Context, r *http.Request) (*found, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	resp, err := parseResponse(r, "", "")
	if err != nil {
		return nil, err
	}
	if resp.state == "" {
		return nil, &CheckError{Check: "state", Reason: "is missing in the response"}
	}
	for _, secure := range []bool{true, false} {
		name := t.name(resp.state, secure)
		c, err := r.Cookie(name)
		if err != nil {
			continue
		}
		tx, err := t.look(ctx, name, c.Value, resp.state)
		if err != nil {
			return nil, err
		}
		// Rule 63: a host beside this one can set a cookie without the prefix.
		if isHTTPS(tx.RedirectURL) != secure {
			break
		}
		f := &found{tx, name, c.Value}
		switch {
		case tx.isOver() || t.wasSpent(ctx, tx):
			return f, errSpent()
		case !time.Now().Before(tx.Expires):
			return f, errTooOld()
		}
		return f, nil
	}
	return nil, &CheckError{Check: "browser", Reason: "no login with this state was begun in this browser, or it is over"}
}

// look returns what the cookie of that name and value stands for.
func (t *Transactions) look(ctx context.Context, name, value, state string) (*Transaction, error) {
	kept, sealed := value, t.sealed()
	if !sealed {
		b, err := t.cache().Get(ctx, cacheKey(state))
		if err != nil {
			return nil, lost(err)
		}
		kept = string(b)
	}
	tx, err := t.open(kept, name)
	switch {
	case err != nil:
		return nil, err
	case !equal(tx.State, state):
		return nil, &CheckError{Check: "state", Reason: "is not that of this login"}
	case !sealed && !equal(digest.Of(value), tx.Binding):
		return nil, &CheckError{Check: "browser", Reason: "the login was begun in another one"}
	}
	return tx, nil
}

// removeCookie removes the cookie of a transaction that has ended.
func (t *Transactions) removeCookie(w http.ResponseWriter, f *found) {
	gone := t.cookie(f.name, f.tx)
	gone.MaxAge = -1
	http.SetCookie(w, gone)
}

// spend ends a transaction; of many callers at once one gets nil. What is left says
// where to begin again.
func (t *Transactions) spend(ctx context.Context, tx *Transaction) error {
	key := cacheKey(tx.State)
	ttl := max(time.Second, time.Until(tx.Expires)+late)
	if t.sealed() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.wasSpent(ctx, tx) {
			return errSpent()
		}
		return t.memory.Set(ctx, key, []byte{1}, ttl)
	}
	name := t.cookieName(tx.State, tx)
	kept, err := t.cache().Take(ctx, key)
	if err != nil {
		return lost(err)
	}
	if last, err := t.open(string(kept), name); err != nil || last.isOver() {
		return errSpent()
	}
	if rest, err := t.seal(tx.over(), name); err == nil {
		_ = t.cache().Set(ctx, key, []byte(rest), ttl) // without it the user reads a page more
	}
	return nil
}

// wasSpent reports whether a transaction in a cookie has ended in this process.
func (t *Transactions) wasSpent(ctx context.Context, tx *Transaction) bool {
	if !t.sealed() {
		return false
	}
	_, err := t.memory.Get(ctx, cacheKey(tx.State))
	return err == nil
}

// sealed reports whether the cookie holds the transaction itself.
func (t *Transactions) sealed() bool { return t.Cache == nil && len(t.Keys) > 0 }

// check looks at what is configured: a browser drops a cookie whose name has
// other bytes (RFC 6265, section 4.1.1) without a word.
func (t *Transactions) check() error {
	for _, b := range []byte(t.CookieName) {
		if b <= ' ' || b >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, b) >= 0 {
			return errors.New("login: Transactions.CookieName: has a character that no cookie's name may have, want letters, digits, - and _")
		}
	}
	if strings.HasPrefix(t.CookieName, "__") {
		return errors.New("login: Transactions.CookieName: begins with __, want a name without a prefix: __Host- is put before it where it can be")
	}
	if len(t.Keys) == 0 {
		return nil
	}
	if err := t.sealer().Check(); err != nil {
		return fmt.Errorf("login: Transactions.Keys%w", err)
	}
	return nil
}

func (t *Transactions) put(ctx context.Context, tx *Transaction, name string, ttl time.Duration) (string, error) {
	if t.sealed() {
		sealed, err := t.seal(tx, name)
		if err == nil && len(sealed) > maxCookie {
			err = errors.New("login: Transactions: the transaction is too large for a cookie: set Cache, or ask for less in ReturnTo and Scopes")
		}
		return sealed, err
	}
	binding := secret()
	kept := tx.keep()
	kept.Binding = digest.Of(binding)
	value, err := t.seal(kept, name)
	if err != nil {
		return "", err
	}
	if err := t.cache().Set(ctx, cacheKey(tx.State), []byte(value), ttl); err != nil {
		return "", fmt.Errorf("login: Transactions.Cache: %w", err)
	}
	return binding, nil
}

func (t *Transactions) cache() authtrip.Cache {
	if t.Cache == nil {
		return &t.memory
	}
	return t.Cache
}

func lost(err error) error {
	if errors.Is(err, authtrip.ErrNotFound) {
		return &CheckError{Check: checkTransaction, Reason: "the login is over: its state was used before, or it took too long"}
	}
	return fmt.Errorf("login: Transactions.Cache: %w", err)
}

// keep returns what is kept of t, to be changed by the caller.
func (t *Transaction) keep() *Transaction {
	return &Transaction{
		State: t.State, Nonce: t.Nonce, Verifier: t.Verifier, Issuer: t.Issuer, ClientID: t.ClientID,
		RedirectURL: t.RedirectURL, Began: t.Began, Expires: t.Expires, Scopes: t.Scopes, Resources: t.Resources,
		MaxAge: t.MaxAge, FormPost: t.FormPost, ReturnTo: t.ReturnTo, Again: t.Again,
		SignedResponse: t.SignedResponse, TokenParams: t.TokenParams, DPoPKey: t.DPoPKey,
	}
}

// cacheKey says nothing of the state.
func cacheKey(state string) string { return "login:" + digest.Of(state) }

// seal returns tx as text: encrypted and bound to name where there are keys.
func (t *Transactions) seal(tx *Transaction, name string) (string, error) {
	doc, err := json.Marshal(tx)
	if err != nil {
		return "", fmt.Errorf("login: Transactions: %w", err)
	}
	if len(t.Keys) == 0 {
		return string(doc), nil
	}
	sealed, err := t.sealer().Seal(name, doc)
	if err != nil {
		return "", fmt.Errorf("login: Transactions.Keys: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

func (t *Transactions) open(kept, name string) (*Transaction, error) {
	doc := []byte(kept)
	if len(t.Keys) > 0 {
		sealed, err := base64.RawURLEncoding.DecodeString(kept)
		if err == nil {
			doc, err = t.sealer().Open(name, sealed)
		}
		if err != nil {
			return nil, errBroken()
		}
	}
	tx := new(Transaction)
	if json.Unmarshal(doc, tx) != nil {
		return nil, errBroken()
	}
	return tx, nil
}

func errBroken() error {
	return &CheckError{Check: checkTransaction, Reason: "what was kept cannot be opened"}
}

func (t *Transactions) sealer() seal.Sealer {
	return seal.Sealer{Label: "authtrip login transaction", Keys: t.Keys}
}

// cookie returns an empty cookie for tx. What it may do follows from the redirect
// URL, which is where it comes back, and never from a request.
func (t *Transactions) cookie(name string, tx *Transaction) *http.Cookie {
	c := &http.Cookie{
		Name:     name,
		Path:     "/",
		HttpOnly: true,
		Secure:   isHTTPS(tx.RedirectURL) || tx.FormPost,
		SameSite: http.SameSiteLaxMode,
	}
	if tx.FormPost {
		// The form is posted from the server's site, where Lax cookies stay away.
		c.SameSite = http.SameSiteNoneMode
	}
	return c
}

func isHTTPS(raw string) bool {
	scheme, _, ok := strings.Cut(raw, "://")
	return ok && strings.EqualFold(scheme, "https")
}

func (t *Transactions) cookieName(state string, tx *Transaction) string {
	return t.name(state, isHTTPS(tx.RedirectURL))
}

// name returns that of the cookie for a state, which it does not tell. With the
// prefix no other host can set it.
func (t *Transactions) name(state string, secure bool) string {
	return t.prefix(secure) + digest.Of("cookie:" + state)[:16]
}

func (t *Transactions) prefix(secure bool) string {
	prefix := t.CookieName
	if prefix == "" {
		prefix = "login"
	}
	if secure {
		prefix = "__Host-" + prefix
	}
	return prefix + "-"
}

// makeRoom forgets the oldest logins of a browser that began too many for the next
// one, which needs size bytes. Browsers send the oldest cookie first.
func (t *Transactions) makeRoom(w http.ResponseWriter, r *http.Request, tx *Transaction, size int) {
	if r == nil {
		return
	}
	prefix := t.prefix(isHTTPS(tx.RedirectURL))
	var mine []*http.Cookie
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, prefix) {
			mine = append(mine, c)
			size += headerSize(c)
		}
	}
	for len(mine) > 0 && (len(mine) >= maxCookies || size > maxCookieHeader) {
		gone := t.cookie(mine[0].Name, tx)
		gone.MaxAge = -1
		http.SetCookie(w, gone)
		size -= headerSize(mine[0])
		mine = mine[1:]
	}
}

// headerSize is how much of a request's header a cookie takes.
func headerSize(c *http.Cookie) int { return len(c.Name) + len("=") + len(c.Value) + len("; ") }
