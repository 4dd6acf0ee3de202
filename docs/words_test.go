package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A term is a word of our own, or of another meaning in this field, and the field's
// word for it.
type term struct {
	not   *regexp.Regexp
	write string
}

func not(pattern, write string) term {
	return term{regexp.MustCompile(`(?i)` + pattern), write}
}

// glossary is what public text is held to.
func glossary() []term {
	const tok = `tokens?( that| which)?`
	return []term{
		not(`\b`+tok+` (has |have )?(ends?|ended|dies|died)\b|\bat its end\b|\bended tokens?\b|\btokens?'s end\b`, "expires, expired, expiry"),
		not(`\bliving tokens?\b|\btokens? lives?\b`, "usable token, lifetime"),
		not(`\brefus(e|es|al|als|ing)\b|(^|[^n]|[^o]n|[^i]on) refused\b`, "rejected (by an API), denied (by a user)"),
		not(`\bageing\b|\baging\b|\bgetting old\b`, "due for refresh"),
		not(`\brenew(s|ed|al|als|ing)?\b`, "refresh, refreshed"),
		not(`\breplay(s|ed|ing)?\b`, "retry (of a request), resend (of a refresh token), grace period"),
		not(`\b(spend|spends|spent|spending)\b`, "used, redeemed, rotated"),
		not(`\bone-time\b`, "rotated, good for one use"),
		not(`\blogins? (that )?(has |have )?(ends?|ended|dies|died|lives?)\b|\bends? (the|a|his|her|their) logins?\b`, "session"),
		not(`\bpaced?\b|\bpacing\b`, "backed off, rate-limited"),
		not(`\b(fault|failure|error)s? that pass(es)?\b`, "transient"),
		not(`\bin doubt\b|\bdoubts?\b|\bdoubtful\b`, "outcome unknown"),
		not(`\badopt(s|ed|ing)?\b`, "loaded from the store"),
		not(`\bflights\b|\b(the|a|its|one|their) flight\b`, "in-flight refresh"),
		not(`\bthe marks?\b|\bpending marks?\b`, "the refresh marker"),
		not(`\bmore power\b|\bmore powerful\b`, "more scope, a stronger authentication"),
		not(`\bforeign (token )?(source|store|cache|one)s?\b`, "third-party"),
		not(`\bthis machine\b|\banother machine\b|\bother machines\b`, "localhost, loopback address"),
		not(`\bspeaks? for\b`, "the token's user, belongs to"),
		not(`\bbur(y|ies|ied)\b`, "remove"),
		not(`\bglances?\b`, "load"),
		not(`\bdone without\b`, "ignored"),
		not(`\bcould not say\b`, "unavailable"),
		not(`\bhow (it|they|a session|a login) fares?\b`, "how it stands"),
		not(`\bmade up for\b`, "recovered"),
		not(`\bwhatever comes\b|\bnobody's\b`, "the rule: what happens, and what the caller has to do"),
	}
}

// A text is a piece of what users read.
type text struct{ at, is string }

// TestWordsAreThoseOfTheField holds what users read to the glossary: pages, doc
// comments of what is exported, texts of errors, kinds of events.
func TestWordsAreThoseOfTheField(t *testing.T) {
	texts := append(pages(t), comments(t)...)
	if len(texts) < 1000 {
		t.Fatalf("only %d texts found", len(texts))
	}
	terms := glossary()
	for _, x := range texts {
		for _, term := range terms {
			if found := term.not.FindString(x.is); found != "" {
				t.Errorf("%s: %q: write %s", x.at, found, term.write)
			}
		}
	}
}

// everywhere calls f for every file of the repository with this extension.
func everywhere(t *testing.T, ext string, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "node_modules", "testdata"}, d.Name()) {
			return fs.SkipDir
		}
		if !d.IsDir() && filepath.Ext(path) == ext {
			f(filepath.ToSlash(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// code is what a page quotes: names of programs and of protocols, which are as they are.
var code = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`|\\]\\([^)]*\\)")

// pages returns the lines of every page.
func pages(t *testing.T) (texts []text) {
	t.Helper()
	everywhere(t, ".md", func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		blank := func(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) + "code" }
		for i, line := range strings.Split(code.ReplaceAllStringFunc(string(b), blank), "\n") {
			texts = append(texts, text{strings.TrimPrefix(path, "../") + ":" + strconv.Itoa(i+1), line})
		}
	})
	return texts
}

// comments returns the doc comments of what each package exports, and its texts: those
// of errors, and the kinds of events.
func comments(t *testing.T) (texts []text) {
	t.Helper()
	everywhere(t, ".go", func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		at := func(n ast.Node) string {
			p := set.Position(n.Pos())
			return strings.TrimPrefix(path, "../") + ":" + strconv.Itoa(p.Line)
		}
		add := func(groups ...*ast.CommentGroup) {
			for _, g := range groups {
				if g != nil {
					texts = append(texts, text{at(g), folded(g.Text())})
				}
			}
		}
		if !strings.Contains(path, "/internal/") {
			add(file.Doc)
			for _, decl := range file.Decls {
				docs(decl, add)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				texts = append(texts, text{at(lit), unquote(t, lit)})
			}
			return true
		})
	})
	return texts
}

// docs passes the comments of a declaration, if it is exported, to add.
func docs(decl ast.Decl, add func(...*ast.CommentGroup)) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Name.IsExported() {
			add(decl.Doc)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() {
					add(decl.Doc, spec.Doc)
					members(spec.Type, add)
				}
			case *ast.ValueSpec:
				if slices.ContainsFunc(spec.Names, (*ast.Ident).IsExported) {
					add(decl.Doc, spec.Doc, spec.Comment)
				}
			}
		}
	}
}

// members passes the comments of exported fields and methods to add.
func members(typ ast.Expr, add func(...*ast.CommentGroup)) {
	var fields *ast.FieldList
	switch typ := typ.(type) {
	case *ast.StructType:
		fields = typ.Fields
	case *ast.InterfaceType:
		fields = typ.Methods
	}
	if fields == nil {
		return
	}
	for _, f := range fields.List {
		if slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
			add(f.Doc, f.Comment)
		}
	}
}
