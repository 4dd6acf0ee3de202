// Probe finds out by asking how an authorization server treats tokens, and prints the settings
// of package authtrip that fit.
//
//	AUTHTRIP_CLIENT_SECRET=… probe -issuer https://as.example -client-id app -api https://api.example/me
//
// It logs in with the browser, says what it does while it does it, and asks before anything that
// ends a session. It never prints a token, a code, a verifier, a secret or the name of a user, and
// takes no secret as a flag. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/oauth2"

	"example.com/authtrip/login"
	"example.com/authtrip/probe/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	p := &program{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, browse: openBrowser}
	info, err := os.Stdin.Stat()
	p.asks = err == nil && info.Mode()&os.ModeCharDevice != 0
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// A program is one invocation and what it finds around itself.
type program struct {
	in       io.Reader
	out, err io.Writer
	asks     bool // whether there is somebody to ask
	getenv   func(string) string
	browse   func(ctx context.Context, at string) error
}

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// run runs the command line and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	conf, err := p.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(p.err, "probe:", err)
		return exitUsage
	}
	probe, end, err := p.probe(ctx, conf)
	if err != nil {
		fmt.Fprintln(p.err, "probe:", err)
		return exitUsage
	}
	report, err := probe.Run(ctx)
	end()
	if werr := p.write(conf, report); werr != nil && err == nil {
		err = werr
	}
	if err != nil {
		fmt.Fprintln(p.err, err)
		return exitFailed
	}
	return 0
}

// probe makes the Probe that the flags describe. end must be called when it is done.
func (p *program) probe(ctx context.Context, conf *config) (probe *measure.Probe, end func(), err error) {
	client, err := conf.client(p.getenv)
	if err != nil {
		return nil, nil, err
	}
	probe = &measure.Probe{
		Client:     client,
		Request:    &login.AuthRequest{Prompt: conf.prompt},
		API:        conf.api,
		Sessions:   conf.sessions,
		GraceLimit: conf.graceLimit,
		Allow:      p.allow(conf),
		Progress:   func(line string) { fmt.Fprintln(p.err, "·", line) },
	}
	end = func() {}
	switch conf.login {
	case "device":
		probe.Device = p.showCode
	case "loopback":
		d, derr := newDesk(ctx, conf.addr, conf.path)
		if derr != nil {
			return nil, nil, derr
		}
		client.RedirectURL, end = d.url, d.close
		probe.Authorize = d.authorize(p.show)
	}
	return probe, end, nil
}

// show opens the browser, and prints the URL for a user whose browser does not open.
func (p *program) show(ctx context.Context, at string) {
	if err := p.browse(ctx, at); err != nil {
		fmt.Fprintf(p.err, "Open this page to log in:\n%s\n", at)
		return
	}
	fmt.Fprintf(p.err, "Log in with the browser. If it does not open, go to:\n%s\n", at)
}

func (p *program) showCode(_ context.Context, d *oauth2.DeviceAuthResponse) error {
	fmt.Fprintf(p.err, "Open %s on any device, and type %s.\n", d.VerificationURI, d.UserCode)
	return nil
}

// write prints the report.
func (p *program) write(conf *config, r *measure.Report) error {
	switch {
	case conf.json:
		out := json.NewEncoder(p.out)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(struct {
			*measure.Report
			Settings string `json:"settings"`
		}{r, r.Literal()})
	case conf.row != "":
		_, err := fmt.Fprintln(p.out, r.MarkdownRow(conf.row))
		return err
	}
	if err := r.WriteTable(p.out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.out, "\nThe settings that fit, to paste:\n\n%s", r.Literal())
	return err
}
