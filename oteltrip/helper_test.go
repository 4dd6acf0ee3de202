package oteltrip_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/authtrip"
	"example.com/authtrip/oteltrip"
)

// A bench is a Recorder and what it records.
type bench struct {
	*oteltrip.Recorder
	reader *metric.ManualReader
	spans  *tracetest.InMemoryExporter
}

func newBench(attrs ...attribute.KeyValue) *bench {
	b := &bench{reader: metric.NewManualReader(), spans: tracetest.NewInMemoryExporter()}
	b.Recorder = &oteltrip.Recorder{
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(b.reader)),
		TracerProvider: trace.NewTracerProvider(trace.WithSyncer(b.spans)),
		Attributes:     attrs,
	}
	return b
}

// metrics collects what there is.
func (b *bench) metrics(t testing.TB) []metricdata.Metrics {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := b.reader.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	var all []metricdata.Metrics
	for _, scope := range rm.ScopeMetrics {
		all = append(all, scope.Metrics...)
	}
	return all
}

// series returns the value of each time series, a histogram's being its count, by
// a name such as
//
//	authtrip.refreshes authtrip.refresh.outcome=failed authtrip.refresh.sent=true
//
// Those that are 0 are not among them.
func (b *bench) series(t testing.TB) map[string]int64 {
	t.Helper()
	all := make(map[string]int64)
	for _, m := range b.metrics(t) {
		each(m.Data, func(attrs attribute.Set, value int64) {
			if value != 0 {
				all[strings.Join(append([]string{m.Name}, labels(attrs)...), " ")] = value
			}
		})
	}
	return all
}

func each(data metricdata.Aggregation, f func(attrs attribute.Set, value int64)) {
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			f(p.Attributes, p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			f(p.Attributes, int64(p.Count)) //nolint:gosec // a test counts few
		}
	default:
		panic(fmt.Sprintf("data of type %T", data))
	}
}

func labels(attrs attribute.Set) []string {
	var all []string
	for _, kv := range attrs.ToSlice() {
		all = append(all, string(kv.Key)+"="+kv.Value.String())
	}
	return all
}

// everything is all text that was recorded.
func (b *bench) everything(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("%+v\n%+v", b.metrics(t), b.spans.GetSpans())
}

// kinds returns the kinds of events that package authtrip declares.
func kinds(t *testing.T) []authtrip.EventKind {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []authtrip.EventKind
	for _, decl := range file.Decls {
		consts, ok := decl.(*ast.GenDecl)
		if !ok || consts.Tok != token.CONST {
			continue
		}
		for _, spec := range consts.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if name, isIdent := v.Type.(*ast.Ident); !ok || !isIdent || name.Name != "EventKind" {
				continue
			}
			lit, ok := v.Values[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s is no literal", v.Names[0])
			}
			kind, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, authtrip.EventKind(kind))
		}
	}
	if len(all) < 14 {
		t.Fatalf("only %d kinds found", len(all))
	}
	return all
}
