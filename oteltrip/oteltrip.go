// Package oteltrip makes OpenTelemetry metrics and spans of the events of package authtrip.
//
//	rec := &oteltrip.Recorder{}
//	src := &authtrip.Source{Refresher: grant, OnEvent: rec.Event}
//	client := &http.Client{Transport: &authtrip.Transport{Source: src, OnEvent: rec.Event}}
//
// # Metrics
//
//	authtrip.refreshes                counter    {refresh}  refreshes of a token, by outcome
//	authtrip.refresh.duration         histogram  s          how long they took, by outcome and error
//	authtrip.token.requests           counter    {request}  what the token endpoint was asked
//	authtrip.token.rejections         counter    {token}    tokens that an API rejected
//	authtrip.logins                   counter    {login}    tokens that came from a login
//	authtrip.logouts                  counter    {session}  sessions that Forget ended
//	authtrip.sessions.expiring        counter    {refresh}  refreshes of sessions that the server ends within a day
//	authtrip.tokens.unsaved           counter    {token}    tokens handed out that a Store did not take
//	authtrip.request.rejections       counter    {request}  API requests whose token was rejected, by outcome
//	authtrip.userinfo.answers         counter    {answer}   user info handed out, by where it came from
//	authtrip.userinfo.stale.age       histogram  s          how old it was where it was an old copy
//	authtrip.userinfo.fetch.duration  histogram  s          user info requests
//	authtrip.userinfo.cache.failures  counter    {failure}  calls of a Cache that failed
//
// A refresh is one attempt to replace a token, which many requests may wait for.
// Its outcome, authtrip.refresh.outcome, is one of
//
//	obtained         there is a token where there was none
//	refreshed        the token was replaced at the first attempt
//	resent           it was replaced, and the answer to an earlier attempt was lost
//	loaded           another process had replaced it already
//	failed           it is tried again later
//	outcome_unknown  the refresh token may have been used, and is sent again later
//	reauth_required  the user has to log in again
//	not_saved        a new token came, and exists in this process's memory only
//
// and authtrip.refresh.sent says whether it asked the token endpoint. After a session has
// ended, every process that asks for its token counts one reauth_required. To count sessions
// that ended, count those where authtrip.refresh.sent is true.
//
// The counters are there from the first event on, at 0, so that the first failure
// is an increase; that of authtrip.userinfo.cache.failures has an error.type and
// comes with it.
//
// A rejected API request has an authtrip.request.outcome: "resent" if it was sent again and
// accepted, "rejected_again" if it was sent again and rejected, "returned" if it was not
// sent again. User info has an authtrip.userinfo.origin: "hit" if it came from memory or a
// Cache, "miss" if it came from the server, "stale" if it was the last good answer.
//
// # Errors
//
// A failure has an error.type, the first of these that there is: an OAuth error code of a
// fixed list; the HTTP status, or "invalid_response" if that is a 2xx; "timeout",
// "connection", "tls", "subject" (user info of another user); "_OTHER". A session that ended
// because an answer was lost has "outcome_unknown". No error text is recorded, as that of a
// third-party Store may name a user.
//
// # Spans
//
// Many requests may wait for one refresh, so an event has no context. "refresh token" and
// "fetch user info" are therefore spans without a parent, with the times that they took. A
// request that was sent again has no span here: an instrumented Base of the Transport makes
// one, under the caller's. An instrumented HTTP client in the Grant shows the token request
// under the span of the request that asked for the refresh first.
package oteltrip

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/authtrip"
)

// scope names this package as the one that records.
const scope = "example.com/authtrip/oteltrip"

// The attributes of the metrics and the spans, beside error.type.
const (
	keyOutcome        = attribute.Key("authtrip.refresh.outcome")
	keySent           = attribute.Key("authtrip.refresh.sent")
	keyRequests       = attribute.Key("authtrip.refresh.requests") // of spans only
	keyRequestOutcome = attribute.Key("authtrip.request.outcome")
	keyOrigin         = attribute.Key("authtrip.userinfo.origin")
)

// A Recorder records events. Its method Event goes into the OnEvent fields of
// package authtrip; one Recorder may serve all of them.
//
// The zero value records with the global providers of package otel, whichever
// they are then. A Recorder is safe for concurrent use, must not be copied, and
// its fields must not be modified after first use. It holds nothing that must be
// closed: the providers are the caller's to shut down.
type Recorder struct {
	// MeterProvider makes the metrics. If nil, it is the global one.
	MeterProvider metric.MeterProvider
	// TracerProvider makes the spans. If nil, it is the global one; that of package
	// trace/noop makes none.
	TracerProvider trace.TracerProvider
	// Attributes go with every metric and span: which provider, which tenant class.
	// Each must have few values. A user's name, or a key that stands for one, must
	// not be among them.
	Attributes []attribute.KeyValue

	prepare sync.Once // of what follows
	with    instruments
	tracer  trace.Tracer
	hit     []metric.AddOption // the options of a hit, made once
}

// Event records e. It never blocks for longer than the providers do, which for
// metrics is not at all; a user info hit costs no allocation.
func (r *Recorder) Event(e authtrip.Event) {
	r.prepare.Do(r.configure)
	ctx := context.Background()
	switch e.Kind {
	case authtrip.EventUserInfoHit:
		r.with.answers.Add(ctx, 1, r.hit...)
	case authtrip.EventUserInfoMiss:
		r.with.answers.Add(ctx, 1, r.set(keyOrigin.String("miss")))
		r.fetch(ctx, e)
	case authtrip.EventUserInfoStale:
		r.with.answers.Add(ctx, 1, r.set(keyOrigin.String("stale")))
		r.with.staleAge.Record(ctx, e.Age.Seconds(), r.set())
	case authtrip.EventUserInfoFailed:
		r.fetch(ctx, e)
	case authtrip.EventUserInfoCacheFailed:
		r.with.cacheFailures.Add(ctx, 1, r.set(errorType(e)))
	case authtrip.EventSessionStarted:
		r.with.logins.Add(ctx, 1, r.set())
	case authtrip.EventSessionLoggedOut:
		r.with.logouts.Add(ctx, 1, r.set())
	case authtrip.EventSessionExpiring:
		r.with.expiring.Add(ctx, 1, r.set())
	case authtrip.EventTokenUnsaved:
		r.with.unsaved.Add(ctx, 1, r.set())
	case authtrip.EventTokenRejected:
		r.with.tokenRejections.Add(ctx, 1, r.set())
	case authtrip.EventRequestRetried:
		r.with.requestRejections.Add(ctx, 1, r.set(keyRequestOutcome.String(retryOutcome(e))))
	case authtrip.EventRequestNotRetried:
		r.with.requestRejections.Add(ctx, 1, r.set(keyRequestOutcome.String("returned")))
	default:
		r.token(ctx, e)
	}
}

// token records what a Source did.
func (r *Recorder) token(ctx context.Context, e authtrip.Event) {
	outcome := refreshOutcome(e)
	if outcome == "" {
		return // a kind of a later version
	}
	sent := e.Requests > 0
	attrs := []attribute.KeyValue{keyOutcome.String(outcome)}
	r.with.refreshes.Add(ctx, 1, r.set(attrs[0], keySent.Bool(sent)))
	r.with.tokenRequests.Add(ctx, int64(e.Requests), r.set())
	if e.Err != nil {
		attrs = append(attrs, errorType(e))
	}
	r.with.refreshDuration.Record(ctx, e.Duration.Seconds(), r.set(attrs...))
	r.span(ctx, "refresh token", e, append(attrs, keySent.Bool(sent), keyRequests.Int(e.Requests)))
}

// fetch records a user info request.
func (r *Recorder) fetch(ctx context.Context, e authtrip.Event) {
	var attrs []attribute.KeyValue
	if e.Err != nil {
		attrs = append(attrs, errorType(e))
	}
	r.with.fetchDuration.Record(ctx, e.Duration.Seconds(), r.set(attrs...))
	r.span(ctx, "fetch user info", e, attrs)
}

// span records what has just ended, and began when it says that it did.
func (r *Recorder) span(ctx context.Context, name string, e authtrip.Event, attrs []attribute.KeyValue) {
	end := time.Now()
	_, span := r.tracer.Start(ctx, name,
		trace.WithNewRoot(),
		trace.WithTimestamp(end.Add(-e.Duration)),
		trace.WithAttributes(r.Attributes...),
		trace.WithAttributes(attrs...),
	)
	if e.StatusCode != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(e.StatusCode))
	}
	if e.Err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(end))
}

// set returns the Recorder's attributes and these as an option.
func (r *Recorder) set(attrs ...attribute.KeyValue) metric.MeasurementOption {
	all := make([]attribute.KeyValue, 0, len(r.Attributes)+len(attrs))
	all = append(append(all, r.Attributes...), attrs...)
	return metric.WithAttributeSet(attribute.NewSet(all...))
}

func (r *Recorder) configure() {
	meters, tracers := r.MeterProvider, r.TracerProvider
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	r.with.make(meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)))
	r.tracer = tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	r.hit = []metric.AddOption{r.set(keyOrigin.String("hit"))}
	r.zero(context.Background())
}

// zero makes the time series of the counters: one that begins with its first
// failure shows no increase.
func (r *Recorder) zero(ctx context.Context) {
	for _, c := range []metric.Int64Counter{r.with.tokenRequests, r.with.tokenRejections, r.with.logins, r.with.logouts, r.with.expiring, r.with.unsaved} {
		c.Add(ctx, 0, r.set())
	}
	for _, outcome := range refreshOutcomes {
		r.with.refreshes.Add(ctx, 0, r.set(keyOutcome.String(outcome), keySent.Bool(true)))
		r.with.refreshes.Add(ctx, 0, r.set(keyOutcome.String(outcome), keySent.Bool(false)))
	}
	for _, outcome := range requestOutcomes {
		r.with.requestRejections.Add(ctx, 0, r.set(keyRequestOutcome.String(outcome)))
	}
	for _, origin := range origins {
		r.with.answers.Add(ctx, 0, r.set(keyOrigin.String(origin)))
	}
}
