package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A panel is one part of the picture: a bar for each library.
type panel struct {
	title, below string
	bars         []bar
}

// A bar is what one library did. Its length is between 0 and 1.
type bar struct {
	library string
	length  float64
	text    string
	bad     bool // a user noticed
}

// libraries are the columns of the table that are drawn, in their order.
func libraries() []string {
	return []string{"authtrip", "x/oauth2", "cloud auth", "azcore", "smithy", "client-go"}
}

// panels reads the three parts out of the table.
func panels(results string) ([]panel, error) {
	t, err := read(results)
	if err != nil {
		return nil, err
	}
	expiry := t.panel("A token expires under load", "latency, p99.9, × that without an expiry", "Steady load", func(at int, library string) (bar, error) {
		ratio, err1 := number(t.cell(at, "… p99.9 × that without an expiry", library))
		failed, err2 := failures(t.cell(at, "… failed requests", library))
		b := bar{length: logarithm(ratio, 1000), text: fmt.Sprintf("%.1f×", ratio)}
		if failed > 0 {
			b.text, b.bad = b.text+", 401s", true
		}
		return b, errors.Join(err1, err2)
	})
	outage := t.panel("The token endpoint is down for 2 s", "token requests that 50 callers cause", "Token endpoint answers 503", func(at int, library string) (bar, error) {
		requests, err := number(t.rows[at][t.column(library)])
		return bar{length: logarithm(requests, 10000), text: thousands(requests)}, err
	})
	processes := t.panel("8 processes share one session", "requests that fail; the user at the end", "8 processes", func(at int, library string) (bar, error) {
		failed, err := failures(t.cell(at, "… failed requests", library))
		state := t.cell(at, "… at the end the user is", library)
		return bar{length: failed, text: fmt.Sprintf("%.0f %%, %s", 100*failed, state), bad: state != "logged in"}, err
	})
	all := []panel{expiry, outage, processes}
	return all, t.err
}

// A table is that of RESULTS.md. err is the first thing that was not found in it.
type table struct {
	rows [][]string // the first one is the heading
	err  error
}

func read(results string) (*table, error) {
	t := new(table)
	for line := range strings.Lines(results) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		t.rows = append(t.rows, cells)
	}
	if len(t.rows) < 2 {
		return nil, errors.New("RESULTS.md has no table")
	}
	return t, nil
}

// panel makes a part of the row that begins with row, and of those below it.
func (t *table) panel(title, below, row string, made func(at int, library string) (bar, error)) panel {
	p := panel{title: title, below: below}
	at := slices.IndexFunc(t.rows, func(r []string) bool { return strings.HasPrefix(r[0], row) })
	if at < 0 {
		t.missing(fmt.Errorf("RESULTS.md has no row that begins with %q", row))
		return p
	}
	for _, library := range libraries() {
		b, err := made(at, library)
		if err != nil {
			t.missing(fmt.Errorf("row %q, column %q: %w", row, library, err))
		}
		b.library = library
		p.bars = append(p.bars, b)
	}
	return p
}

// cell returns a cell of the first row at or below at that has this title.
func (t *table) cell(at int, title, library string) string {
	for _, r := range t.rows[at:] {
		if r[0] == title {
			return r[t.column(library)]
		}
	}
	t.missing(fmt.Errorf("RESULTS.md has no row %q", title))
	return ""
}

func (t *table) column(library string) int {
	at := slices.Index(t.rows[0], library)
	if at < 0 {
		t.missing(fmt.Errorf("RESULTS.md has no column %q", library))
		return 0
	}
	return at
}

func (t *table) missing(err error) {
	if t.err == nil {
		t.err = err
	}
}

var digits = regexp.MustCompile(`[\d,]*\d(\.\d+)?`)

// number returns the first number of a cell, such as the 9306 of "9,306 of 10,000".
func number(cell string) (float64, error) {
	return strconv.ParseFloat(strings.ReplaceAll(digits.FindString(cell), ",", ""), 64)
}

// failures returns the share of failed requests of a cell such as "3 × 401, 2 × error of
// 100", or "none of 100".
func failures(cell string) (float64, error) {
	failed, all, ok := strings.Cut(cell, " of ")
	of, err := number(all)
	if !ok || err != nil || of == 0 {
		return 0, fmt.Errorf("%q names no number of requests", cell)
	}
	if failed == "none" {
		return 0, nil
	}
	sum := 0.0
	for part := range strings.SplitSeq(failed, ", ") {
		n, err := number(part)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum / of, nil
}

// logarithm places a value between 1 and limit on a logarithmic scale.
func logarithm(v, limit float64) float64 {
	return min(1, max(0, math.Log(v)/math.Log(limit)))
}

func thousands(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
