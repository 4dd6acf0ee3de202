package measure_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authtrip/authtriptest"
	"example.com/authtrip/login"
	"example.com/authtrip/probe/internal/site"
	"example.com/authtrip/probe/measure"
)

const (
	issuer = "https://as.example"
	apiURL = "https://api.example/api"
)

// probe returns a Probe of a site, on a network in memory.
func probe(t testing.TB, s *site.Site) *measure.Probe {
	t.Helper()
	s.Start(issuer)
	network := authtriptest.NewNetwork(t)
	network.Handle(issuer, s)
	network.Handle("https://api.example", s)
	return &measure.Probe{
		Client: &login.Client{
			Provider: &login.Provider{Issuer: issuer, HTTPClient: &http.Client{Transport: network}},
			ID:       site.ClientID, Secret: site.ClientSecret,
			RedirectURL: "http://127.0.0.1:9/callback", Scopes: []string{"openid", "offline_access"},
		},
		API:       apiURL,
		Authorize: site.Agent(network),
	}
}

// run probes a site in a bubble, and holds what every run is held to: less than two minutes, and
// nothing printed that is secret.
func run(t *testing.T, s *site.Site, change func(*measure.Probe)) *measure.Report {
	t.Helper()
	var lines bytes.Buffer
	p := probe(t, s)
	p.Progress = func(line string) { lines.WriteString(line + "\n") }
	if change != nil {
		change(p)
	}
	began := time.Now()
	r, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took >= 2*time.Minute {
		t.Errorf("the run took %s", took)
	}
	if r.Requests > 150 {
		t.Errorf("the run took %d requests", r.Requests)
	}
	leaks(t, s, r, lines.String())
	t.Logf("%.0f s, %d requests, %d logins", float64(r.Seconds), r.Requests, r.Logins)
	return r
}

// leaks looks for secrets in everything that a run says.
func leaks(t *testing.T, s *site.Site, r *measure.Report, lines string) {
	t.Helper()
	var all bytes.Buffer
	all.WriteString(lines)
	if err := r.WriteTable(&all); err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	all.Write(doc)
	all.WriteString(r.Literal() + r.MarkdownRow("x"))
	for _, word := range s.Secrets() {
		if strings.Contains(all.String(), word) {
			t.Errorf("a secret of kind %.3s… is printed", word)
		}
	}
}

// What is configured at a server, and what the probe has to find.
type setting struct {
	name       string
	site       *site.Site
	rotates    measure.Answer
	grace      time.Duration // what is configured; negative is for ever, as far as it is looked for
	endsAll    measure.Answer
	oldDies    measure.Answer
	ancestors  measure.Answer
	set        string // the GracePeriod of the settings
	endsAccess measure.Answer
}

func settings() []setting {
	return []setting{
		{name: "no rotation", site: &site.Site{Server: &authtriptest.Server{}}, rotates: "no", oldDies: "no", set: "authtrip.GraceForever"},
		{
			name: "no rotation, tokens die", site: &site.Site{Server: &authtriptest.Server{RevokeOnRefresh: true}},
			rotates: "no", oldDies: "yes", set: "authtrip.GraceForever",
		},
		{
			name: "rotation, no grace", site: &site.Site{Server: &authtriptest.Server{Rotate: true}},
			rotates: "yes", endsAll: "yes", endsAccess: "yes", oldDies: "no", set: "-1",
		},
		{
			name: "rotation, no grace, tokens die", site: &site.Site{Server: &authtriptest.Server{Rotate: true, RevokeOnRefresh: true}},
			rotates: "yes", endsAll: "yes", endsAccess: "yes", oldDies: "yes", set: "-1",
		},
		{
			name: "rotation, no grace, reuse ends nothing", site: &site.Site{ReuseKeeps: true, Server: &authtriptest.Server{Rotate: true}},
			rotates: "yes", endsAll: "no", endsAccess: "no", oldDies: "no", set: "authtrip.GraceForever",
		},
		{
			name: "grace of 10 s", site: &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: 10 * time.Second}},
			rotates: "yes", grace: 10 * time.Second, endsAll: "yes", endsAccess: "yes", oldDies: "no", ancestors: "no", set: "8 * time.Second",
		},
		{
			name: "grace of 10 s, reuse ends nothing", site: &site.Site{ReuseKeeps: true, Server: &authtriptest.Server{Rotate: true, ReuseGrace: 10 * time.Second}},
			rotates: "yes", grace: 10 * time.Second, endsAll: "no", endsAccess: "no", oldDies: "no", ancestors: "no", set: "8 * time.Second",
		},
		{
			name: "grace of 3 s", site: &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: 3 * time.Second}},
			rotates: "yes", grace: 3 * time.Second, endsAll: "yes", endsAccess: "yes", oldDies: "no", ancestors: "no", set: "1 * time.Second",
		},
		{
			name: "grace of 30 s, tokens die", site: &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: 30 * time.Second, RevokeOnRefresh: true}},
			rotates: "yes", grace: 30 * time.Second, endsAll: "yes", endsAccess: "yes", oldDies: "yes", ancestors: "no", set: "25 * time.Second",
		},
		{
			name: "grace of 60 s", site: &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: time.Minute}},
			rotates: "yes", grace: time.Minute, endsAll: "yes", endsAccess: "yes", oldDies: "no", ancestors: "no", set: "52 * time.Second",
		},
		{
			name: "grace of 60 s, tokens of 20 s", site: &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: time.Minute, Lifetime: 20 * time.Second}},
			rotates: "yes", grace: time.Minute, endsAll: "yes", endsAccess: "yes", oldDies: "no", ancestors: "no", set: "52 * time.Second",
		},
		{
			name: "grace without an end", site: &site.Site{Server: &authtriptest.Server{Rotate: true, ReuseGrace: 24 * time.Hour}},
			rotates: "yes", grace: -1, endsAll: "yes", endsAccess: "yes", oldDies: "no", ancestors: "no", set: "58 * time.Second",
		},
	}
}

// TestFindsWhatIsConfigured is the table of expected and found.
func TestFindsWhatIsConfigured(t *testing.T) {
	for _, c := range settings() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, c.site, nil)
				f := r.Refresh
				for _, row := range []struct {
					what        string
					found, want measure.Answer
				}{
					{"rotates", f.Rotates, c.rotates},
					{"reuse ends the session", f.ReuseEndsSession, c.endsAll},
					{"reuse ends access tokens", f.ReuseEndsAccess, c.endsAccess},
					{"the old access token dies", f.OldAccessDies, c.oldDies},
					{"older refresh tokens", f.Ancestors, c.ancestors},
				} {
					if row.found != row.want {
						t.Errorf("%s: found %q, want %q", row.what, row.found, row.want)
					}
				}
				grace(t, f, c)
				if !strings.Contains(folded(r.Literal()), " GracePeriod: "+c.set+",") {
					t.Errorf("the settings have no GracePeriod of %s:\n%s", c.set, r.Literal())
				}
				onPage(t, r, "authtriptest: "+c.name)
				if t.Failed() {
					var b strings.Builder
					_ = r.WriteTable(&b)
					t.Log("\n" + b.String())
				}
			})
		})
	}
}

func folded(s string) string { return strings.Join(strings.Fields(s), " ") }

// onPage holds the table of docs/providers.md to what was found.
func onPage(t *testing.T, r *measure.Report, server string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	if row := r.MarkdownRow(server); !strings.Contains(string(page), row+"\n") {
		t.Errorf("docs/providers.md does not have the row:\n%s", row)
	}
}

// grace holds the window that was found to the one that is configured.
func grace(t *testing.T, f measure.RefreshFacts, c setting) {
	t.Helper()
	lo, hi := f.AcceptedAfter.Duration(), f.RefusedAfter.Duration()
	switch {
	case c.rotates == measure.No:
		if f.Grace != "" {
			t.Errorf("grace: found %q", f.Grace)
		}
	case c.grace == 0:
		if f.Grace != measure.No {
			t.Errorf("grace: found %q, want no", f.Grace)
		}
	case c.grace < 0:
		if f.Grace != measure.Yes || lo < time.Minute || hi != 0 {
			t.Errorf("grace: found %s to %s, want more than a minute", lo, hi)
		}
	default:
		if f.Grace != measure.Yes || lo > c.grace || hi < c.grace {
			t.Errorf("grace: found %s to %s, want %s", lo, hi, c.grace)
		}
		if width := hi - lo; width > 5*time.Second {
			t.Errorf("grace: found %s to %s, which is not exact", lo, hi)
		}
	}
}
