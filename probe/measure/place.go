package measure

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/wire"
)

// requestTimeout is how long one request to an API may take.
const requestTimeout = 10 * time.Second

// A place takes access tokens.
type place struct {
	name string
	said *Replies
}

// tells reports whether a place tells good tokens from others.
func (p *place) tells() bool {
	return p != nil && p.said.Good != nil && p.said.Good.Status < 300 && !p.said.Blind
}

// askPlaces asks the API and the user info endpoint with a good token, one that is made up, and
// none.
func (r *run) askPlaces(ctx context.Context, s *session) {
	if r.API != "" {
		r.api = r.place(ctx, "api", r.API, s.tok)
		r.report.API = r.api.said
	}
	at := r.meta.UserInfoEndpoint
	if at == "" || r.grantType() == "client_credentials" {
		return
	}
	r.info = r.place(ctx, "userinfo", at, s.tok)
	r.report.UserInfoReplies = r.info.said
	r.readUser(ctx, s)
}

func (r *run) place(ctx context.Context, name, at string, tok *oauth2.Token) *place {
	r.say("%s: asking with a good token, a made-up one, and none", name)
	p := &place{name, &Replies{URL: plainURL(at)}}
	p.said.Good = r.ask(ctx, at, tok.AccessToken)
	p.said.MadeUp = r.ask(ctx, at, rand.Text()+rand.Text())
	p.said.None = r.ask(ctx, at, "")
	switch good := p.said.Good; {
	case good == nil:
		r.report.missing(name, "it does not answer")
	case good.Status >= 300:
		r.report.missing(name, "a good token gets "+good.String())
	case p.said.MadeUp != nil && *p.said.MadeUp == *good:
		p.said.Blind = true
	}
	return p
}

// plainURL is a URL without what could be secret.
func plainURL(at string) string {
	u, err := url.Parse(at)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// ask sends one GET, with a token unless it is "". It returns nil if there was no answer.
func (r *run) ask(ctx context.Context, at, token string) *Reply {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.rec.RoundTrip(req)
	if err != nil {
		return nil
	}
	_ = resp.Body.Close()
	reply := &Reply{Status: resp.StatusCode}
	if all := authtrip.Challenges(resp.Header); len(all) > 0 {
		reply.Challenge = showable(all[0].Scheme)
		if all[0].Error != "" {
			reply.Challenge += " " + wire.Code(all[0].Error)
		}
	}
	return reply
}

// alive reports whether an access token counts, where somebody can tell: the API, as it is
// what a program calls, else user info, else introspection.
func (r *run) alive(ctx context.Context, tok *oauth2.Token) Answer {
	if !tok.Expiry.IsZero() && time.Until(tok.Expiry) < 3*time.Second {
		return "" // its end would say nothing
	}
	for _, p := range []*place{r.api, r.info} {
		if !p.tells() {
			continue
		}
		reply := r.ask(ctx, r.urlOf(p), tok.AccessToken)
		switch {
		case reply == nil:
		case reply.Status < 300:
			return Yes
		case reply.Status == http.StatusUnauthorized || reply.Status == http.StatusForbidden:
			return No
		}
	}
	if !r.introspects {
		return ""
	}
	if i, err := r.client.Introspect(ctx, tok.AccessToken); err == nil {
		return answer(i.Active)
	}
	return ""
}

// dead is the opposite of alive.
func (r *run) dead(ctx context.Context, tok *oauth2.Token) Answer {
	switch r.alive(ctx, tok) {
	case Yes:
		return No
	case No:
		return Yes
	}
	return ""
}

func (r *run) urlOf(p *place) string {
	if p == r.api {
		return r.API
	}
	return r.meta.UserInfoEndpoint
}

// readUser reads user info as a program would, and keeps the names of what is in it.
func (r *run) readUser(ctx context.Context, s *session) {
	facts := &r.report.UserInfo
	if facts.Works = answer(r.info.said.Good != nil && r.info.said.Good.Status < 300); facts.Works == No {
		if g := r.info.said.Good; g != nil && (g.Status == 404 || g.Status == 405 || g.Status >= 500) {
			r.report.broken("userinfo_endpoint", g.String())
		}
		return
	}
	if s.id == nil {
		n := r.rec.lastOf(r.meta.UserInfoEndpoint)
		facts.Own = named(n.members, nil)
		return
	}
	src := r.client.UserInfoSource(oauth2.StaticTokenSource(s.tok))
	defer func() { _ = src.Close() }()
	info, err := src.UserInfo(ctx)
	n := r.rec.lastOf(r.meta.UserInfoEndpoint)
	facts.Kind = "JSON"
	if strings.HasPrefix(n.header.Get("Content-Type"), "application/jwt") {
		facts.Kind = "JWT"
	}
	if _, other := errors.AsType[*authtrip.SubjectError](err); other {
		facts.SubFits = No
	}
	if err != nil {
		facts.Error = err.Error()
		return
	}
	facts.SubFits = Yes
	var claims map[string]any
	if info.Claims(&claims) != nil {
		return
	}
	names := slices.Sorted(maps.Keys(claims))
	facts.Own = named(names, knownClaims)
	for _, name := range names {
		if slices.Contains(knownClaims, name) {
			facts.Members = append(facts.Members, name)
		}
	}
}

// OpenID Connect Core, section 5.1; 5.6.2; and what a JWT has.
var knownClaims = []string{ //nolint:gochecknoglobals // never written to
	"sub", "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture",
	"website", "email", "email_verified", "gender", "birthdate", "zoneinfo", "locale", "phone_number",
	"phone_number_verified", "address", "updated_at", "_claim_names", "_claim_sources", "iss", "aud", "exp", "iat",
}
