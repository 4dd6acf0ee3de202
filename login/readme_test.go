package login_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What the README shows is code that runs.
func TestREADMEShowsExamples(t *testing.T) {
	t.Parallel()
	text := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	hidden := regexp.MustCompile(`(?m)^.*// not in the README\n`)
	examples := strings.Join(strings.Fields(hidden.ReplaceAllString(text("example_test.go"), "")), " ")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text("README.md"), -1)
	if len(blocks) < 2 {
		t.Fatalf("README has %d Go blocks", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(examples, strings.Join(strings.Fields(b[1]), " ")) {
			t.Errorf("not in example_test.go:\n%s", b[1])
		}
	}
}
