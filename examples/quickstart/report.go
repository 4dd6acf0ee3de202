package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"example.com/authtrip/examples/internal/provider"
)

// A report says what each step of the program came to, as the provider and the
// API have counted it, and holds that against what is promised.
type report struct {
	w     io.Writer
	env   *environment
	start time.Time
	total numbers
	errs  []error
}

// numbers are what a step came to.
type numbers struct {
	calls     int // that the API answered with what was asked for
	refused   int // that it answered with 401
	tokens    int // token requests
	userInfos int // user info requests
}

func newReport(w io.Writer, env *environment) *report {
	r := &report{w: w, env: env, start: time.Now()}
	r.printf("An OpenID provider and an API run on 127.0.0.1. Access tokens expire after %v,\n", env.lifetime)
	r.printf("refresh tokens are good for one use. %s has logged in.\n\n", login)
	r.printf("%-48s %9s %5s %14s %18s\n", "", "API calls", "401s", "token requests", "user info requests")
	return r
}

// step runs one step, in which at least want token requests have a reason.
func (r *report) step(name string, want int, f func() error) {
	if len(r.errs) > 0 {
		return
	}
	before := r.env.count()
	err := f()
	got := r.env.count().minus(before)
	r.total = r.total.plus(got)
	r.printf("%-48s %9d %5d %14d %18d\n", name, got.calls, got.refused, got.tokens, got.userInfos)
	if err != nil {
		r.fail("%s: %w", name, err)
	}
	if got.tokens < want {
		r.fail("%s: %d token requests arrived, want %d", name, got.tokens, want)
	}
}

// end sums up, or names in its error every promise that was not kept.
func (r *report) end() error {
	s := r.env.provider.Stats()
	if err := errors.Join(append(r.errs, promises(s)...)...); err != nil {
		return err
	}
	r.printf("\nAll %d calls were answered; what got a 401 was sent again with another token.\n", r.total.calls)
	r.printf("After each of them the program asked who the user is: that took %d requests.\n", r.total.userInfos)
	r.printf("Of %d refresh tokens %d were used, each once, and the last one is in use.\n",
		s.RefreshTokensIssued, s.RefreshTokensSpent)
	r.printf("No token was replaced before its time. All of it took %.1f seconds.\n", time.Since(r.start).Seconds())
	return errors.Join(r.errs...) // of writing
}

// promises returns those that were not kept.
func promises(s provider.Stats) []error {
	var errs []error
	broken := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	// The first request of all was the login.
	if n := s.TokenRequests - 1; n != s.RefreshTokensSpent {
		broken("%d token requests for %d refreshes", n, s.RefreshTokensSpent)
	}
	if s.RefreshTokensReused > 0 {
		broken("%d refresh tokens were sent a second time", s.RefreshTokensReused)
	}
	if s.RefreshTokensWasted > 0 {
		broken("%d tokens were replaced before their time", s.RefreshTokensWasted)
	}
	if s.UserInfoRequests > s.TokenRequests {
		broken("%d user info requests with %d access tokens", s.UserInfoRequests, s.TokenRequests)
	}
	return errs
}

func (r *report) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(r.w, format, args...); err != nil {
		r.fail("%w", err)
	}
}

func (r *report) fail(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// count returns what has arrived so far.
func (e *environment) count() numbers {
	s := e.provider.Stats()
	refused := int(e.api.refused.Load())
	return numbers{
		calls:     int(e.api.requests.Load()) - refused,
		refused:   refused,
		tokens:    s.TokenRequests,
		userInfos: s.UserInfoRequests,
	}
}

func (n numbers) plus(m numbers) numbers {
	return numbers{n.calls + m.calls, n.refused + m.refused, n.tokens + m.tokens, n.userInfos + m.userInfos}
}

func (n numbers) minus(m numbers) numbers {
	return numbers{n.calls - m.calls, n.refused - m.refused, n.tokens - m.tokens, n.userInfos - m.userInfos}
}

// atOnce makes n calls at the same time.
func atOnce(ctx context.Context, n int, call func(context.Context) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = call(ctx) })
	}
	wg.Wait()
	var failed int
	var last error
	for _, err := range errs {
		if err != nil {
			failed, last = failed+1, err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d callers failed, one with: %w", failed, n, last)
	}
	return nil
}

// repeat makes calls from n goroutines, each about twenty a second, until done
// says so.
func repeat(ctx context.Context, n int, call func(context.Context) error, done func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("it takes too long"))
	defer cancel()
	return atOnce(ctx, n, func(ctx context.Context) error {
		for !done() {
			if err := call(ctx); err != nil {
				return err
			}
			if err := wait(ctx, time.Second/20); err != nil {
				return err
			}
		}
		return nil
	})
}
