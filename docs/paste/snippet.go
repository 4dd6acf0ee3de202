package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// A program is a snippet, made into one.
type program struct {
	line   int // where it begins in its page
	source string
}

func (p program) name() string { return fmt.Sprintf("line%d", p.line) }

// A snippet is what a page has between two fences, and what has to be known of it
// to make it a program.
type snippet struct {
	line    int
	section string
	follows bool // the one before, with nothing between them
	text    string
	makes   []string // the variables that it declares
	takes   []string // the names that it does not declare
}

// paste makes a program of each snippet of a page. before is the Go file beside it.
func paste(page string, before []byte) ([]program, error) {
	given, err := declared(before)
	if err != nil {
		return nil, err
	}
	snippets, err := find(page)
	if err != nil {
		return nil, err
	}
	if len(snippets) == 0 {
		return nil, errors.New("there is no snippet")
	}
	var programs []program
	for i := range snippets {
		source, err := format.Source([]byte(body(snippets[:i+1], given)))
		if err != nil {
			return nil, fmt.Errorf("the snippet of line %d: %w", snippets[i].line, err)
		}
		programs = append(programs, program{snippets[i].line, string(source)})
	}
	return programs, nil
}

// find returns the snippets of a page: blocks that are marked as Go, both sides of
// those that are marked as a difference, and indented lines that declare a variable.
func find(page string) ([]snippet, error) {
	var found []snippet
	var section, fence string
	var was, is []string
	begin, end := 0, 0 // end is that of the block above, 0 if something else came since
	add := func(lines []string) error {
		s := snippet{line: begin, section: section, follows: end > 0 && fence != "```diff", text: strings.Join(lines, "\n")}
		begin++ // another name for the other side of a difference
		if len(lines) == 0 {
			return nil
		}
		if err := s.parse(); err != nil {
			return fmt.Errorf("the snippet of line %d: %w", s.line, err)
		}
		found = append(found, s)
		return nil
	}
	for i, line := range strings.Split(page, "\n") {
		var err error
		switch {
		case fence == "" && (line == "```go" || line == "```diff"):
			fence, begin, was, is = line, i+1, nil, nil
		case fence != "" && line == "```":
			if err = add(was); err == nil {
				err = add(is)
			}
			if end = i; fence == "```diff" {
				end = 0
			}
			fence = ""
		case fence == "```go":
			is = append(is, line)
		case fence == "```diff":
			if rest, ok := strings.CutPrefix(line, "-"); ok {
				was = append(was, rest)
			} else {
				is = append(is, line[min(1, len(line)):])
			}
		case strings.HasPrefix(line, "    ") && strings.Contains(line, " := "):
			begin = i + 1
			err = add([]string{line})
		case strings.HasPrefix(line, "#"):
			section, end = line, 0
		case line != "":
			end = 0
		}
		if err != nil {
			return nil, err
		}
	}
	if fence != "" {
		return nil, fmt.Errorf("the block of line %d has no end", begin)
	}
	return found, nil
}

// parse fills in what the snippet makes and takes.
func (s *snippet) parse() error {
	f, err := parser.ParseFile(token.NewFileSet(), "", wrapped(s.text), parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	main, ok := f.Decls[len(f.Decls)-1].(*ast.FuncDecl)
	if !ok {
		return fmt.Errorf("this is not a list of statements")
	}
	for _, statement := range main.Body.List {
		s.makes = append(s.makes, declares(statement)...)
	}
	// The parser's own resolution, which is deprecated for whole packages, knows
	// what one function does not declare.
	f, err = parser.ParseFile(token.NewFileSet(), "", wrapped(s.text), 0)
	if err != nil {
		return err
	}
	for _, name := range f.Unresolved {
		s.takes = append(s.takes, name.Name)
	}
	return nil
}

// declares returns the variables of a statement that are there after it.
func declares(statement ast.Stmt) (names []string) {
	switch st := statement.(type) {
	case *ast.AssignStmt:
		if st.Tok != token.DEFINE {
			return nil
		}
		for _, left := range st.Lhs {
			if name, ok := left.(*ast.Ident); ok && name.Name != "_" {
				names = append(names, name.Name)
			}
		}
	case *ast.DeclStmt:
		if decl, ok := st.Decl.(*ast.GenDecl); ok && decl.Tok == token.VAR {
			for _, spec := range decl.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// declared returns the names that a file declares.
func declared(file []byte) ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), "before.go", file, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			names = append(names, d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				}
			}
		}
	}
	return names, nil
}

func wrapped(text string) string {
	return "package main\nfunc snippet() (_ error) {\n" + text + "\n}\n"
}

// body is the program of the last of snippets: those of its section that declare
// what it takes, then itself, and what each makes is put to use.
func body(snippets []snippet, given []string) string {
	last := len(snippets) - 1
	wanted := []int{last}
	for i := 0; i < len(wanted); i++ {
		at := wanted[i]
		if snippets[at].follows && !slices.Contains(wanted, at-1) {
			wanted = append(wanted, at-1)
		}
		for _, name := range snippets[at].takes {
			above := at - 1
			for above >= 0 && (snippets[above].section != snippets[at].section || !slices.Contains(snippets[above].makes, name)) {
				above--
			}
			if above >= 0 && !slices.Contains(wanted, above) {
				wanted = append(wanted, above)
			}
		}
	}
	slices.Sort(wanted)
	var imports, text strings.Builder
	for _, path := range packages() {
		name := path[strings.LastIndex(path, "/")+1:]
		for _, i := range wanted {
			if slices.Contains(snippets[i].takes, name) && !slices.Contains(given, name) {
				fmt.Fprintf(&imports, "import %q\n", path)
				break
			}
		}
	}
	var made []string
	for _, i := range wanted {
		made = append(made, snippets[i].makes...)
		fmt.Fprintf(&text, "%s\nif err := use(%s); err != nil { return err }\n", snippets[i].text, strings.Join(made, ", "))
	}
	return "package main\n" + imports.String() + "func snippet() (_ error) {\n" + text.String() + "return nil\n}\n"
}

// packages are those that a reader's editor would import.
func packages() []string {
	return []string{
		"context", "errors", "fmt", "io", "log/slog", "net/http", "net/url", "os", "time",
		"example.com/authtrip", "example.com/authtrip/login", "example.com/authtrip/oteltrip",
		"golang.org/x/oauth2", "golang.org/x/oauth2/clientcredentials",
	}
}
