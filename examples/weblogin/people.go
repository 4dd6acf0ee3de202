package main

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.com/authtrip"
)

// A person is what a page says of the user.
type person struct {
	Name, Initials string
	Picture        string // a URL; "" if there is none
	PictureOrigin  string // the only place from which the page may load it
}

// people knows the users, from what the provider says of them. That is asked for
// once in a while and kept.
type people struct {
	info  map[string]*authtrip.UserInfoSource // by issuer
	users *authtrip.Users
	log   *slog.Logger
}

func newPeople(all services, tokens *authtrip.Sources, cache authtrip.Cache, log *slog.Logger) *people {
	p := &people{info: make(map[string]*authtrip.UserInfoSource), users: &authtrip.Users{Cache: cache}, log: log}
	for _, s := range all {
		info := s.client.UserInfoSource(tokens)
		info.Cache, info.Users, info.OnEvent = cache, p.users, authtrip.LogEvents(log)
		p.info[s.client.Provider.Issuer] = info
	}
	return p
}

// Close waits for requests in flight.
func (p *people) Close() error {
	var errs []error
	for _, info := range p.info {
		errs = append(errs, info.Close())
	}
	return errors.Join(errs...)
}

// get says who has the session. If the provider cannot say, the record of the user
// can, or the person has no name for once. The error is that of the token.
func (p *people) get(ctx context.Context, sess *session) (person, error) {
	info, err := p.info[sess.Issuer].UserInfo(authtrip.WithKey(ctx, sess.tokenKey()))
	if errors.Is(err, authtrip.ErrReauthRequired) {
		return person{}, err
	}
	if err == nil && (info.Issuer != sess.Issuer || info.Subject != sess.Subject) {
		err = errors.New("the token is of another user than the session")
	}
	if err != nil {
		p.log.Warn("the provider does not say who the user is", "err", err)
		info, err = p.users.Get(ctx, sess.Issuer, sess.Subject)
	}
	if err != nil {
		return person{Name: "Your account"}, nil //nolint:nilerr // a page without a name is better than none
	}
	var claims struct {
		Name    string `json:"name"`
		Login   string `json:"preferred_username"`
		Picture string `json:"picture"`
	}
	if err := info.Claims(&claims); err != nil {
		return person{}, err
	}
	return newPerson(claims.Name, claims.Login, claims.Picture), nil
}

func newPerson(name, login, picture string) person {
	if name == "" {
		name = login
	}
	if name == "" {
		return person{Name: "Your account"}
	}
	p := person{Name: name, Initials: initials(name)}
	if origin := pictureOrigin(picture); origin != "" {
		p.Picture, p.PictureOrigin = picture, origin
	}
	return p
}

// initials returns the first letters of the first and of the last word.
func initials(name string) string {
	words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsMark(r) })
	if len(words) > 2 {
		words = []string{words[0], words[len(words)-1]}
	}
	var s strings.Builder
	for _, w := range words {
		r, _ := utf8.DecodeRuneInString(w)
		s.WriteRune(unicode.ToUpper(r))
	}
	return s.String()
}

// plainHost is a host that can stand in a Content-Security-Policy. A URL may have
// a ";" in its host, which would begin a directive of its own.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$`)

// pictureOrigin returns where a picture is, as a Content-Security-Policy wants to
// have it, and "" for what is no picture that a page should show.
func pictureOrigin(picture string) string {
	u, err := url.Parse(picture)
	if err != nil || !plainHost.MatchString(u.Host) || u.User != nil {
		return ""
	}
	if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "127.0.0.1") {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
