package oteltrip

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

type instruments struct {
	refreshes         metric.Int64Counter
	refreshDuration   metric.Float64Histogram
	tokenRequests     metric.Int64Counter
	tokenRejections   metric.Int64Counter
	logins            metric.Int64Counter
	logouts           metric.Int64Counter
	expiring          metric.Int64Counter
	unsaved           metric.Int64Counter
	requestRejections metric.Int64Counter
	answers           metric.Int64Counter
	staleAge          metric.Float64Histogram
	fetchDuration     metric.Float64Histogram
	cacheFailures     metric.Int64Counter
}

// The bounds of the histograms, in seconds; a View can give others. The first ten
// are those of HTTP clients in the semantic conventions. A refresh may wait for that of
// another process, RefreshTimeout and five seconds, and then take as long itself.
var (
	httpBounds    = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	refreshBounds = append(httpBounds[:len(httpBounds):len(httpBounds)], 15, 30, 45, 70)
	ageBounds     = []float64{60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600}
)

func (i *instruments) make(m metric.Meter) {
	i.refreshes = counter(m, "authtrip.refreshes", "{refresh}",
		"Attempts to replace a token, by what they came to.")
	i.refreshDuration = histogram(m, "authtrip.refresh.duration", refreshBounds,
		"Duration of refreshes of a token, waiting for other processes and for the Store included.")
	i.tokenRequests = counter(m, "authtrip.token.requests", "{request}",
		"Requests to the token endpoint.")
	i.tokenRejections = counter(m, "authtrip.token.rejections", "{token}",
		"Access tokens that an API rejected with status 401.")
	i.logins = counter(m, "authtrip.logins", "{login}",
		"Tokens that came from a login.")
	i.logouts = counter(m, "authtrip.logouts", "{session}",
		"Sessions that Forget ended.")
	i.expiring = counter(m, "authtrip.sessions.expiring", "{refresh}",
		"Refreshes of sessions that the server ends within a day.")
	i.unsaved = counter(m, "authtrip.tokens.unsaved", "{token}",
		"Tokens that the Store did not take, and that were handed out all the same.")
	i.requestRejections = counter(m, "authtrip.request.rejections", "{request}",
		"API requests whose token was rejected, by outcome.")
	i.answers = counter(m, "authtrip.userinfo.answers", "{answer}",
		"User info that was handed out, by where it came from.")
	i.staleAge = histogram(m, "authtrip.userinfo.stale.age", ageBounds,
		"Age of user info that was handed out because no newer could be had.")
	i.fetchDuration = histogram(m, "authtrip.userinfo.fetch.duration", httpBounds,
		"Duration of user info requests.")
	i.cacheFailures = counter(m, "authtrip.userinfo.cache.failures", "{failure}",
		"Calls of a user info Cache, or of Users, that failed.")
}

// counter returns an instrument that can be used whatever happens: telemetry that
// does not work must not end a program.
func counter(m metric.Meter, name, unit, description string) metric.Int64Counter {
	c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	if err != nil {
		otel.Handle(err)
	}
	if c == nil {
		return noop.Int64Counter{}
	}
	return c
}

// histogram is counter for a distribution of seconds.
func histogram(m metric.Meter, name string, bounds []float64, description string) metric.Float64Histogram {
	h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(bounds...))
	if err != nil {
		otel.Handle(err)
	}
	if h == nil {
		return noop.Float64Histogram{}
	}
	return h
}
