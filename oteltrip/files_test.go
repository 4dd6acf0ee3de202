package oteltrip_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.yaml.in/yaml/v3"
)

// vocabulary is what the package exports, in the names that Prometheus gives it.
type vocabulary struct {
	metrics map[string]string          // series name to metric name
	labels  map[string]map[string]bool // label to its values
}

func newVocabulary(t *testing.T) vocabulary {
	t.Helper()
	b := newBench()
	for _, c := range cases {
		b.Event(c.event)
	}
	names := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	labelNames := otlptranslator.LabelNamer{}
	v := vocabulary{metrics: map[string]string{}, labels: map[string]map[string]bool{"job": nil, "le": nil}}
	for _, m := range b.metrics(t) {
		var kind otlptranslator.MetricType = otlptranslator.MetricTypeMonotonicCounter
		suffixes := []string{""}
		if _, ok := m.Data.(metricdata.Histogram[float64]); ok {
			kind, suffixes = otlptranslator.MetricTypeHistogram, []string{"_bucket", "_count", "_sum"}
		}
		name, err := names.Build(otlptranslator.Metric{Name: m.Name, Unit: m.Unit, Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		for _, suffix := range suffixes {
			v.metrics[name+suffix] = m.Name
		}
		each(m.Data, func(attrs attribute.Set, _ int64) {
			for _, kv := range attrs.ToSlice() {
				label, err := labelNames.Build(string(kv.Key))
				if err != nil {
					t.Fatal(err)
				}
				if v.labels[label] == nil {
					v.labels[label] = map[string]bool{}
				}
				v.labels[label][kv.Value.String()] = true
			}
		})
	}
	// Codes that no case has; TestErrorTypes and the list in the code have them.
	for _, code := range []string{"invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request"} {
		v.labels["error_type"][code] = true
	}
	return v
}

var (
	selector = regexp.MustCompile(`\{([^}]*)\}`)
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	word     = regexp.MustCompile(`\b[a-z_]+_[a-z_]+\b`)
)

// check holds that an expression names only what there is, and returns the metrics
// that it names.
func (v vocabulary) check(t *testing.T, where, expr string) []string {
	t.Helper()
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[1], -1) {
			values, ok := v.labels[m[1]]
			if !ok {
				t.Errorf("%s: there is no label %s", where, m[1])
			}
			for value := range strings.SplitSeq(m[3], "|") {
				if values != nil && value != "" && !values[value] {
					t.Errorf("%s: label %s is never %q", where, m[1], value)
				}
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(g[1], ",") {
			if _, ok := v.labels[strings.TrimSpace(label)]; !ok {
				t.Errorf("%s: there is no label %s", where, label)
			}
		}
	}
	rest := grouping.ReplaceAllString(selector.ReplaceAllString(expr, ""), "")
	rest = strings.ReplaceAll(rest, "$__rate_interval", "")
	var named []string
	for _, w := range word.FindAllString(rest, -1) {
		if w == "histogram_quantile" || w == "label_values" {
			continue
		}
		if v.metrics[w] == "" {
			t.Errorf("%s: there is no metric %s", where, w)
		}
		named = append(named, v.metrics[w])
	}
	if len(named) == 0 {
		t.Errorf("%s: %q names no metric", where, expr)
	}
	return named
}

func TestDashboardShowsWhatIsExported(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title      string
		Panels     []panel
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	v := newVocabulary(t)
	shown := make(map[string]bool)
	ids := make(map[int]bool)
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q has another one's number, or no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, name := range v.check(t, p.Title, target.Expr) {
				shown[name] = true
			}
			for label := range strings.SplitSeq(target.LegendFormat, "{{") {
				label, _, found := strings.Cut(label, "}}")
				if _, ok := v.labels[label]; found && !ok {
					t.Errorf("%s: the legend has no label %s", p.Title, label)
				}
			}
		}
	}
	for series, name := range v.metrics {
		if !shown[name] {
			t.Errorf("no panel shows %s", series)
		}
	}
	if len(board.Templating.List) != 2 || board.Templating.List[0].Name != "datasource" || board.Templating.List[1].Name != "job" {
		t.Errorf("variables = %v, want datasource and job", board.Templating.List)
	}
}

type panel struct {
	ID          int
	Type, Title string
	Targets     []struct{ Expr, LegendFormat string }
}

func TestAlertsWatchWhatIsExported(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(raw)))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	v := newVocabulary(t)
	names := make(map[string]bool)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if names[r.Alert] || !strings.HasPrefix(r.Alert, "Authtrip") {
				t.Errorf("alert %q", r.Alert)
			}
			names[r.Alert] = true
			v.check(t, r.Alert, r.Expr)
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: severity is %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s does not say what to do", r.Alert)
			}
		}
	}
	if len(names) < 10 {
		t.Errorf("%d alerts, want 10", len(names))
	}
}

// The README's table is the package comment's.
func TestReadmeNamesEveryMetric(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("oteltrip.go")
	if err != nil {
		t.Fatal(err)
	}
	for series, name := range newVocabulary(t).metrics {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(series, "_bucket"), "_count"), "_sum")
		if !strings.Contains(string(readme), "`"+name+"`") || !strings.Contains(string(readme), "`"+base+"`") {
			t.Errorf("README.md does not name %s and %s", name, base)
		}
		if !strings.Contains(string(source), "//\t"+name+" ") {
			t.Errorf("the package comment does not name %s", name)
		}
	}
}

func TestCodeOfTheReadmeIsAnExample(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	folded := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		if !strings.Contains(folded(string(examples)), folded(block[1])) {
			t.Errorf("not in example_test.go:\n%s", block[1])
		}
	}
}
