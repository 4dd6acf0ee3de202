package login

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
)

// A LogoutRequest is what a logout tells the server. The zero value, and nil, tell it
// nothing but the client.
type LogoutRequest struct {
	// IDToken is the raw ID token of the session that is to end. If it is "", the server
	// asks the user whether to log out.
	IDToken string
	// RedirectURL is where the user comes back to, registered with the server.
	RedirectURL string
	// State comes back with the user.
	State string
	// LogoutHint is who probably logs out.
	LogoutHint string
	// UILocales are the languages for the user, best first.
	UILocales []string
	// Params are further parameters, such as returnTo or logout_uri for servers with a
	// logout of their own kind. A parameter that has a field above cannot be among them.
	Params url.Values
	// Endpoint is where to log out at a server whose metadata does not say. If "", it is
	// the end_session_endpoint.
	Endpoint string
}

// Format implements [fmt.Formatter]: it prints nothing that is in r.
func (r LogoutRequest) Format(s fmt.State, _ rune) { blank(s, "login.LogoutRequest") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in r.
func (r LogoutRequest) LogValue() slog.Value { return slog.StringValue("login.LogoutRequest{…}") }

// LogoutURL returns the URL to send the user to, to end the session at the server (OpenID
// Connect RP-Initiated Logout 1.0, section 2). The application has to end its own session
// itself.
//
// Its errors are those of [Provider.Metadata]; one that wraps
// [errors.ErrUnsupported] says that the server cannot do it.
func (c *Client) LogoutURL(ctx context.Context, req *LogoutRequest) (string, error) {
	if req == nil {
		req = new(LogoutRequest)
	}
	m, err := c.metadata(ctx)
	if err != nil {
		return "", err
	}
	endpoint, err := c.endSession(m, req.Endpoint)
	if err != nil {
		return "", err
	}
	q := url.Values{"client_id": {c.ID}}
	for name, value := range map[string]string{
		"id_token_hint":            req.IDToken,
		"post_logout_redirect_uri": req.RedirectURL,
		"state":                    req.State,
		"logout_hint":              req.LogoutHint,
		"ui_locales":               strings.Join(req.UILocales, " "),
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, values := range req.Params {
		switch name {
		case "client_id", "id_token_hint", "post_logout_redirect_uri", "state", "logout_hint", "ui_locales":
			return "", fmt.Errorf("login: LogoutRequest.Params: %s has a field of its own", name)
		}
		q[name] = values
	}
	return withQuery(endpoint, q)
}

func (c *Client) endSession(m *Metadata, endpoint string) (*url.URL, error) {
	if endpoint == "" {
		return c.Provider.endpoint(m, endpointEndSession, false)
	}
	return checkURL("LogoutRequest.Endpoint", endpoint, c.Provider.local(), c.Provider.AllowInsecureHTTP)
}
