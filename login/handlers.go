package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/digest"
)

// Handlers are the pages of a web application that logs its users in. Each
// method is an [http.HandlerFunc], mounted where the application likes, Callback
// at the path of the client's RedirectURL:
//
//	h := &login.Handlers{Client: client, OnLogin: remember}
//	mux.HandleFunc("GET /login", h.Login)
//	mux.HandleFunc("/callback", h.Callback)
//	mux.HandleFunc("POST /logout", h.Logout)
//
// Client and OnLogin are required. Handlers is safe for concurrent use if its
// functions are, must not be copied, and its fields must not be modified after
// first use.
type Handlers struct {
	// Client is the application; required, unless Clients is set.
	Client *Client
	// Clients, if set, chooses the client in its place: an application with several servers,
	// or tenants, has one for each. When a login begins, and at a logout, tx is nil: r says
	// which client. At the callback return the client with the Issuer and ClientID of tx.
	Clients func(r *http.Request, tx *Transaction) (*Client, error)
	// Transactions carries logins over to Callback. If nil, they are kept in this
	// process's memory.
	Transactions *Transactions
	// Request returns what a login asks for. If nil, it is what the Client asks
	// for. ReturnTo is set by Login.
	Request func(r *http.Request) (*AuthRequest, error)
	// OnLogin is called when a user has logged in, before the browser is sent on; required.
	// It begins the application's own session, with a new session ID. It may set headers of
	// w, such as a cookie, and must not write a body. If it returns an error the login has
	// failed, and its tokens are revoked. If a browser asks again while its login is
	// redeemed (a reload, a double click), it is called for each of these requests, with the
	// same Session: name the application's session by Session.ID or by the user.
	OnLogin func(w http.ResponseWriter, r *http.Request, s *Session) error
	// OnLogout ends the application's own session and returns the session's token. The token
	// is then revoked, and its ID token is sent to the server. It may set headers of w, and
	// must not write a body. A nil token means that nobody was logged in. If OnLogout is
	// nil, Logout only sends the browser to the server.
	OnLogout func(w http.ResponseWriter, r *http.Request) (*oauth2.Token, error)
	// OnError answers where a login or logout failed. If nil, a plain page does,
	// with the status of [StatusCode].
	OnError func(w http.ResponseWriter, r *http.Request, err error)
	// Home is where the browser goes if it came from nowhere. If "", it is /.
	Home string
	// LoggedOutURL is where the server sends the browser after a logout. Register it with
	// the server. If "", the server decides. [Handlers.LoggedOut] can be there.
	LoggedOutURL string
	// LogoutRequest returns what a logout tells the server; tok is what OnLogout has
	// returned. If nil, it tells what is known. Logout sets RedirectURL, State and IDToken
	// if they are "".
	LogoutRequest func(r *http.Request, tok *oauth2.Token) (*LogoutRequest, error)

	memory   Transactions
	guard    http.CrossOriginProtection
	attempts attempts
}

// logoutTimeout bounds what a user waits for the revocation.
const logoutTimeout = 5 * time.Second

// Login sends the browser to the server. In the end the browser goes to the query's
// return_to, if that is a path of this application. Anything else is ignored.
func (h *Handlers) Login(w http.ResponseWriter, r *http.Request) {
	private(w)
	if r.Method != http.MethodGet {
		notAllowed(w, http.MethodGet)
		return
	}
	at, err := h.begin(w, r, nil)
	if err != nil {
		h.fail(w, r, err, "login")
		return
	}
	http.Redirect(w, r, at, http.StatusSeeOther)
}

// Initiate is [Handlers.Login] for a login that another site begins (OpenID Connect Core
// 1.0, section 4): the page that is registered as the initiate_login_uri. iss must be the
// client's issuer. login_hint is passed on. In the end the browser goes to
// target_link_uri, if that is a page of this application.
func (h *Handlers) Initiate(w http.ResponseWriter, r *http.Request) {
	private(w)
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		notAllowed(w, "GET, POST")
		return
	}
	at, err := h.begin(w, r, func(c *Client, req *AuthRequest) error { return h.initiate(c, r, req) })
	if err != nil {
		h.fail(w, r, err, "login")
		return
	}
	http.Redirect(w, r, at, http.StatusSeeOther)
}

func (h *Handlers) initiate(c *Client, r *http.Request, req *AuthRequest) error {
	q := r.URL.Query()
	if r.Method == http.MethodPost {
		form, err := postForm(r)
		if err != nil {
			return err
		}
		q = form
	}
	if iss := q["iss"]; len(iss) != 1 || iss[0] != c.Provider.Issuer {
		return refuse("iss", "the login is asked for at a server of which this client is not", c.Provider.Issuer, q.Get("iss"))
	}
	if req.LoginHint == "" {
		req.LoginHint = q.Get("login_hint")
	}
	target, err := url.Parse(q.Get("target_link_uri"))
	own, oerr := url.Parse(c.RedirectURL)
	if err == nil && oerr == nil && strings.EqualFold(target.Scheme, own.Scheme) && strings.EqualFold(target.Host, own.Host) {
		req.ReturnTo = h.localPath(target.RequestURI())
	}
	return nil
}

// client returns the one that r is for.
func (h *Handlers) client(r *http.Request, tx *Transaction) (*Client, error) {
	if h.Clients == nil {
		return h.Client, nil
	}
	c, err := h.Clients(r, tx)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, &CheckError{Check: "client", Reason: "there is none for this request"}
	}
	return c, nil
}

// request returns what the login asks for, to be changed by the caller.
func (h *Handlers) request(r *http.Request) (*AuthRequest, error) {
	req := new(AuthRequest)
	if h.Request == nil {
		return req, nil
	}
	made, err := h.Request(r)
	if err == nil && made != nil {
		*req = *made
	}
	return req, err
}

// begin returns where to send the browser; then may change what is asked for.
func (h *Handlers) begin(w http.ResponseWriter, r *http.Request, then func(*Client, *AuthRequest) error) (string, error) {
	if err := h.check(); err != nil {
		return "", err
	}
	c, err := h.client(r, nil)
	if err != nil {
		return "", err
	}
	req, err := h.request(r)
	if err != nil {
		return "", err
	}
	req.ReturnTo = h.localPath(r.URL.Query().Get("return_to"))
	if then != nil {
		if err = then(c, req); err != nil {
			return "", err
		}
	}
	at, tx, err := c.AuthCodeURL(r.Context(), req)
	if err != nil {
		return "", err
	}
	if again := requested(r, c.StrippedPrefix).RequestURI(); r.Method == http.MethodGet && IsLocalPath(again) {
		tx.Again = again
	}
	return at, h.transactions().Keep(r.Context(), w, r, tx)
}

// check looks at what is configured; the errors name the field.
func (h *Handlers) check() error {
	switch {
	case h.Client == nil && h.Clients == nil:
		return errors.New("login: Handlers.Client is nil, and Handlers.Clients too")
	case h.OnLogin == nil:
		return errors.New("login: Handlers.OnLogin is nil")
	}
	return nil
}

// Callback completes a login: it exchanges the response, calls OnLogin, and sends the
// browser to where it wanted to go.
//
// A code is redeemed even if the browser goes away. If the browser repeats its request
// while the first one is under way, or within half a minute after it went away, it gets
// the result. A login that has taken too long begins again at the page where it began,
// with its return_to. So does a login that was answered before, if its cookie comes once
// more. Without the cookie the callback is an error.
func (h *Handlers) Callback(w http.ResponseWriter, r *http.Request) {
	private(w)
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		notAllowed(w, "GET, POST")
		return
	}
	if err := h.check(); err != nil {
		h.fail(w, r, err, "login")
		return
	}
	if r.Method == http.MethodPost {
		// Read before the work goes on without the request.
		_, _ = postForm(r)
	}
	f, at, err := h.redeem(r)
	if f != nil && isEnded(err) && IsLocalPath(f.tx.Again) {
		h.transactions().removeCookie(w, f)
		http.Redirect(w, r, f.tx.Again, http.StatusSeeOther)
		return
	}
	if err == nil {
		h.transactions().removeCookie(w, f)
		h.attempts.take(at)
		if err = h.OnLogin(w, r, at.session); err != nil {
			h.revoke(r.Context(), at.client, at.session.Token) // nobody else knows them
		}
	}
	if err != nil {
		h.fail(w, r, err, "login")
		return
	}
	http.Redirect(w, r, h.localPath(at.session.ReturnTo), http.StatusSeeOther)
}

// redeem exchanges the response, or waits for another request of the same browser
// that does.
func (h *Handlers) redeem(r *http.Request) (*found, *attempt, error) {
	f, err := h.transactions().find(r.Context(), r)
	if f == nil {
		return nil, nil, err
	}
	key := digest.Of(f.name + "=" + f.value)
	at, own := h.attempts.join(key)
	switch {
	case own && err != nil: // there is nothing to wait for
		h.attempts.finish(key, at, nil, err, false, nil)
	case own:
		if gone, rerr := h.redeemOwn(r, f, key, at); !gone { // whatever happens from now on, the result is this request's
			return f, at, rerr
		}
	}
	select {
	case <-at.done:
	case <-r.Context().Done():
	}
	if err := context.Cause(r.Context()); err != nil {
		return f, at, fmt.Errorf("login: %w", err)
	}
	return f, at, at.err
}

// redeemOwn exchanges the response for all who wait. gone reports that this request's
// browser does not.
func (h *Handlers) redeemOwn(r *http.Request, f *found, key string, at *attempt) (gone bool, err error) {
	ctx := context.WithoutCancel(r.Context())
	var s *Session
	result := errors.New("login: Handlers: a function of the application has panicked")
	defer func() { // in any case, or those who wait would do so for ever
		gone, err = r.Context().Err() != nil, result
		h.attempts.finish(key, at, s, err, gone, func(s *Session) { h.revoke(ctx, at.client, s.Token) })
	}()
	if at.client, err = h.client(r, f.tx); err == nil {
		s, err = h.exchange(ctx, r, at.client, f)
	}
	result = err
	return gone, err
}

func (h *Handlers) exchange(ctx context.Context, r *http.Request, c *Client, f *found) (*Session, error) {
	// While the server is out of reach, the login is not spent: the user can
	// reload the page.
	if _, err := c.prepare(ctx, f.tx); err != nil {
		return nil, err
	}
	if err := h.transactions().spend(ctx, f.tx); err != nil {
		return nil, err
	}
	return c.Exchange(ctx, f.tx, r)
}

// Logout ends the session, here and at the server; OnEvent tells of a failed revocation.
// It accepts only a POST from a page of this application, so no other site can log users
// out.
func (h *Handlers) Logout(w http.ResponseWriter, r *http.Request) {
	private(w)
	if r.Method != http.MethodPost {
		notAllowed(w, http.MethodPost)
		return
	}
	if err := h.guard.Check(r); err != nil {
		h.fail(w, r, &CheckError{Check: checkOrigin, Reason: "the logout was asked for by another site"}, "logout")
		return
	}
	if err := h.check(); err != nil {
		h.fail(w, r, err, "logout")
		return
	}
	c, err := h.client(r, nil)
	if err != nil {
		h.fail(w, r, err, "logout")
		return
	}
	var tok *oauth2.Token
	if h.OnLogout != nil {
		if tok, err = h.OnLogout(w, r); err != nil {
			h.fail(w, r, err, "logout")
			return
		}
	}
	if tok != nil {
		h.revoke(r.Context(), c, tok)
	}
	at, err := h.endSession(w, r, c, tok)
	if err != nil {
		h.fail(w, r, err, "logout")
		return
	}
	http.Redirect(w, r, at, http.StatusSeeOther)
}

// endSession returns where to send the browser so that the session at the server ends.
func (h *Handlers) endSession(w http.ResponseWriter, r *http.Request, c *Client, tok *oauth2.Token) (string, error) {
	req := new(LogoutRequest)
	if h.LogoutRequest != nil {
		made, err := h.LogoutRequest(r, tok)
		if err != nil {
			return "", err
		}
		if made != nil {
			*req = *made
		}
	}
	if req.IDToken == "" && tok != nil {
		req.IDToken, _ = rawIDToken(tok)
	}
	if req.RedirectURL == "" {
		req.RedirectURL = h.LoggedOutURL
	}
	if req.RedirectURL != "" && req.State == "" {
		req.State = secret()
		cookie := h.logoutCookie(req.RedirectURL)
		cookie.Value, cookie.MaxAge = digest.Of(req.State), int(c.loginTimeout()/time.Second)
		http.SetCookie(w, cookie)
	}
	at, err := c.LogoutURL(r.Context(), req)
	if err == nil {
		return at, nil
	}
	// The session here is over, which is what was asked for: the browser goes where the
	// server would have sent it.
	back, perr := url.Parse(req.RedirectURL)
	if req.RedirectURL == "" || perr != nil {
		return h.home(), nil //nolint:nilerr // home will do
	}
	return withQuery(back, url.Values{"state": {req.State}})
}

func (h *Handlers) logoutCookie(redirectURL string) *http.Cookie {
	t := h.transactions()
	tx := &Transaction{RedirectURL: redirectURL}
	return t.cookie(strings.TrimSuffix(t.prefix(isHTTPS(redirectURL)), "-")+"_logout", tx)
}

// LoggedOut is the page of LoggedOutURL. It sends a browser to Home if it comes back from a
// logout that it began here. Any other request is an error.
func (h *Handlers) LoggedOut(w http.ResponseWriter, r *http.Request) {
	private(w)
	if r.Method != http.MethodGet {
		notAllowed(w, http.MethodGet)
		return
	}
	cookie := h.logoutCookie(h.LoggedOutURL)
	kept, err := r.Cookie(cookie.Name)
	states := r.URL.Query()["state"]
	if err != nil || len(states) != 1 || !equal(kept.Value, digest.Of(states[0])) {
		h.fail(w, r, &CheckError{Check: "state", Reason: "is not that of a logout of this browser"}, "logout")
		return
	}
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
	http.Redirect(w, r, h.home(), http.StatusSeeOther)
}

// revoke does what can be done in a few seconds. What cannot, ends by itself.
func (h *Handlers) revoke(ctx context.Context, c *Client, tok *oauth2.Token) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
	defer cancel()
	err := c.Revoke(ctx, tok)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) && c.Provider.OnEvent != nil {
		c.Provider.OnEvent(authtrip.Event{Kind: EventRevocationFailed, Requests: 1, Err: err})
	}
}

func (h *Handlers) transactions() *Transactions {
	if h.Transactions == nil {
		return &h.memory
	}
	return h.Transactions
}

func (h *Handlers) home() string {
	if h.Home == "" {
		return "/"
	}
	return h.Home
}

// localPath returns a path of this application: raw if it is one, else Home. A
// browser takes "//host" and "/\host" for another one's.
func (h *Handlers) localPath(raw string) string {
	if !IsLocalPath(raw) {
		return h.home()
	}
	return raw
}

// checkOrigin is the check that a request comes from a page of this application.
const checkOrigin = "origin"

func (h *Handlers) fail(w http.ResponseWriter, r *http.Request, err error, what string) {
	if h.OnError != nil {
		h.OnError(w, r, err)
		return
	}
	status := StatusCode(err)
	text := "The " + what + " failed. Please try again."
	if status == http.StatusForbidden {
		text = "The " + what + " was denied."
	}
	plain(w)
	http.Error(w, text, status)
}
