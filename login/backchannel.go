package login

import (
	"context"
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
	"example.com/authtrip/internal/exact"
	"example.com/authtrip/internal/wire"
)

// A LogoutToken says that sessions have ended at the server. It is verified (OpenID Connect
// Back-Channel Logout 1.0, section 2.4).
type LogoutToken struct {
	// Issuer is the server.
	Issuer string
	// SessionID is the sid of the one session that has ended, a claim of its ID token. If
	// "", all sessions of Subject have ended.
	SessionID string
	// Subject is the user; "" if the server names only the session.
	Subject string
	// ID is the jti, and IssuedAt the iat.
	ID       string
	IssuedAt time.Time
}

// Format implements [fmt.Formatter]: it prints nothing that is in t.
func (t LogoutToken) Format(s fmt.State, _ rune) { blank(s, "login.LogoutToken") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in t.
func (t LogoutToken) LogValue() slog.Value { return slog.StringValue("login.LogoutToken{…}") }

const (
	eventLogout     = "http://schemas.openid.net/event/backchannel-logout"
	typeLogoutToken = "logout+jwt"
	// logoutLife is how old a logout token may be that does not say when it expires.
	logoutLife = 5 * time.Minute
	// maxLogoutLife bounds what a server may say, and how long a jti is remembered.
	maxLogoutLife = 24 * time.Hour
)

// logoutClaims are the claims of a logout token.
type logoutClaims struct {
	wire.IDClaims
	SessionID string                     `json:"sid"`
	ID        string                     `json:"jti"`
	IssuedAt  *float64                   `json:"iat"`
	Expiry    *float64                   `json:"exp"`
	Events    map[string]json.RawMessage `json:"events"`
}

// VerifyLogoutToken verifies a logout token. It does not notice that the token was sent
// before: [BackChannelLogout] does.
//
// Its errors are *[CheckError], and those of [Provider.Metadata]. Rule 66.
func (c *Client) VerifyLogoutToken(ctx context.Context, raw string) (*LogoutToken, error) {
	t, _, err := c.verifyLogout(ctx, raw)
	return t, err
}

// verifyLogout returns the token and when it expires.
func (c *Client) verifyLogout(ctx context.Context, raw string) (*LogoutToken, time.Time, error) {
	var none time.Time
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, none, err
	}
	jws, payload, err := c.verifyJWT(ctx, m, raw, "logout_token", c.idTokenAlgs(m))
	if err != nil {
		return nil, none, err
	}
	typ, _ := jws.Signatures[0].Header.ExtraHeaders["typ"].(string)
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case typeLogoutToken, "jwt", "": // JWT is what is said where no type is
	default:
		return nil, none, refuse("logout_token typ", "is not that of a logout token", typeLogoutToken, typ)
	}
	claims := new(logoutClaims)
	if err = exact.Decode(payload, claims, claimMatters); err != nil {
		return nil, none, &CheckError{Check: "logout_token claims", Reason: "cannot be read", Err: err}
	}
	ends, err := c.checkLogout(claims, payload)
	if err != nil {
		return nil, none, err
	}
	return &LogoutToken{
		Issuer: claims.Issuer, SessionID: claims.SessionID, Subject: claims.Subject,
		ID: claims.ID, IssuedAt: seconds(*claims.IssuedAt),
	}, ends, nil
}

// checkLogout is section 2.6. A token without exp counts for a few minutes.
func (c *Client) checkLogout(claims *logoutClaims, payload []byte) (ends time.Time, err error) {
	wrong := func(claim, reason string) (time.Time, error) {
		return time.Time{}, &CheckError{Check: "logout_token " + claim, Reason: reason}
	}
	all, _, err := exact.Members(payload)
	_, hasNonce := all["nonce"]
	event := strings.TrimSpace(string(claims.Events[eventLogout]))
	now := time.Now()
	switch {
	case err != nil:
		return wrong("claims", "cannot be read")
	case claims.Issuer == "":
		return wrong("iss", "is missing")
	case len(claims.Audience) == 0:
		return wrong("aud", "is missing")
	case !strings.HasPrefix(event, "{"):
		return wrong("events", "has no logout")
	case hasNonce:
		return wrong("nonce", "is there, as in an ID token")
	case claims.Subject == "" && claims.SessionID == "":
		return wrong("sub", "is missing, and sid too")
	case claims.ID == "":
		return wrong("jti", "is missing")
	}
	return c.checkLogoutTimes(claims, now)
}

func (c *Client) checkLogoutTimes(claims *logoutClaims, now time.Time) (time.Time, error) {
	if claims.IssuedAt == nil {
		return time.Time{}, &CheckError{Check: "logout_token iat", Reason: "is missing"}
	}
	issued := seconds(*claims.IssuedAt)
	ends := issued.Add(logoutLife)
	if claims.Expiry != nil {
		ends = seconds(*claims.Expiry)
	}
	if latest := issued.Add(maxLogoutLife); ends.After(latest) {
		ends = latest
	}
	switch ends = ends.Add(c.skew()); {
	case issued.After(now.Add(c.skew())):
		return ends, refuse("logout_token iat", "is in the future", "not after "+stamp(now), stamp(issued))
	case !now.Before(ends):
		return ends, refuse("logout_token exp", "is over", "later than "+stamp(now), stamp(ends))
	}
	return ends, nil
}

// BackChannelLogout is the page at which the server says that sessions have ended
// (OpenID Connect Back-Channel Logout 1.0). It is registered with the server as the
// backchannel_logout_uri:
//
//	mux.Handle("POST /backchannel-logout", &login.BackChannelLogout{Client: client, OnLogout: end})
//
// The request does not come from a browser. So it has no cookie of a session, and needs
// no protection against other sites. Client or Clients, and OnLogout, are required. It is
// safe for concurrent use if its functions are, must not be copied, and its fields must
// not be modified after first use.
type BackChannelLogout struct {
	// Client is the application.
	Client *Client
	// Clients, if set, returns the client of an issuer, nil if there is none. The issuer is
	// from a token that is not verified yet.
	Clients func(ctx context.Context, issuer string) (*Client, error)
	// OnLogout ends the sessions that t names and no others: the application's own, and with
	// [authtrip.Source.Forget] those in a Store. After an error the server may send t again.
	OnLogout func(ctx context.Context, t *LogoutToken) error
	// Cache remembers the logout tokens that were seen, for all processes that share it. If
	// nil, each process remembers its own.
	Cache authtrip.Cache
	// OnError, if set, is told why a token was not accepted.
	OnError func(r *http.Request, err error)

	memory authtrip.MemoryCache
	mu     sync.Mutex // makes look and mark of a jti one step
}

// ServeHTTP implements [http.Handler].
func (h *BackChannelLogout) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		notAllowed(w, http.MethodPost)
		return
	}
	err := h.logout(r)
	if err == nil {
		w.WriteHeader(http.StatusOK)
		return
	}
	if h.OnError != nil {
		h.OnError(r, err)
	}
	// Section 2.8 has this status also for a logout that failed here.
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	code := "invalid_request"
	if _, ok := errors.AsType[*CheckError](err); !ok {
		code = "server_error"
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code})
}

func (h *BackChannelLogout) logout(r *http.Request) error {
	if h.OnLogout == nil {
		return errors.New("login: BackChannelLogout.OnLogout is nil")
	}
	form, err := postForm(r)
	if err != nil {
		return err
	}
	if len(form["logout_token"]) != 1 {
		return &CheckError{Check: "logout_token", Reason: "is missing, or there twice"}
	}
	raw := form.Get("logout_token")
	c, err := h.client(r.Context(), raw)
	if err != nil {
		return err
	}
	t, ends, err := c.verifyLogout(r.Context(), raw)
	if err != nil {
		return err
	}
	key := "logout:" + digest.Of(t.Issuer, c.ID, t.ID)
	if err = h.see(r.Context(), key, time.Until(ends)); err != nil {
		return err
	}
	done := false
	defer h.forget(r.Context(), key, &done)
	if err = h.OnLogout(r.Context(), t); err != nil {
		return fmt.Errorf("login: BackChannelLogout.OnLogout: %w", err)
	}
	done = true
	return nil
}

// forget is for a token whose logout was not done, also if OnLogout has panicked: the server
// may send it again.
func (h *BackChannelLogout) forget(ctx context.Context, key string, done *bool) {
	if !*done {
		_ = h.cache().Set(context.WithoutCancel(ctx), key, nil, 0)
	}
}

// client returns the one that the token is for, if what it says is true.
func (h *BackChannelLogout) client(ctx context.Context, raw string) (*Client, error) {
	if h.Clients == nil {
		if h.Client == nil {
			return nil, errors.New("login: BackChannelLogout.Client is nil")
		}
		return h.Client, nil
	}
	claims, err := unverified(raw)
	if err != nil {
		return nil, &CheckError{Check: "logout_token", Reason: "is not a signed JWT"}
	}
	c, err := h.Clients(ctx, claims.Issuer)
	if err != nil {
		return nil, fmt.Errorf("login: BackChannelLogout.Clients: %w", err)
	}
	if c == nil {
		return nil, &CheckError{Check: "logout_token iss", Reason: "is no server of this application"}
	}
	return c, nil
}

// see notes a token, and refuses one that was there before.
func (h *BackChannelLogout) see(ctx context.Context, key string, ttl time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.cache().Get(ctx, key)
	switch {
	case err == nil:
		return &CheckError{Check: "logout_token jti", Reason: "was there before"}
	case !errors.Is(err, authtrip.ErrNotFound):
		return fmt.Errorf("login: BackChannelLogout.Cache: %w", err)
	}
	if err = h.cache().Set(ctx, key, []byte{1}, ttl); err != nil {
		return fmt.Errorf("login: BackChannelLogout.Cache: %w", err)
	}
	return nil
}

func (h *BackChannelLogout) cache() authtrip.Cache {
	if h.Cache == nil {
		return &h.memory
	}
	return h.Cache
}
