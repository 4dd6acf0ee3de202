package oteltrip_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/oteltrip"
)

// A program usually sets the global providers, and then &oteltrip.Recorder{} is
// enough.
func ExampleRecorder() {
	reader := metric.NewManualReader()
	rec := &oteltrip.Recorder{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))}

	srv := &authtriptest.Server{Rotate: true}
	var network authtriptest.Network
	defer network.Close()
	network.Handle("https://as.example", srv)
	grant := authtrip.RefreshToken(srv.Config("https://as.example"))
	grant.HTTPClient = &http.Client{Transport: &network}
	old := srv.Issue("alice")
	old.Expiry = time.Now() // as if an hour had passed

	src := &authtrip.Source{Refresher: grant, Initial: old, OnEvent: rec.Event}
	client := &http.Client{Transport: &authtrip.Transport{Source: src, Base: &network, OnEvent: rec.Event}}
	resp, err := client.Get("https://as.example" + authtriptest.APIPath)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()

	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		sum, ok := m.Data.(metricdata.Sum[int64])
		for _, p := range sum.DataPoints {
			if ok && p.Value > 0 {
				fmt.Println(m.Name, p.Value, m.Unit, p.Attributes.Encoded(attribute.DefaultEncoder()))
			}
		}
	}
	// Output:
	// authtrip.refreshes 1 {refresh} authtrip.refresh.outcome=refreshed,authtrip.refresh.sent=true
	// authtrip.token.requests 1 {request}
}

// The README's first lines.
func Example_globalProviders() {
	conf, token := new(oauth2.Config), new(oauth2.Token)
	grant := authtrip.RefreshToken(conf)

	rec := &oteltrip.Recorder{} // the global providers; or set MeterProvider and TracerProvider
	src := &authtrip.Source{Refresher: grant, Initial: token, OnEvent: rec.Event}
	client := &http.Client{Transport: &authtrip.Transport{Source: src, OnEvent: rec.Event}}

	_ = client
}
