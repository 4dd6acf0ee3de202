// Weblogin is a small web application to begin your own with. Its users log in at
// one of several OpenID providers and see what an API keeps for them; the tokens stay on the
// server, where they are refreshed while the pages are open.
//
// Without a configuration two providers and an API run in the same process:
//
//	go run ./weblogin
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for requests to end
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	err := run(ctx, os.Getenv, os.Stdout, log)
	stop()
	if err != nil {
		log.Error("weblogin has ended", "err", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, getenv func(string) string, out io.Writer, log *slog.Logger) (err error) {
	conf, err := readConfig(getenv, log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", conf.addr)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // serve has closed it, unless it was not reached
	if len(conf.providers) == 0 {
		slog.SetDefault(slog.New(slog.DiscardHandler)) // where the provider's library logs
		var d *demo
		if d, err = startDemo(conf.baseURL, demoLifetime); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		conf = d.configure(conf)
		fmt.Fprintf(out, "Log in as %q with the password %q.\n", demoLogin, demoPassword)
	}
	a, err := newApp(conf, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	fmt.Fprintf(out, "The application is at %s\n", conf.baseURL)
	return serve(ctx, listener, a.handler(), log)
}

// serve answers requests until ctx ends, and then those that have begun.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      requestTimeout + 10*time.Second, // the page that says so has to get through
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
