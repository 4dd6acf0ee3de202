package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/authtrip/examples/internal/provider"
)

func TestRun(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("run() = %v after\n%s", err, &out)
	}
	t.Logf("\n%s", &out)
	// The numbers are calls, 401s, token requests, user info requests. A machine so
	// slow that a step takes a token's life may need another token; run has seen to
	// it that none was replaced without need.
	rows := regexp.MustCompile(`(?m)^(.*?) +(\d+) +(\d+) +(\d+) +(\d+)$`).FindAllStringSubmatch(out.String(), -1)
	if len(rows) != 4 {
		t.Fatalf("%d rows, want 4", len(rows))
	}
	spent := 0
	for i, want := range []struct{ calls, refused, tokens int }{{100, 0, 0}, {50, 0, 2}, {100, 0, 1}, {100, 1, 1}} {
		calls, refused, tokens, userInfos := number(t, rows[i][2]), number(t, rows[i][3]), number(t, rows[i][4]), number(t, rows[i][5])
		if calls < want.calls || i != 1 && calls != want.calls {
			t.Errorf("%s: %d calls, want %d", rows[i][1], calls, want.calls)
		}
		if refused < want.refused || refused > calls {
			t.Errorf("%s: %d 401s, want at least %d, and one per call at most", rows[i][1], refused, want.refused)
		}
		if tokens < want.tokens {
			t.Errorf("%s: %d token requests, want %d", rows[i][1], tokens, want.tokens)
		}
		if userInfos > 1+tokens {
			t.Errorf("%s: %d user info requests, want one per access token at most", rows[i][1], userInfos)
		}
		spent += tokens
	}
	summary := "Of " + strconv.Itoa(spent+1) + " refresh tokens " + strconv.Itoa(spent) + " were used, each once"
	if !strings.Contains(out.String(), summary) {
		t.Errorf("summary lacks %q", summary)
	}
	if token := regexp.MustCompile(`[A-Za-z0-9_.-]{24,}`).FindString(out.String()); token != "" {
		t.Errorf("the output has %q in it, which may be a token", token)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRunIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupt := errors.New("interrupted")
	w := writerFunc(func(p []byte) (int, error) {
		cancel(interrupt)
		return len(p), nil
	})
	if err := run(ctx, w); !errors.Is(err, interrupt) && !errors.Is(err, context.Canceled) {
		t.Errorf("run() = %v, want %v", err, interrupt)
	}
}

func TestRunCannotWrite(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	if err := run(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("run() = %v, want %v", err, full)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestPromises(t *testing.T) {
	t.Parallel()
	kept := provider.Stats{TokenRequests: 5, UserInfoRequests: 4, RefreshTokensIssued: 5, RefreshTokensSpent: 4}
	if errs := promises(kept); errs != nil {
		t.Errorf("promises(%+v) = %v, want none broken", kept, errs)
	}
	for _, test := range []struct {
		name  string
		spoil func(*provider.Stats)
		want  string
	}{
		{"a token request too many", func(s *provider.Stats) { s.TokenRequests++ }, "token requests"},
		{"a refresh token sent twice", func(s *provider.Stats) { s.RefreshTokensReused++ }, "second time"},
		{"a refresh without need", func(s *provider.Stats) { s.RefreshTokensWasted++ }, "before their time"},
		{"user info asked again and again", func(s *provider.Stats) { s.UserInfoRequests = 400 }, "user info"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := kept
			test.spoil(&s)
			if err := errors.Join(promises(s)...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("promises(%+v) = %v, want an error with %q", s, err, test.want)
			}
		})
	}
}

// TestReportNoticesACallThatFails runs a step whose calls the API refuses, as they
// have no token.
func TestReportNoticesACallThatFails(t *testing.T) {
	t.Parallel()
	env, err := start(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(env)
	var out bytes.Buffer
	r := newReport(&out, env)
	r.step("no token", 0, func() error {
		return atOnce(t.Context(), 3, func(ctx context.Context) error {
			return get(ctx, http.DefaultClient, env.api.url+"/hello")
		})
	})
	r.step("not done", 0, func() error {
		t.Error("a step after one that failed was run")
		return nil
	})
	if err := r.end(); err == nil || !strings.Contains(err.Error(), "3 of 3 callers failed") {
		t.Errorf("end() = %v, want all three to have failed", err)
	}
	if strings.Contains(out.String(), "were answered") {
		t.Error("the report says that all was well")
	}
}
