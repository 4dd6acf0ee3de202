package authtrip_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What is promised of the repository, as tests.

// walk calls f for every file of the repository whose name ends so.
func walk(t *testing.T, suffix string, f func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, suffix) {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f(filepath.ToSlash(path), string(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func folded(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestGoBlocksOfTheREADMEAreExamples(t *testing.T) {
	examples := folded(read(t, "example_test.go"))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) < 5 {
		t.Fatalf("README has %d Go blocks", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(examples, folded(b[1])) {
			t.Errorf("not in example_test.go:\n%s", b[1])
		}
	}
}

// TestSessionOfTheREADMEIsPlayed: the README has lines of the session, in their order. The
// tests of examples/cli hold the file to what the program prints.
func TestSessionOfTheREADMEIsPlayed(t *testing.T) {
	_, quoted, _ := strings.Cut(read(t, "README.md"), "```console\n")
	quoted, _, _ = strings.Cut(quoted, "```\n")
	rest := read(t, "examples/cli/testdata/session.txt")
	if quoted == "" {
		t.Fatal("the README has no terminal session")
	}
	for line := range strings.Lines(quoted) {
		_, after, ok := strings.Cut("\n"+rest, "\n"+line)
		if !ok {
			t.Errorf("examples/cli/testdata/session.txt does not go on with %q", line)
		}
		rest = after
	}
}

// TestREADMESaysWhatADependencyCosts: somebody who adds the root module gets others with
// it, most of them from one of the four. Whoever changes that has to say so.
func TestREADMESaysWhatADependencyCosts(t *testing.T) {
	output := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Env = append(os.Environ(), "GOWORK=off")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %v: %v", args, err)
		}
		return string(out)
	}
	all := strings.Count(output("list", "-m", "all"), "\n")
	named := make(map[string]bool)
	for line := range strings.Lines(output("mod", "graph")) {
		from, to, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(from, "github.com/hashicorp/go-retryablehttp@") && !strings.HasPrefix(to, "go@") {
			named[to] = true
		}
	}
	want := fmt.Sprintf("gets %d modules into its build list (`go list -m all`), and %d of these come from go-retryablehttp: itself, and %d that it names",
		all, len(named)+1, len(named))
	if !strings.Contains(folded(read(t, "README.md")), want) {
		t.Errorf("the README does not say: %s", want)
	}
}

// TestBenchmarksOfTheREADMEAreThoseOfTheTable: it quotes the output of benchmarks/,
// some of its rows and columns.
func TestBenchmarksOfTheREADMEAreThoseOfTheTable(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "README.md"), "## Benchmarks\n")
	quoted, all := table(section), table(read(t, "benchmarks/RESULTS.md"))
	if len(quoted) < 5 || len(all) < len(quoted) {
		t.Fatalf("%d rows in README.md, %d in RESULTS.md", len(quoted), len(all))
	}
	for _, row := range quoted[1:] {
		at := slices.IndexFunc(all, func(r []string) bool { return r[0] == row[0] })
		if at < 0 {
			t.Errorf("RESULTS.md has no row %q", row[0])
			continue
		}
		for i, cell := range row {
			if column := slices.Index(all[0], quoted[0][i]); column < 0 || all[at][column] != cell {
				t.Errorf("row %q, column %q: RESULTS.md does not have %q", row[0], quoted[0][i], cell)
			}
		}
	}
}

// table returns the cells of the first table in a text, without the line below its
// heading.
func table(text string) (rows [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			if len(rows) > 0 {
				return rows
			}
		case !strings.HasPrefix(line, "|---"):
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	return rows
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	walk(t, ".md", func(path, text string) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", path, m[1], err)
			}
		}
	})
}

// TestContributingNamesWhatThereIs: the ways through the code name functions and methods.
func TestContributingNamesWhatThereIs(t *testing.T) {
	there := make(map[string]bool)
	walk(t, ".go", func(path, text string) {
		if strings.Contains(path, "/") && !strings.HasPrefix(path, "internal/lifecycle/") || strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := fn.Name.Name
			if strings.Contains(path, "/") {
				name = f.Name.Name + "." + name
			}
			if fn.Recv != nil {
				of := fn.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				name = fmt.Sprint(of) + "." + fn.Name.Name
			}
			there[name] = true
		}
	})
	_, ways, _ := strings.Cut(read(t, "CONTRIBUTING.md"), "### The way of a request\n")
	ways, _, _ = strings.Cut(ways, "## Words\n")
	named := regexp.MustCompile("`([a-z]\\w*|\\w+\\.\\w+)`").FindAllStringSubmatch(ways, -1)
	if len(named) < 20 {
		t.Fatalf("only %d functions are named", len(named))
	}
	for _, m := range named {
		if m[1] != "sub" && !there[m[1]] {
			t.Errorf("there is no %s", m[1])
		}
	}
}

func TestEveryPackageHasOnePackageComment(t *testing.T) {
	comments := make(map[string]int)
	walk(t, ".go", func(path, text string) {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/testdata/") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil {
			comments[filepath.Dir(path)]++
		} else {
			comments[filepath.Dir(path)] += 0
		}
	})
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments, want 1", dir, n)
		}
	}
}

func TestRootModuleRequiresFourModules(t *testing.T) {
	mod := read(t, "go.mod")
	if strings.Contains(mod, "replace") {
		t.Error("go.mod has a replace")
	}
	want := []string{
		"github.com/hashicorp/go-retryablehttp", "github.com/patrickmn/go-cache",
		"golang.org/x/oauth2", "golang.org/x/sync",
	}
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\s+(\S+) v\S+$`).FindAllStringSubmatch(mod, -1) {
		got = append(got, m[1])
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("go.mod requires %v, want %v", got, want)
	}
}

func TestArrowsRunOneWay(t *testing.T) {
	const module = "example.com/authtrip"
	walk(t, ".go", func(path, text string) {
		root := !strings.Contains(path, "/")
		if strings.HasSuffix(path, "_test.go") || !root && !strings.HasPrefix(path, "internal/") {
			return
		}
		if strings.HasPrefix(path, "internal/figures/") {
			return // what tests of stores time
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			inside := p == module || strings.HasPrefix(p, module+"/") && !strings.HasPrefix(p, module+"/internal/")
			if inside || p == "github.com/patrickmn/go-cache" && path != "cache.go" {
				t.Errorf("%s imports %s", path, p)
			}
		}
	})
}

func TestErrorsSayWhoSpeaks(t *testing.T) {
	// The causes that are put into an error which has the prefix already.
	wrapped := regexp.MustCompile(`^(%w|the |token |sub |iss |aud |want |Content-Type|outcome|there )`)
	walk(t, ".go", func(path, text string) {
		if strings.Contains(path, "/") || strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			name := fmt.Sprint(call.Fun)
			lit, isText := call.Args[0].(*ast.BasicLit)
			if !isText || !strings.Contains(name, "errors New") && !strings.Contains(name, "fmt Errorf") {
				return true
			}
			msg, _ := strconv.Unquote(lit.Value)
			if !strings.HasPrefix(msg, "authtrip: ") && !wrapped.MatchString(msg) {
				t.Errorf("%s: error %q has no prefix", path, msg)
			}
			if strings.ContainsAny(msg, "\n") || strings.HasSuffix(msg, ".") {
				t.Errorf("%s: error %q is more than one plain line", path, msg)
			}
			return true
		})
	})
}

// The text of an error is for people: errors.Is and errors.As tell errors apart.
func TestNoErrorTextIsUsedAsLogic(t *testing.T) {
	logic := regexp.MustCompile(`(strings\.(Contains|HasPrefix|HasSuffix|EqualFold|Index|Cut)\w*|MatchString)\([^\n]*\.Error\(\)|\.Error\(\) [=!]= |switch [^\n]*\.Error\(\)`)
	walk(t, ".go", func(path, text string) {
		tests := strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "authtriptest/") // which look for secrets
		for line := range strings.Lines(text) {
			if !tests && strings.Contains(line, ".Error()") && logic.MatchString(line) {
				t.Errorf("%s: %s", path, strings.TrimSpace(line))
			}
		}
	})
}

func TestNoTestSleepsOrIsSkipped(t *testing.T) {
	forbidden := regexp.MustCompile(`\btime\.Sleep` + `\(|\b[tb]\.Skip`)
	walk(t, "_test.go", func(path, text string) {
		for i, line := range strings.Split(text, "\n") {
			if forbidden.MatchString(line) {
				t.Errorf("%s:%d: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	})
}

func TestFilesAreReadableInOneGo(t *testing.T) {
	const limit = 450
	walk(t, ".go", func(path, text string) {
		generated := strings.Contains(text, "// Code generated ")
		if n := strings.Count(text, "\n"); n > limit && !strings.HasSuffix(path, "_test.go") && !generated {
			t.Errorf("%s has %d lines, want at most %d", path, n, limit)
		}
	})
}

func TestNothingOfOneMachineIsCommitted(t *testing.T) {
	paths := regexp.MustCompile(`["'` + "`" + `\s=(>](/(?:root|home|work|tmp)/[a-z])`)
	for _, suffix := range []string{".go", ".md", "Makefile", ".yml", ".json", ".mod", "run", "fuzz"} {
		walk(t, suffix, func(path, text string) {
			if m := paths.FindStringSubmatch(text); m != nil {
				t.Errorf("%s names a path of one machine: %q", path, m[1])
			}
		})
	}
	// A go.work would take the place of the one that a user has.
	if ignored := strings.Fields(read(t, ".gitignore")); !slices.Contains(ignored, "go.work") {
		t.Error(".gitignore lets go.work in")
	}
}

// TestWorkflowsAreGivenNothingByDefault: a tag can be moved to other code, and a token that
// may write is of use to that code.
func TestWorkflowsAreGivenNothingByDefault(t *testing.T) {
	pinned := regexp.MustCompile(`@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	workflows := 0
	walk(t, ".yml", func(path, text string) {
		if filepath.ToSlash(filepath.Dir(path)) != ".github/workflows" {
			return
		}
		workflows++
		if !strings.Contains(text, "\npermissions: {}\n") {
			t.Errorf("%s: want permissions: {} at the top, and what is needed in each job", path)
		}
		for line := range strings.Lines(text) {
			if _, action, ok := strings.Cut(line, "uses: "); ok && !pinned.MatchString(strings.TrimSpace(action)) {
				t.Errorf("%s: %s is not pinned by a hash, with its version behind it", path, strings.TrimSpace(action))
			}
		}
	})
	if workflows == 0 {
		t.Error("no workflow is found")
	}
}

func TestChangelogBeginsWithWhatComesNext(t *testing.T) {
	top := regexp.MustCompile(`(?m)^## (.+)$`).FindStringSubmatch(read(t, "CHANGELOG.md"))
	if top == nil {
		t.Fatal("CHANGELOG.md has no entry")
	}
	release := regexp.MustCompile(`^v?\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}$`)
	if top[1] != "Unreleased" && !release.MatchString(top[1]) {
		t.Errorf("the first entry is %q, want Unreleased or a version and its date", top[1])
	}
}

// TestEveryModuleIsTested: go test ./... sees one module, so the Makefile has to
// find the others.
func TestEveryModuleIsTested(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "make", "-s", "modules").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	walk(t, "go.mod", func(path, text string) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if !slices.Contains(got, dir) {
			t.Errorf("make does not know the module in %s", dir)
		}
		if !strings.Contains(text, "\ngo 1.26.0\n") {
			t.Errorf("%s: want go 1.26.0", path)
		}
		if strings.Contains(text, "example.com/authtrip v") && !strings.Contains(text, "example.com/authtrip => ") {
			t.Errorf("%s: want a replace of the root", path)
		}
	})
}

func TestConformance(t *testing.T) {
	tests := make(map[string]bool)
	fn := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	walk(t, "_test.go", func(_, text string) {
		for _, m := range fn.FindAllStringSubmatch(text, -1) {
			tests[m[1]] = true
		}
	})
	rules, pains, ok := strings.Cut(read(t, "CONFORMANCE.md"), "\n## Pains\n")
	if !ok {
		t.Fatal("CONFORMANCE.md has no section of that name")
	}
	for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(read(t, "CONFORMANCE.md"), -1) {
		if !tests[name[1]] {
			t.Errorf("CONFORMANCE.md names %s, which is not there", name[1])
		}
	}
	conformance(t, "Rule", rules, 73, tests)
	conformance(t, "Pain", pains, 37, tests)
}

// conformance holds one table of CONFORMANCE.md against the tests that there are.
func conformance(t *testing.T, word, table string, want int, tests map[string]bool) {
	t.Helper()
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|[^|]+\|([^|]+)\|$`).FindAllStringSubmatch(table, -1)
	if len(rows) != want {
		t.Errorf("%ss in CONFORMANCE.md = %d, want %d", word, len(rows), want)
	}
	listed := make(map[string]bool)
	for i, row := range rows {
		number, cell := row[1], row[2]
		if number != strconv.Itoa(i+1) {
			t.Errorf("%s %s is in row %d", word, number, i+1)
		}
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(cell, -1)
		if len(named) == 0 && !strings.Contains(cell, "not offered") {
			t.Errorf("%s %s has no test", word, number)
		}
		for _, m := range named {
			listed[number+" "+m[1]] = true
			if !tests[m[1]] {
				t.Errorf("%s %s: there is no %s", word, number, m[1])
			}
		}
	}
	numbered := regexp.MustCompile(`^Test` + word + `0*(\d+)`)
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if m := numbered.FindStringSubmatch(name); m != nil && !listed[m[1]+" "+name] {
			t.Errorf("%s is not in CONFORMANCE.md's row of %s %s", name, strings.ToLower(word), m[1])
		}
	}
}
