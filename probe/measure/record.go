package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/authtrip/internal/wire"
)

// errTooMany ends a run that asks more than it may.
var errTooMany = errors.New("probe: the limit of requests is reached")

// A recorder sends requests, and notes of the answers what is no secret: dates, limits, names
// of members.
type recorder struct {
	base http.RoundTripper
	most int

	mu       sync.Mutex
	requests int
	clocks   map[string]*clockBounds
	rates    map[RateLimit]struct{}
	last     map[string]note // by URL without its query
}

// A note is what is kept of the last answer of a URL.
type note struct {
	status  int
	header  http.Header
	members []string // of a JSON object
	numbers map[string]float64
}

// clockBounds are what the Date of answers leave of how far a clock is ahead.
type clockBounds struct{ least, most time.Duration }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.requests++
	over := r.requests > r.most
	r.mu.Unlock()
	if over {
		return nil, errTooMany
	}
	sent := time.Now()
	resp, err := r.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxBody+1))
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	r.note(req, resp, body, sent, time.Now())
	return resp, nil
}

func (r *recorder) note(req *http.Request, resp *http.Response, body []byte, sent, received time.Time) {
	n := note{status: resp.StatusCode, header: resp.Header}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) == nil {
		n.numbers = make(map[string]float64)
		for name, raw := range members {
			n.members = append(n.members, name)
			var f float64
			if json.Unmarshal(raw, &f) == nil {
				n.numbers[name] = f
			}
		}
		slices.Sort(n.members)
	}
	host := req.URL.Host
	r.mu.Lock()
	defer r.mu.Unlock()
	at := *req.URL
	at.RawQuery = ""
	r.last[at.String()] = n
	r.noteDate(host, resp.Header.Get("Date"), sent, received)
	for name, values := range resp.Header {
		if limits(name) && len(values) > 0 {
			r.rates[RateLimit{host, name, number(values[0])}] = struct{}{}
		}
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		r.rates[RateLimit{host, "status", "429"}] = struct{}{}
	}
}

// noteDate narrows the bounds: a Date is cut to the second, and was written between sent and
// received.
func (r *recorder) noteDate(host, date string, sent, received time.Time) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	least, most := at.Sub(received), at.Add(time.Second).Sub(sent)
	known := r.clocks[host]
	if known == nil || least > known.most || most < known.least { // another machine, perhaps
		r.clocks[host] = &clockBounds{least, most}
		return
	}
	known.least, known.most = max(known.least, least), min(known.most, most)
}

// limits reports whether a header field speaks of limits. What counts down is left out.
func limits(name string) bool {
	name = strings.ToLower(name)
	return name == "retry-after" || strings.Contains(name, "ratelimit") &&
		!strings.Contains(name, "remaining") && !strings.Contains(name, "reset")
}

// number keeps a value that is made of numbers and short words, as RateLimit-Policy is.
func number(s string) string {
	if s = wire.Clean(s); len(s) > 80 {
		s = s[:80]
	}
	return s
}

// lastOf returns the note of the last answer of a URL.
func (r *recorder) lastOf(url string) note {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, _, _ := strings.Cut(url, "?")
	return r.last[at]
}

// into adds to a report what was noted.
func (r *recorder) into(report *Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report.Requests = min(r.requests, r.most)
	for _, host := range slices.Sorted(maps.Keys(r.clocks)) {
		b := r.clocks[host]
		report.Clocks = append(report.Clocks, Clock{host, seconds((b.least + b.most) / 2), seconds((b.most-b.least)/2 + 50*time.Millisecond)})
	}
	report.RateLimits = slices.SortedFunc(maps.Keys(r.rates), func(a, b RateLimit) int {
		return strings.Compare(a.Host+a.Header+a.Value, b.Host+b.Header+b.Value)
	})
}

// named returns those of names that are not known, fit to be shown.
func named(names, known []string) (own []string) {
	for _, name := range names {
		if !slices.Contains(known, name) {
			own = append(own, showable(name))
		}
	}
	return own
}

// showable is a name that a server chose, if it looks like one: it could be anything.
func showable(name string) string {
	digits := 0
	for _, r := range name {
		switch {
		case '0' <= r && r <= '9':
			digits++
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', strings.ContainsRune("_-.:/@", r):
		default:
			return "(a name that cannot be shown)"
		}
	}
	if len(name) > 60 || digits > 4 {
		return "(a name that cannot be shown)"
	}
	return name
}
