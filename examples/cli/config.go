package main

import (
	"cmp"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/filestore"
	"example.com/authtrip/login"
)

// What the program knows if nobody tells it anything else. One of your own has
// its issuer and its API here, and its users have nothing to configure.
const (
	defaultIssuer = ""
	defaultClient = "cli"
	defaultAPI    = ""
)

// scopes are what a login asks for: who the user is, and a refresh token.
func scopes() []string { return []string{"openid", "profile", "email", "offline_access"} }

// config is where everything is.
type config struct {
	issuer, clientID string
	api              string // where the token may go, and no further
	dir              string // of the login's files
	verbose          bool
}

// environment returns the configuration of the environment variables.
func (p *program) environment() config {
	dir := p.getenv("AUTHTRIP_DIR")
	if base, err := os.UserConfigDir(); dir == "" && err == nil {
		dir = filepath.Join(base, "authtrip-cli")
	}
	return config{
		issuer:   cmp.Or(p.getenv("AUTHTRIP_ISSUER"), defaultIssuer),
		clientID: cmp.Or(p.getenv("AUTHTRIP_CLIENT_ID"), defaultClient),
		api:      cmp.Or(p.getenv("AUTHTRIP_API"), defaultAPI),
		dir:      dir,
	}
}

// define has flags change what the environment says.
func (c *config) define(flags *flag.FlagSet) {
	flags.StringVar(&c.issuer, "issuer", c.issuer, "`URL` of the provider, exactly as it writes it itself (AUTHTRIP_ISSUER)")
	flags.StringVar(&c.clientID, "client", c.clientID, "`ID` of this program at the provider (AUTHTRIP_CLIENT_ID)")
	flags.StringVar(&c.api, "api", c.api, "`URL` of the API (AUTHTRIP_API)")
	flags.StringVar(&c.dir, "dir", c.dir, "`directory` for the login (AUTHTRIP_DIR)")
	flags.BoolVar(&c.verbose, "v", false, "say what happens to the token")
}

// target returns the URL to call: one of the API, or relative to it.
func (c *config) target(raw string) (*url.URL, error) {
	api, err := url.Parse(c.api)
	if err != nil || api.Host == "" {
		return nil, usageError("which API? Set -api or AUTHTRIP_API to its URL")
	}
	u, err := api.Parse(raw)
	if err != nil {
		return nil, usageError("%v", err)
	}
	if u.Scheme != api.Scheme || !strings.EqualFold(u.Host, api.Host) || u.User != nil {
		return nil, usageError("%s is not of the API at %s: the token is not sent there", u.Redacted(), c.api)
	}
	return u, nil
}

// An account is the user's login at the provider, and where it is kept.
type account struct {
	client  *login.Client
	store   *filestore.Store
	key     string // of the login in store
	onEvent func(authtrip.Event)
}

// account makes one of the configuration. Nothing is asked of anybody yet.
func (p *program) account(c config) (*account, error) {
	switch {
	case c.issuer == "":
		return nil, usageError("which provider? Set -issuer or AUTHTRIP_ISSUER, or look at `cli demo`")
	case c.dir == "":
		return nil, usageError("there is no place for the login: set -dir or AUTHTRIP_DIR")
	}
	a := &account{
		store:   &filestore.Store{Dir: c.dir},
		key:     c.issuer + " " + c.clientID, // a login is good for these two only
		onEvent: func(authtrip.Event) {},
	}
	if c.verbose {
		a.onEvent = authtrip.LogEvents(slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, at slog.Attr) slog.Attr {
				if at.Key == slog.TimeKey {
					return slog.Attr{} // whoever reads it is there
				}
				return at
			},
		})))
	}
	a.client = &login.Client{
		Provider: &login.Provider{Issuer: c.issuer, OnEvent: a.onEvent},
		ID:       c.clientID, // and no secret: whoever has the program would have it
		Scopes:   scopes(),
	}
	return a, nil
}

// source returns the login's living token, which the caller ends with
// program.end.
func (a *account) source() *authtrip.Source {
	src := a.client.Source()
	src.Store, src.Key, src.OnEvent = a.store, a.key, a.onEvent
	return src
}

// end waits for a refresh that is under way: one that is cut short by the end of
// the process can lose the login.
func (p *program) end(src *authtrip.Source) {
	slow := time.AfterFunc(time.Second, func() {
		fmt.Fprintln(p.err, "cli: waiting for the end of a refresh; Ctrl-C does not, and may end the session")
	})
	_ = src.Close() // it waits, and cannot fail
	slow.Stop()
}
