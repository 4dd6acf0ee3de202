// Quickstart shows what authtrip does. It starts a real OpenID provider and an
// API on this machine, logs a user in, and calls the API hundreds of times while
// the access token gets old, ends and is revoked, and each refresh token can be
// spent only once. Then it says what arrived at the provider.
//
// It takes about seven seconds, needs no network and no arguments, and fails if
// a number is not what authtrip promises.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"example.com/authtrip"
)

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where the provider's library logs
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	// A provider whose access tokens live for two seconds, and an API that asks it
	// about every token it gets.
	env, err := start(2 * time.Second)
	if err != nil {
		return err
	}
	defer closeAll(env)

	// A user logs in, with nothing but golang.org/x/oauth2: conf is an
	// *oauth2.Config, token an *oauth2.Token.
	conf := env.config()
	token, err := env.logIn(ctx, conf)
	if err != nil {
		return err
	}

	// This is all there is to set up. OnEvent is for this program only, which wants
	// to know when the token was replaced.
	var renewed atomic.Int64
	src := &authtrip.Source{
		Refresher: authtrip.RefreshToken(conf),
		Initial:   token,
		OnEvent: func(e authtrip.Event) {
			if e.Kind == authtrip.EventTokenRefreshed {
				renewed.Add(1)
			}
		},
	}
	client := &http.Client{Transport: &authtrip.Transport{Source: src}}
	user := &authtrip.UserInfoSource{URL: env.provider.UserInfoURL(), Source: src}
	defer closeAll(user, src)

	// And this is what the program does all the time, not knowing of tokens: ask
	// the API for something, and who the user is.
	call := func(ctx context.Context) error {
		if err := get(ctx, client, env.api.url+"/hello"); err != nil {
			return err
		}
		_, err := user.UserInfo(ctx)
		return err
	}

	r := newReport(w, env)
	r.step("100 calls at once, just logged in", 0, func() error {
		return atOnce(ctx, 100, call)
	})
	r.step("8 callers, until the token was replaced twice", 2, func() error {
		before := renewed.Load() // on a slow machine it is not 0
		return repeat(ctx, 8, call, func() bool { return renewed.Load() >= before+2 })
	})
	r.step("100 calls at once, after the token has ended", 1, func() error {
		if err := untilEnded(ctx, src); err != nil {
			return err
		}
		return atOnce(ctx, 100, call)
	})
	r.step("100 calls at once, after the token was revoked", 1, func() error {
		if err := env.revoke(ctx, conf, src); err != nil {
			return err
		}
		return atOnce(ctx, 100, call)
	})
	return r.end()
}
