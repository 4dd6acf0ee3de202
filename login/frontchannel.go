package login

import (
	"errors"
	"net/http"
	"net/url"
)

// FrontChannelLogout is the page that a server shows in a frame of its own when it logs a
// user out (OpenID Connect Front-Channel Logout 1.0). It is registered with the server as
// the frontchannel_logout_uri, with frontchannel_logout_session_required:
//
//	mux.Handle("GET /frontchannel-logout", &login.FrontChannelLogout{Client: client, OnLogout: end})
//
// Nothing that the server sends here is signed, and most browsers send no cookies from
// another site's frame. Use [BackChannelLogout], which does not depend on a browser, if the
// server has it. Client or Clients, and OnLogout, are required. It is safe for concurrent
// use if its functions are, and must not be modified after first use.
type FrontChannelLogout struct {
	// Client is the application.
	Client *Client
	// Clients, if set, returns the client of an issuer, nil if there is none.
	Clients func(r *http.Request, issuer string) (*Client, error)
	// OnLogout ends the one session with that issuer and sid (a claim of its ID token), and
	// no other. Any page that the user opens can make this request, if it knows the sid.
	OnLogout func(w http.ResponseWriter, r *http.Request, issuer, sid string) error
	// OnError, if set, is told why a logout was not done.
	OnError func(r *http.Request, err error)
}

// ServeHTTP implements [http.Handler]. The page is empty.
func (h *FrontChannelLogout) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	private(w)
	if r.Method != http.MethodGet {
		notAllowed(w, http.MethodGet)
		return
	}
	if err := h.logout(w, r); err != nil {
		if h.OnError != nil {
			h.OnError(r, err)
		}
		plain(w)
		http.Error(w, "The logout failed.", StatusCode(err))
	}
}

func (h *FrontChannelLogout) logout(w http.ResponseWriter, r *http.Request) error {
	if h.OnLogout == nil {
		return errors.New("login: FrontChannelLogout.OnLogout is nil")
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(q["iss"]) != 1 || len(q["sid"]) != 1 || q.Get("iss") == "" || q.Get("sid") == "" {
		return &CheckError{Check: "logout", Reason: "iss or sid is missing, or there twice"}
	}
	c := h.Client
	if h.Clients != nil {
		if c, err = h.Clients(r, q.Get("iss")); err != nil {
			return err
		}
	}
	switch {
	case c == nil && h.Clients == nil:
		return errors.New("login: FrontChannelLogout.Client is nil")
	case c == nil:
		return &CheckError{Check: "logout iss", Reason: "is no server of this application"}
	}
	if err = c.Provider.check(); err != nil {
		return err
	}
	if q.Get("iss") != c.Provider.Issuer {
		return refuse("logout iss", "is another server's", c.Provider.Issuer, q.Get("iss"))
	}
	// The page is for a frame of the server, and for nobody else's.
	server, err := url.Parse(c.Provider.Issuer)
	if err != nil {
		return errors.New("login: Provider.Issuer is not a URL")
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors "+server.Scheme+"://"+server.Host)
	if err = h.OnLogout(w, r, q.Get("iss"), q.Get("sid")); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write(nil)
	return err
}
