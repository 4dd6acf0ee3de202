package main

import (
	"context"
	"flag"
	"fmt"
	"time"
)

// logout ends the login: here, and at the provider if that can be reached.
func (p *program) logout(ctx context.Context, conf config, args []string) error {
	if err := p.parseNone(flag.NewFlagSet("logout", flag.ContinueOnError), args); err != nil {
		return err
	}
	a, err := p.account(conf)
	if err != nil {
		return err
	}
	src := a.source()
	defer p.end(src)
	// Also after Ctrl-C: whoever logs out wants the file gone.
	removed, err := src.Forget(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	if removed == nil {
		fmt.Fprintln(p.err, "Not logged in.")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := a.client.Revoke(ctx, removed); err != nil {
		fmt.Fprintf(p.err, "Logged out here only, as the provider could not be told: %v\n", err)
		return nil
	}
	fmt.Fprintln(p.err, "Logged out.")
	return nil
}
