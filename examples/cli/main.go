// Cli is a command-line program for an HTTP API whose users log in: with the
// browser, or on another device. It keeps the login in a file that only its user
// can read, and any number of its processes share it, also at the moment when the
// token has to be replaced.
//
// Without a configuration it shows itself: it starts a provider and an API on loopback
// addresses, and plays a terminal session with them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for a refresh to end
	p := &program{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// A program is one invocation and what it finds around itself.
type program struct {
	in       io.Reader
	out, err io.Writer // results, and everything that is said beside them
	getenv   func(string) string
	browse   func(ctx context.Context, url string) error // if nil, a browser
}

const usage = `usage: cli [flags] command

commands:
  login [-device]      log in with the browser, or on another device
  whoami               say who is logged in
  call [flags] URL     call the API; see cli call -h
  logout               end the session, here and at the server
  demo                 show all of that, with a server on localhost

flags, and the environment variables that do the same:
`

// run runs one command line and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	conf := p.environment()
	flags := flag.NewFlagSet("cli", flag.ContinueOnError)
	conf.define(flags)
	err := p.parse(flags, args, usage)
	if err == nil {
		err = p.command(ctx, conf, flags.Args())
	}
	if err != nil && ctx.Err() != nil {
		err = errInterrupted
	}
	line, code := advice(err)
	if line != "" {
		fmt.Fprintln(p.err, "cli:", line)
	}
	return code
}

func (p *program) command(ctx context.Context, conf config, args []string) error {
	switch {
	case len(args) > 0:
	case conf.issuer == "":
		fmt.Fprintln(p.err, "cli: nothing is configured, so this is the demo; see `cli -h`")
		args = []string{"demo"}
	default:
		return usageError("which command? See `cli -h`")
	}
	name, args := args[0], args[1:]
	switch name {
	case "login":
		return p.login(ctx, conf, args)
	case "whoami":
		return p.whoami(ctx, conf, args)
	case "call":
		return p.call(ctx, conf, args)
	case "logout":
		return p.logout(ctx, conf, args)
	case "demo":
		return p.demo(ctx, args)
	}
	return usageError("there is no command %q: see `cli -h`", name)
}

// parse parses flags. What is wrong with them is one line, for advice; -h prints
// the whole usage.
func (p *program) parse(flags *flag.FlagSet, args []string, usage string) error {
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.out, usage)
		flags.SetOutput(p.out)
		flags.PrintDefaults()
		return err
	case err != nil:
		return usageError("%v", err)
	}
	return nil
}

// parseNone parses the arguments of a command that takes none beside its flags.
func (p *program) parseNone(flags *flag.FlagSet, args []string) error {
	name := flags.Name()
	if err := p.parse(flags, args, "usage: cli "+name+"\n"); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return usageError("cli %s takes no arguments", name)
	}
	return nil
}
