package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const given = "package main\n\nvar client, site int\n\nfunc use(...any) error { return nil }\n"

func TestPaste(t *testing.T) {
	t.Parallel()
	page := strings.Join([]string{
		"# One",
		"    a := 1 + site",
		"text",
		"```go", "b := a", "```",
		"",
		"```go", "c := http.StatusOK", "```",
		"# Two",
		"```diff", "-d := client", "+d := errors.New(site)", "```",
	}, "\n")
	programs, err := paste(page, []byte(given))
	if err != nil {
		t.Fatal(err)
	}
	const tail = "; err != nil { return err }"
	want := []struct {
		line int
		code string
	}{
		{2, "a := 1 + site if err := use(a)" + tail},
		{5, "a := 1 + site if err := use(a)" + tail + " b := a if err := use(a, b)" + tail},
		{9, `import "net/http" a := 1 + site if err := use(a)` + tail + " b := a if err := use(a, b)" + tail +
			" c := http.StatusOK if err := use(a, b, c)" + tail},
		{12, "d := client if err := use(d)" + tail},
		{13, `import "errors" d := errors.New(site) if err := use(d)` + tail},
	}
	if len(programs) != len(want) {
		t.Fatalf("%d programs, want %d", len(programs), len(want))
	}
	for i, w := range want {
		code := strings.Join(strings.Fields(programs[i].source), " ")
		code = strings.NewReplacer("package main ", "", "func snippet() (_ error) { ", "", " return nil }", "").Replace(code)
		if programs[i].line != w.line || code != w.code {
			t.Errorf("line %d: %s\nwant line %d: %s", programs[i].line, code, w.line, w.code)
		}
	}
}

func TestPasteRefusesWhatIsNoSnippet(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]string{
		"half a statement": "```go\nif err != nil {\n```",
		"no end":           "```go\na := 1\n",
		"nothing":          "# Title\n",
	} {
		if _, err := paste(page, []byte(given)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRunFindsWhatDoesNotWork is that a snippet which compiles and fails is told.
func TestRunFindsWhatDoesNotWork(t *testing.T) {
	t.Parallel()
	repo := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module example.com/authtrip\n\ngo 1.26.0\n",
		"empty.go":  "package authtrip\n",
		"README.md": "```go\nn := 1\n```\n",
	} {
		if err := os.WriteFile(filepath.Join(repo, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := "package main\n\nimport (\n\t\"os\"\n\n\t_ \"example.com/authtrip\"\n)\n\n" +
		"func main() {\n\tif snippet() != nil {\n\t\tos.Exit(1)\n\t}\n}\n\nfunc use(v any) error {\n\tif v != FINE {\n\t\treturn os.ErrInvalid\n\t}\n\treturn nil\n}\n"
	for fine, ok := range map[string]bool{"1": true, "2": false} {
		err := try(t.Context(), repo, t.TempDir()+"/app", page{path: "README.md", run: true},
			[]byte(strings.Replace(before, "FINE", fine, 1)), "go mod edit -replace=example.com/authtrip="+repo+" -require=example.com/authtrip@v0.0.0")
		if (err == nil) != ok {
			t.Errorf("where %s is fine: %v", fine, err)
		}
	}
}
