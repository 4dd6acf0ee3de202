package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"strings"
	"unicode"

	"example.com/authtrip/login"
)

// login logs the user in and keeps the login.
func (p *program) login(ctx context.Context, conf config, args []string) error {
	flags := flag.NewFlagSet("login", flag.ContinueOnError)
	device := flags.Bool("device", false, "log in on another device, where this one has no browser")
	if err := p.parseNone(flags, args); err != nil {
		return err
	}
	a, err := p.account(conf)
	if err != nil {
		return err
	}
	var session *login.Session
	if *device {
		session, err = p.loginElsewhere(ctx, a.client)
	} else {
		session, err = (&login.Loopback{Client: a.client, Open: p.browse, Output: p.err}).Login(ctx)
	}
	if err != nil {
		return err
	}
	src := a.source()
	defer p.end(src)
	if err := src.SetToken(ctx, session.Token); err != nil {
		return err
	}
	fmt.Fprintln(p.err, "Logged in.")
	if session.Token.RefreshToken == "" {
		fmt.Fprintln(p.err, "The provider gave no refresh token: the login will end soon.")
	}
	return nil
}

// loginElsewhere has the user log in on another device (RFC 8628).
func (p *program) loginElsewhere(ctx context.Context, client *login.Client) (*login.Session, error) {
	d, err := client.DeviceAuth(ctx, nil)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(p.err, "Open this page on any device:\n%s\nand type this code there:\n%s\n", printable(d.VerificationURI), printable(d.UserCode))
	return client.DeviceToken(ctx, d, nil)
}

// whoami says who is logged in.
func (p *program) whoami(ctx context.Context, conf config, args []string) error {
	if err := p.parseNone(flag.NewFlagSet("whoami", flag.ContinueOnError), args); err != nil {
		return err
	}
	a, err := p.account(conf)
	if err != nil {
		return err
	}
	src := a.source()
	defer p.end(src)
	info := a.client.UserInfoSource(src)
	info.OnEvent = a.onEvent
	user, err := info.UserInfo(ctx)
	if err != nil {
		return err
	}
	var claims struct {
		Name  string `json:"name"`
		Login string `json:"preferred_username"`
		Email string `json:"email"`
	}
	if err := user.Claims(&claims); err != nil {
		return err
	}
	fmt.Fprintln(p.out, printable(cmp.Or(claims.Name, claims.Login, claims.Email, user.Subject)))
	return nil
}

// printable leaves out what a terminal would take for a command: users choose
// their names.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
