package oteltrip_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otelmetric "go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/authtrip"
	"example.com/authtrip/oteltrip"
)

// cases are what becomes of events: the time series that change, and the span.
var cases = []struct {
	name  string
	event authtrip.Event
	want  map[string]int64
	span  string
}{
	{
		name:  "a login",
		event: authtrip.Event{Kind: authtrip.EventSessionStarted},
		want:  map[string]int64{"authtrip.logins": 1},
	},
	{
		name:  "a logout",
		event: authtrip.Event{Kind: authtrip.EventSessionLoggedOut},
		want:  map[string]int64{"authtrip.logouts": 1},
	},
	{
		name:  "a session that ends soon",
		event: authtrip.Event{Kind: authtrip.EventSessionExpiring},
		want:  map[string]int64{"authtrip.sessions.expiring": 1},
	},
	{
		name:  "a first token from a grant",
		event: authtrip.Event{Kind: authtrip.EventTokenObtained, Duration: time.Second, Requests: 1},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=obtained authtrip.refresh.sent=true": 1,
			"authtrip.refresh.duration authtrip.refresh.outcome=obtained":                     1,
			"authtrip.token.requests": 1,
		},
		span: "refresh token authtrip.refresh.outcome=obtained authtrip.refresh.sent=true authtrip.refresh.requests=1",
	},
	{
		name:  "a first token from the Store",
		event: authtrip.Event{Kind: authtrip.EventTokenObtained, Duration: time.Millisecond},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=obtained authtrip.refresh.sent=false": 1,
			"authtrip.refresh.duration authtrip.refresh.outcome=obtained":                      1,
		},
		span: "refresh token authtrip.refresh.outcome=obtained authtrip.refresh.sent=false authtrip.refresh.requests=0",
	},
	{
		name:  "a refresh",
		event: authtrip.Event{Kind: authtrip.EventTokenRefreshed, Duration: time.Second, Requests: 1},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=refreshed authtrip.refresh.sent=true": 1,
			"authtrip.refresh.duration authtrip.refresh.outcome=refreshed":                     1,
			"authtrip.token.requests": 1,
		},
		span: "refresh token authtrip.refresh.outcome=refreshed authtrip.refresh.sent=true authtrip.refresh.requests=1",
	},
	{
		name:  "a refresh of which the first answer was lost",
		event: authtrip.Event{Kind: authtrip.EventTokenRefreshed, Duration: time.Second, Requests: 3},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=resent authtrip.refresh.sent=true": 1,
			"authtrip.refresh.duration authtrip.refresh.outcome=resent":                     1,
			"authtrip.token.requests": 3,
		},
		span: "refresh token authtrip.refresh.outcome=resent authtrip.refresh.sent=true authtrip.refresh.requests=3",
	},
	{
		name:  "somebody else's token",
		event: authtrip.Event{Kind: authtrip.EventTokenLoaded, Duration: time.Millisecond},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=loaded authtrip.refresh.sent=false": 1,
			"authtrip.refresh.duration authtrip.refresh.outcome=loaded":                      1,
		},
		span: "refresh token authtrip.refresh.outcome=loaded authtrip.refresh.sent=false authtrip.refresh.requests=0",
	},
	{
		name: "a server that is busy",
		event: authtrip.Event{
			Kind: authtrip.EventRefreshFailed, Duration: time.Second, Requests: 1, StatusCode: 429,
			Err: &authtrip.RefreshError{StatusCode: 429, Err: errors.New("busy")},
		},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=failed authtrip.refresh.sent=true": 1,
			"authtrip.refresh.duration authtrip.refresh.outcome=failed error.type=429":      1,
			"authtrip.token.requests": 1,
		},
		span: "refresh token authtrip.refresh.outcome=failed error.type=429 authtrip.refresh.sent=true authtrip.refresh.requests=1 http.response.status_code=429",
	},
	{
		name:  "a refresh without an answer",
		event: authtrip.Event{Kind: authtrip.EventRefreshUnknown, Duration: time.Second, Requests: 3, Err: fmt.Errorf("%w: %w", authtrip.ErrInDoubt, io.EOF)},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=outcome_unknown authtrip.refresh.sent=true":   1,
			"authtrip.refresh.duration authtrip.refresh.outcome=outcome_unknown error.type=connection": 1,
			"authtrip.token.requests": 3,
		},
		span: "refresh token authtrip.refresh.outcome=outcome_unknown error.type=connection authtrip.refresh.sent=true authtrip.refresh.requests=3",
	},
	{
		name: "the end of a login",
		event: authtrip.Event{
			Kind: authtrip.EventReauthRequired, Duration: time.Second, Requests: 1, StatusCode: 400, Code: "invalid_grant",
			Err: authtrip.ErrReauthRequired,
		},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=reauth_required authtrip.refresh.sent=true":      1,
			"authtrip.refresh.duration authtrip.refresh.outcome=reauth_required error.type=invalid_grant": 1,
			"authtrip.token.requests": 1,
		},
		span: "refresh token authtrip.refresh.outcome=reauth_required error.type=invalid_grant authtrip.refresh.sent=true authtrip.refresh.requests=1 http.response.status_code=400",
	},
	{
		name: "a login that had ended before",
		event: authtrip.Event{
			Kind: authtrip.EventReauthRequired, Duration: time.Millisecond, StatusCode: 400, Code: "invalid_grant",
			Err: authtrip.ErrReauthRequired,
		},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=reauth_required authtrip.refresh.sent=false":     1,
			"authtrip.refresh.duration authtrip.refresh.outcome=reauth_required error.type=invalid_grant": 1,
		},
		span: "refresh token authtrip.refresh.outcome=reauth_required error.type=invalid_grant authtrip.refresh.sent=false authtrip.refresh.requests=0 http.response.status_code=400",
	},
	{
		name:  "a token in memory only",
		event: authtrip.Event{Kind: authtrip.EventTokenNotSaved, Duration: time.Second, Requests: 1, Err: authtrip.ErrNotSaved},
		want: map[string]int64{
			"authtrip.refreshes authtrip.refresh.outcome=not_saved authtrip.refresh.sent=true": 1,
			"authtrip.refresh.duration authtrip.refresh.outcome=not_saved error.type=_OTHER":   1,
			"authtrip.token.requests": 1,
		},
		span: "refresh token authtrip.refresh.outcome=not_saved error.type=_OTHER authtrip.refresh.sent=true authtrip.refresh.requests=1",
	},
	{
		name:  "a token that is used unsaved",
		event: authtrip.Event{Kind: authtrip.EventTokenUnsaved, Err: errors.New("no Store")},
		want:  map[string]int64{"authtrip.tokens.unsaved": 1},
	},
	{
		name:  "a refused token",
		event: authtrip.Event{Kind: authtrip.EventTokenRejected},
		want:  map[string]int64{"authtrip.token.rejections": 1},
	},
	{
		name:  "a request that was sent again",
		event: authtrip.Event{Kind: authtrip.EventRequestRetried, Duration: time.Second, StatusCode: 503},
		want:  map[string]int64{"authtrip.request.rejections authtrip.request.outcome=retried": 1},
	},
	{
		name:  "a request that was refused twice",
		event: authtrip.Event{Kind: authtrip.EventRequestRetried, Duration: time.Second, StatusCode: 401},
		want:  map[string]int64{"authtrip.request.rejections authtrip.request.outcome=rejected_again": 1},
	},
	{
		name:  "a refusal that the caller got",
		event: authtrip.Event{Kind: authtrip.EventRequestNotRetried, StatusCode: 403, Err: errors.New("more")},
		want:  map[string]int64{"authtrip.request.rejections authtrip.request.outcome=returned": 1},
	},
	{
		name:  "user info from memory",
		event: authtrip.Event{Kind: authtrip.EventUserInfoHit, Age: time.Minute},
		want:  map[string]int64{"authtrip.userinfo.answers authtrip.userinfo.origin=hit": 1},
	},
	{
		name:  "user info from the server",
		event: authtrip.Event{Kind: authtrip.EventUserInfoMiss, Duration: time.Second},
		want: map[string]int64{
			"authtrip.userinfo.answers authtrip.userinfo.origin=miss": 1,
			"authtrip.userinfo.fetch.duration":                        1,
		},
		span: "fetch user info",
	},
	{
		name:  "an old copy",
		event: authtrip.Event{Kind: authtrip.EventUserInfoStale, Age: time.Hour, Err: errors.New("down")},
		want: map[string]int64{
			"authtrip.userinfo.answers authtrip.userinfo.origin=stale": 1,
			"authtrip.userinfo.stale.age":                              1,
		},
	},
	{
		name:  "a fetch that failed",
		event: authtrip.Event{Kind: authtrip.EventUserInfoFailed, Duration: time.Second, StatusCode: 503, Err: &authtrip.UserInfoError{StatusCode: 503, Err: errors.New("down")}},
		want:  map[string]int64{"authtrip.userinfo.fetch.duration error.type=503": 1},
		span:  "fetch user info error.type=503 http.response.status_code=503",
	},
	{
		name:  "user info of somebody else, at once",
		event: authtrip.Event{Kind: authtrip.EventUserInfoFailed, Err: &authtrip.SubjectError{Want: "alice", Got: "mallory"}},
		want:  map[string]int64{"authtrip.userinfo.fetch.duration error.type=subject": 1},
		span:  "fetch user info error.type=subject",
	},
	{
		name:  "a Cache that failed",
		event: authtrip.Event{Kind: authtrip.EventUserInfoCacheFailed, Err: errors.New("down")},
		want:  map[string]int64{"authtrip.userinfo.cache.failures error.type=_OTHER": 1},
	},
	{
		name:  "a kind of a later version",
		event: authtrip.Event{Kind: "later", Duration: time.Second},
		want:  map[string]int64{},
	},
}

func TestEachEventIsRecorded(t *testing.T) {
	t.Parallel()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench()
			b.Event(c.event)
			if got := b.series(t); !maps.Equal(got, c.want) {
				t.Errorf("series = %v\nwant     %v", got, c.want)
			}
			var spans []string
			for _, s := range b.spans.GetSpans() {
				spans = append(spans, strings.Join(append([]string{s.Name}, spanLabels(s)...), " "))
			}
			if got := strings.Join(spans, "; "); got != c.span {
				t.Errorf("span = %q\nwant   %q", got, c.span)
			}
		})
	}
}

func spanLabels(s tracetest.SpanStub) []string {
	var all []string
	for _, kv := range s.Attributes {
		all = append(all, string(kv.Key)+"="+kv.Value.String())
	}
	return all
}

func TestEveryKindHasACase(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds(t) {
		recorded := false
		for _, c := range cases {
			recorded = recorded || c.event.Kind == kind && len(c.want) > 0
		}
		if !recorded {
			t.Errorf("events of kind %s are not recorded: decide what they mean to an operator", kind)
		}
	}
}

func TestSpanHasTheTimesOfTheEventAndNoParent(t *testing.T) {
	t.Parallel()
	b := newBench()
	before := time.Now()
	b.Event(authtrip.Event{Kind: authtrip.EventRefreshFailed, Duration: 3 * time.Second, Requests: 1, Err: errors.New("no")})
	b.Event(authtrip.Event{Kind: authtrip.EventTokenRefreshed, Duration: time.Second, Requests: 1})
	after := time.Now()
	spans := b.spans.GetSpans()
	for i, want := range []struct {
		took   time.Duration
		status codes.Code
	}{{3 * time.Second, codes.Error}, {time.Second, codes.Unset}} {
		s := spans[i]
		if got := s.EndTime.Sub(s.StartTime); got != want.took {
			t.Errorf("span took %v, want %v", got, want.took)
		}
		if s.EndTime.Before(before) || s.EndTime.After(after) {
			t.Errorf("span ended at %v, want between %v and %v", s.EndTime, before, after)
		}
		if s.Parent.IsValid() {
			t.Error("span has a parent")
		}
		if s.Status.Code != want.status || s.Status.Description != "" {
			t.Errorf("status = %v, want %v without a text", s.Status, want.status)
		}
	}
}

// TestCardinality lets servers say what they like.
func TestCardinality(t *testing.T) {
	t.Parallel()
	b := newBench()
	errs := []error{nil, io.EOF, authtrip.ErrInDoubt, context.DeadlineExceeded, &net.OpError{Op: "dial", Err: io.EOF}, &tls.CertificateVerificationError{Err: io.EOF}}
	for _, kind := range append(kinds(t), "later") {
		for status := range 1200 {
			for i, err := range errs {
				e := authtrip.Event{Kind: kind, StatusCode: status, Requests: i % 4, Duration: time.Duration(i) * time.Hour, Err: err}
				b.Event(e)
				e.Code = fmt.Sprintf("code_%d", status)
				b.Event(e)
			}
		}
		b.spans.Reset()
	}
	// 8 outcomes times sent or not; each outcome with each error or none.
	errorTypes := 20 + 62 + len([]string{"invalid_response", "timeout", "tls", "connection", "subject", "outcome_unknown", "_OTHER"})
	bounds := map[string]int{
		"authtrip.refreshes":               16,
		"authtrip.refresh.duration":        8 * (errorTypes + 1),
		"authtrip.token.requests":          1,
		"authtrip.token.rejections":        1,
		"authtrip.logins":                  1,
		"authtrip.logouts":                 1,
		"authtrip.sessions.expiring":       1,
		"authtrip.tokens.unsaved":          1,
		"authtrip.request.rejections":      3,
		"authtrip.userinfo.answers":        3,
		"authtrip.userinfo.stale.age":      1,
		"authtrip.userinfo.fetch.duration": errorTypes + 1,
		"authtrip.userinfo.cache.failures": errorTypes,
	}
	for _, m := range b.metrics(t) {
		n := 0
		each(m.Data, func(attrs attribute.Set, _ int64) {
			n++
			if attrs.HasValue("otel.metric.overflow") {
				t.Errorf("%s has so many time series that some were dropped", m.Name)
			}
		})
		if bound := bounds[m.Name]; n > bound || bound == 0 {
			t.Errorf("%s has %d time series, want %d at most", m.Name, n, bound)
		}
	}
}

func TestErrorTypes(t *testing.T) {
	t.Parallel()
	wrapped := func(err error) error { return &authtrip.RefreshError{Err: fmt.Errorf("no answer: %w", err)} }
	for _, c := range []struct {
		want  string
		event authtrip.Event
	}{
		{"invalid_client", authtrip.Event{StatusCode: 401, Code: "invalid_client"}},
		{"400", authtrip.Event{StatusCode: 400, Code: "made_up"}},
		{"503", authtrip.Event{StatusCode: 503}},
		{"invalid_response", authtrip.Event{StatusCode: 200}},
		{"_OTHER", authtrip.Event{StatusCode: 799}},
		{"timeout", authtrip.Event{Err: wrapped(context.DeadlineExceeded)}},
		{"timeout", authtrip.Event{Err: wrapped(&net.DNSError{IsTimeout: true})}},
		{"connection", authtrip.Event{Err: wrapped(&net.DNSError{IsNotFound: true})}},
		{"connection", authtrip.Event{Err: wrapped(&net.OpError{Op: "read", Err: errors.New("reset")})}},
		{"connection", authtrip.Event{Err: wrapped(io.ErrUnexpectedEOF)}},
		{"tls", authtrip.Event{Err: wrapped(&tls.CertificateVerificationError{Err: errors.New("expired")})}},
		{"_OTHER", authtrip.Event{Err: wrapped(errors.New("what is this"))}},
	} {
		c.event.Kind, c.event.Duration = authtrip.EventRefreshFailed, time.Second
		if c.event.Err == nil {
			c.event.Err = errors.New("no")
		}
		b := newBench()
		b.Event(c.event)
		name := "authtrip.refresh.duration authtrip.refresh.outcome=failed error.type=" + c.want
		if got := b.series(t); got[name] != 1 {
			t.Errorf("series = %v, want %s", got, name)
		}
	}
	b := newBench()
	b.Event(authtrip.Event{
		Kind: authtrip.EventReauthRequired, Duration: time.Second, Requests: 2, StatusCode: 400, Code: "invalid_grant",
		Err: fmt.Errorf("%w: %w", authtrip.ErrReauthRequired, authtrip.ErrInDoubt),
	})
	if got := b.series(t); got["authtrip.refresh.duration authtrip.refresh.outcome=reauth_required error.type=outcome_unknown"] != 1 {
		t.Errorf("series = %v, want error.type=outcome_unknown: the server refused what it had taken before", got)
	}
}

func TestCountersBeginAtZero(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.Event(authtrip.Event{Kind: authtrip.EventTokenRejected})
	n := make(map[string]int)
	for _, m := range b.metrics(t) {
		each(m.Data, func(attribute.Set, int64) { n[m.Name]++ })
	}
	want := map[string]int{
		"authtrip.refreshes":          16,
		"authtrip.token.requests":     1,
		"authtrip.token.rejections":   1,
		"authtrip.logins":             1,
		"authtrip.logouts":            1,
		"authtrip.sessions.expiring":  1,
		"authtrip.tokens.unsaved":     1,
		"authtrip.request.rejections": 3,
		"authtrip.userinfo.answers":   3,
	}
	if !maps.Equal(n, want) {
		t.Errorf("time series after one event = %v\nwant %v", n, want)
	}
}

func TestAttributesGoWithEverything(t *testing.T) {
	t.Parallel()
	b := newBench(attribute.String("provider", "example"))
	for _, c := range cases {
		b.Event(c.event)
	}
	for _, m := range b.metrics(t) {
		each(m.Data, func(attrs attribute.Set, _ int64) {
			if !slices.Contains(labels(attrs), "provider=example") {
				t.Errorf("%s has %v, want provider", m.Name, labels(attrs))
			}
		})
	}
	for _, s := range b.spans.GetSpans() {
		if !slices.Contains(spanLabels(s), "provider=example") {
			t.Errorf("span %s has %v, want provider", s.Name, spanLabels(s))
		}
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	t.Parallel()
	b := newBench()
	for _, c := range cases {
		b.Event(c.event)
	}
	metrics := b.metrics(t)
	if len(metrics) != 13 {
		t.Errorf("%d metrics, want 13", len(metrics))
	}
	for _, m := range metrics {
		if !strings.HasPrefix(m.Name, "authtrip.") || strings.HasSuffix(m.Name, ".total") || strings.ToLower(m.Name) != m.Name {
			t.Errorf("name %s", m.Name)
		}
		seconds := strings.HasSuffix(m.Name, ".duration") || strings.HasSuffix(m.Name, ".age")
		if seconds != (m.Unit == "s") || !seconds && (m.Unit[0] != '{' || !strings.HasSuffix(m.Unit, "}")) {
			t.Errorf("%s has unit %q", m.Name, m.Unit)
		}
		if !strings.HasSuffix(m.Description, ".") {
			t.Errorf("%s has description %q", m.Name, m.Description)
		}
		each(m.Data, func(attrs attribute.Set, _ int64) {
			for _, kv := range attrs.ToSlice() {
				if kv.Key != "error.type" && !strings.HasPrefix(string(kv.Key), "authtrip.") {
					t.Errorf("%s has attribute %s", m.Name, kv.Key)
				}
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for _, c := range cases {
				b.Event(c.event)
			}
		})
	}
	wg.Wait()
	if got := b.series(t)["authtrip.logins"]; got != 16 {
		t.Errorf("logins = %d, want 16", got)
	}
}

// The global providers are set once in this test binary.
func TestZeroRecorderUsesTheGlobalProviders(t *testing.T) {
	b := newBench()
	var rec oteltrip.Recorder
	rec.Event(authtrip.Event{Kind: authtrip.EventTokenRejected}) // goes nowhere yet
	otel.SetMeterProvider(b.MeterProvider)
	otel.SetTracerProvider(b.TracerProvider)
	rec.Event(authtrip.Event{Kind: authtrip.EventTokenRefreshed, Duration: time.Second, Requests: 1})
	if got := b.series(t)["authtrip.token.requests"]; got != 1 {
		t.Errorf("token requests = %d, want 1", got)
	}
	if got := len(b.spans.GetSpans()); got != 1 {
		t.Errorf("%d spans, want 1", got)
	}
}

// brokenMeters make no instrument.
type (
	brokenMeters struct{ metricnoop.MeterProvider }
	brokenMeter  struct{ metricnoop.Meter }
)

func (brokenMeters) Meter(string, ...otelmetric.MeterOption) otelmetric.Meter { return brokenMeter{} }

func (brokenMeter) Int64Counter(string, ...otelmetric.Int64CounterOption) (otelmetric.Int64Counter, error) {
	return nil, errors.New("broken")
}

func (brokenMeter) Float64Histogram(string, ...otelmetric.Float64HistogramOption) (otelmetric.Float64Histogram, error) {
	return nil, errors.New("broken")
}

func TestBrokenProviderEndsNoProgram(t *testing.T) {
	rec := oteltrip.Recorder{MeterProvider: brokenMeters{}, TracerProvider: newBench().TracerProvider}
	var reported sync.Map
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { reported.Store(err.Error(), true) }))
	for _, c := range cases {
		rec.Event(c.event)
	}
	if _, ok := reported.Load("broken"); !ok {
		t.Error("the error was not reported")
	}
}
