package main

import (
	"bytes"
	"errors"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// adapt puts a Transport in front of every client in a test file of net/http: the
// functions through, wrap and unwrap are those of shim/nethttp.txt.
func adapt(src []byte) ([]byte, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "", src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	for _, spec := range file.Imports {
		switch spec.Path.Value {
		case `"internal/synctest"`:
			spec.Path.Value = `"testing/synctest"`
		case `"net/http/internal/testcert"`:
			spec.Path.Value = `"foreign/testcert"`
		case `"internal/testenv"`:
			spec.Path.Value = `"foreign/testenv"`
		case `"internal/nettrace"`:
			spec.Path.Value = `"errors"` // whatever uses it does not compile, and goes
			spec.Name = ast.NewIdent("inside" + strconv.Itoa(int(spec.Pos())))
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "wrap" || f.Name == "through" || f.Name == "unwrap") {
				return true // made here
			}
			adaptCall(n)
			for i, arg := range n.Args {
				n.Args[i] = adaptExpr(arg)
			}
		case *ast.CompositeLit:
			if name, ok := n.Type.(*ast.Ident); ok && name.Name == "Client" {
				adaptFields(n)
			}
		case *ast.AssignStmt:
			for i, right := range n.Rhs {
				n.Rhs[i] = adaptExpr(right)
				if sel, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.SelectorExpr); ok && sel.Sel.Name == "Transport" {
					n.Rhs[i] = call("through", n.Rhs[i])
				}
			}
		case *ast.SelectorExpr:
			n.X = adaptExpr(n.X)
		}
		return true
	})
	var b bytes.Buffer
	if err := format.Node(&b, fset, file); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func call(f string, arg ast.Expr) ast.Expr {
	return &ast.CallExpr{Fun: ast.NewIdent(f), Args: []ast.Expr{arg}}
}

// adaptCall makes through(x).RoundTrip(req) of x.RoundTrip(req).
func adaptCall(n *ast.CallExpr) {
	if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "RoundTrip" && len(n.Args) == 1 {
		sel.X = call("through", sel.X)
	}
}

// adaptExpr makes unwrap(x) of x.(*Transport), and wrap(x.Client()) of x.Client().
func adaptExpr(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.TypeAssertExpr:
		if star, ok := e.Type.(*ast.StarExpr); ok {
			if name, ok := star.X.(*ast.Ident); ok && name.Name == "Transport" {
				return call("unwrap", e.X)
			}
		}
	case *ast.CallExpr:
		if sel, ok := e.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Client" && len(e.Args) == 0 {
			return call("wrap", e)
		}
	}
	return e
}

func adaptFields(n *ast.CompositeLit) {
	for _, field := range n.Elts {
		if kv, ok := field.(*ast.KeyValueExpr); ok {
			if name, ok := kv.Key.(*ast.Ident); ok && name.Name == "Transport" {
				kv.Value = call("through", kv.Value)
			}
		}
	}
}

var compilerError = regexp.MustCompile(`(?m)^(?:\./)?([a-z0-9_]+_test\.go):(\d+):\d+: (.*)$`)

// prune removes the declarations that a compiler complains about, and imports that are
// not used any more. It returns how many tests there were among them.
func prune(dir, complaints string) (tests int, err error) {
	lines := make(map[string]map[int]string)
	for _, m := range compilerError.FindAllStringSubmatch(complaints, -1) {
		line, _ := strconv.Atoi(m[2])
		if lines[m[1]] == nil {
			lines[m[1]] = make(map[int]string)
		}
		lines[m[1]][line] = m[3]
	}
	if len(lines) == 0 {
		return 0, errors.New("a tool fails")
	}
	for name, at := range lines {
		n, err := pruneFile(filepath.Join(dir, name), at)
		if err != nil {
			return 0, err
		}
		tests += n
	}
	return tests, nil
}

func pruneFile(name string, at map[int]string) (tests int, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
	if err != nil {
		return 0, err
	}
	var kept []ast.Decl
	for _, decl := range file.Decls {
		if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.IMPORT {
			var used []ast.Spec
			for _, spec := range gen.Specs {
				if at[fset.Position(spec.Pos()).Line] == "" {
					used = append(used, spec)
				}
			}
			gen.Specs = used
			kept = append(kept, decl)
			continue
		}
		if !complained(fset, decl, at) {
			kept = append(kept, decl)
			continue
		}
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
			tests++
		}
	}
	file.Decls = kept
	var b bytes.Buffer
	if err := format.Node(&b, fset, file); err != nil {
		return 0, err
	}
	return tests, os.WriteFile(name, b.Bytes(), 0o600)
}

func complained(fset *token.FileSet, decl ast.Decl, at map[int]string) bool {
	for line := fset.Position(decl.Pos()).Line; line <= fset.Position(decl.End()).Line; line++ {
		if at[line] != "" {
			return true
		}
	}
	return false
}
