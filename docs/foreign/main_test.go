package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryClientGetsATransport(t *testing.T) {
	got, err := adapt([]byte(`package http_test

import "internal/synctest"

func f() {
	c := ts.Client()
	c.Transport.(*Transport).MaxIdleConns = 1
	c = &Client{Transport: tr}
	c.Transport = tr
	tr.RoundTrip(req)
	use(c.Transport.(*Transport), ts.Client())
	synctest.Wait()
}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := `package http_test

import "testing/synctest"

func f() {
	c := wrap(ts.Client())
	unwrap(c.Transport).MaxIdleConns = 1
	c = &Client{Transport: through(tr)}
	c.Transport = through(tr)
	through(tr).RoundTrip(req)
	use(unwrap(c.Transport), wrap(ts.Client()))
	synctest.Wait()
}
`
	if string(got) != want {
		t.Errorf("adapted:\n%s", got)
	}
}

func TestWhatDoesNotCompileGoes(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x_test.go")
	src := "package x\n\nimport (\n\t\"errors\"\n\t\"fmt\"\n)\n\nfunc TestInside() { inside() }\n\nfunc TestKept() { fmt.Println() }\n"
	if err := os.WriteFile(name, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := prune(dir, "# x\n./x_test.go:4:2: \"errors\" imported and not used\nx_test.go:8:21: undefined: inside\n")
	if err != nil || n != 1 {
		t.Fatalf("prune() = %d, %v, want one test", n, err)
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"TestKept": true, `"fmt"`: true, "TestInside": false, `"errors"`: false} {
		if strings.Contains(string(got), text) != want {
			t.Errorf("%s is there: %v, want %v", text, !want, want)
		}
	}
	if _, err := prune(dir, "go: no such tool"); err == nil {
		t.Error("a tool that fails is no complaint of a compiler")
	}
}

func TestDifferencesAreHeldAgainstWhatFails(t *testing.T) {
	got := map[string]string{"oauth2 TestNew": "pass"}
	for name := range expected() {
		got[name] = "fail"
	}
	if err := compare(io.Discard, got); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(){
		"fails":         func() { got["oauth2 TestNew"] = "fail" },
		"does not fail": func() { got["oauth2 TestTokenRetrieveError"] = "pass" },
		"did not run":   func() { delete(got, "oauth2 TestTokenRetrieveError") },
	} {
		change()
		if err := compare(io.Discard, got); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		got["oauth2 TestNew"], got["oauth2 TestTokenRetrieveError"] = "pass", "fail"
	}
}
