package mcp_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	text = regexp.MustCompile(`"(?:%w)?((?:mcp)?: [a-zA-Z][^"]*)"`)
	verb = regexp.MustCompile(`%[a-zT]`)
)

// TestREADMEHasEveryError: each text that an error of this package has is a row of the
// table, with … for what differs, and each row is such a text.
func TestREADMEHasEveryError(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:mcp)?: [^`]+)`").FindAllStringSubmatch(string(readme), -1) {
		rows[m[1]] = false
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		source, err := os.ReadFile(name)
		if err != nil || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range text.FindAllStringSubmatch(string(source), -1) {
			want := verb.ReplaceAllString(m[1], "…")
			if _, ok := rows[want]; !ok {
				t.Errorf("%s: no row for %q", name, want)
			}
			rows[want] = true
		}
	}
	for row, found := range rows {
		if !found {
			t.Errorf("no error reads %q", row)
		}
	}
}

// TestREADMEShowsExamples: what the README shows is code that compiles.
func TestREADMEShowsExamples(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	folded := strings.Join(strings.Fields(string(example)), " ")
	for _, b := range blocks {
		if !strings.Contains(folded, strings.Join(strings.Fields(b[1]), " ")) {
			t.Errorf("not in example_test.go:\n%s", b[1])
		}
	}
	if len(blocks) == 0 {
		t.Error("README.md has no Go blocks")
	}
}
