// Package docs_test holds the pages against the program that they describe.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func folded(s string) string { return strings.Join(strings.Fields(s), " ") }

func files(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return names
}

// TestCodeIsTested holds that each block of Go, and both sides of each diff, is
// code of this package, where it is compiled and run.
func TestCodeIsTested(t *testing.T) {
	var tested strings.Builder
	for _, name := range files(t, "*_test.go") {
		tested.WriteString(folded(read(t, name)) + "\n")
	}
	block := regexp.MustCompile("(?s)```(go|diff)\n(.*?)```")
	for _, page := range files(t, "*.md") {
		for _, b := range block.FindAllStringSubmatch(read(t, page), -1) {
			code := []string{b[2]}
			if b[1] == "diff" {
				code = sides(b[2])
			}
			for _, c := range code {
				if !strings.Contains(tested.String(), folded(c)) {
					t.Errorf("%s: no test has\n%s", page, c)
				}
			}
		}
	}
}

// sides returns what a diff removes and what it adds.
func sides(diff string) []string {
	var removed, added strings.Builder
	for line := range strings.Lines(diff) {
		switch line[0] {
		case '-':
			removed.WriteString(line[1:])
		case '+':
			added.WriteString(line[1:])
		}
	}
	return []string{removed.String(), added.String()}
}

var (
	verb = regexp.MustCompile(`%[.0-9]*[a-zT]`)
	row  = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
)

// message returns a format as a reader meets it, with … for what differs, and ""
// if nothing is left.
func message(format string) string {
	s := verb.ReplaceAllString(format, "…")
	s = strings.TrimPrefix(s, "…")
	s = strings.TrimSuffix(strings.TrimLeft(s, ":, "), ": …")
	if strings.Trim(s, "…:, ") == "" || s == "authtrip:" || s == "authtrip" {
		return ""
	}
	return strings.TrimSpace(s)
}

// messages returns the texts of the errors that the package can return: those of
// its own and of its internal packages.
func messages(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, name := range append(files(t, "../*.go"), files(t, "../internal/*/*.go")...) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if isError(n) {
					if lit, ok := n.Args[0].(*ast.BasicLit); ok {
						all[message(unquote(t, lit))] = name
					} else {
						t.Errorf("%s: the text of an error is no literal", name)
					}
				}
			case *ast.BasicLit:
				if s := n.Value; strings.HasPrefix(s, `"authtrip: `) {
					all[message(strings.TrimSuffix(unquote(t, n), ": "))] = name
				}
			}
			return true
		})
	}
	// These do not leave the packages that make them, or only put a field's name first.
	for _, inner := range []string{"", "closed", "not a string", "not one JSON object", "authtrip: … …", "authtrip: ….Keys…"} {
		delete(all, inner)
	}
	return all
}

func isError(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, _ := sel.X.(*ast.Ident)
	return pkg != nil && (pkg.Name == "errors" && sel.Sel.Name == "New" || pkg.Name == "fmt" && sel.Sel.Name == "Errorf" || isPanicText(call))
}

// isPanicText reports a text that an error's own method makes.
func isPanicText(call *ast.CallExpr) bool {
	if len(call.Args) == 0 {
		return false
	}
	lit, ok := call.Args[0].(*ast.BasicLit)
	return ok && strings.HasPrefix(lit.Value, `"panic of`)
}

func unquote(t *testing.T, lit *ast.BasicLit) string {
	t.Helper()
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTroubleshootingHasEveryError(t *testing.T) {
	explained := make(map[string]bool)
	for _, m := range row.FindAllStringSubmatch(read(t, "troubleshooting.md"), -1) {
		if explained[m[1]] {
			t.Errorf("two rows for %q", m[1])
		}
		explained[m[1]] = true
	}
	all := messages(t)
	if len(all) < 80 {
		t.Fatalf("only %d messages found", len(all))
	}
	for _, m := range slices.Sorted(maps.Keys(all)) {
		if !explained[m] {
			t.Errorf("no row for the error of %s:\n| `%s` |", all[m], m)
		}
		delete(explained, m)
	}
	for m := range explained {
		t.Errorf("no error reads %q any more", m)
	}
}

func newMyStore(*testing.T) authtrip.Store { return new(authtrip.MemoryStore) }

func TestMyStore(t *testing.T) {
	authtriptest.TestStore(t, newMyStore) // func(*testing.T) authtrip.Store
}

func TestMyLeases(t *testing.T) {
	authtriptest.TestLeaser(t, newMyStore)
}

func TestMyWatcher(t *testing.T) {
	authtriptest.TestWatcher(t, newMyStore)
}
