// Paste does with the READMEs what a reader does. It makes a new module beside the
// repository with the commands under "Install", pastes each snippet of Go into a
// program of its own, and runs it against a server of package authtriptest.
// The snippets of login/ and oteltrip/, which need a real provider, are compiled;
// they run as examples of their packages.
//
//	go run ./docs/paste
//
// What a snippet makes is put to use: a client fetches something, a source gives a
// token. What it takes for granted, as conf and token, is in testdata/before.go, or
// in a snippet above it in the same section.
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

//go:embed testdata
var testdata embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, ".")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "paste:", err)
		os.Exit(1)
	}
}

// A page is a README whose snippets are pasted.
type page struct {
	path   string
	before string // what its reader has already: a file of testdata
	module string // the one it is about, below the root; "" for the root
	run    bool   // if false, it is compiled only
}

func pages() []page {
	return []page{
		{path: "README.md", before: "before.go", run: true},
		{path: "login/README.md", before: "before_login.go", module: "login"},
		{path: "oteltrip/README.md", before: "before_oteltrip.go", module: "oteltrip"},
	}
}

func run(ctx context.Context, repo string) (err error) {
	repo, err = filepath.Abs(repo)
	if err != nil {
		return err
	}
	install, err := installCommands(filepath.Join(repo, "README.md"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "paste")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// The reader's clone is called authtrip and is beside their module.
	if err := os.Symlink(repo, filepath.Join(dir, "authtrip")); err != nil {
		return err
	}
	for _, p := range pages() {
		before, err := testdata.ReadFile("testdata/" + p.before)
		if err != nil {
			return err
		}
		if err := try(ctx, repo, filepath.Join(dir, strings.ReplaceAll(p.path, "/", "-")), p, before, install); err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
	}
	return tryWorkspace(ctx, filepath.Join(dir, "workspace"))
}

// try makes a module in dir, puts the snippets of p into it, and runs them.
func try(ctx context.Context, repo, dir string, p page, before []byte, install string) error {
	text, err := os.ReadFile(filepath.Join(repo, p.path))
	if err != nil {
		return err
	}
	programs, err := paste(string(text), before)
	if err != nil {
		return err
	}
	for _, program := range programs {
		if err := write(filepath.Join(dir, program.name()), program.source, before); err != nil {
			return err
		}
	}
	if p.module != "" {
		path := "example.com/authtrip/" + p.module
		install = "go mod edit -require=" + path + "@v0.0.0 -replace=" + path + "=../authtrip/" + p.module + "\n" + install
	}
	if err := shell(ctx, dir, "go mod init reader.example/app\n"+install+"\ngo build -o bin/ ./..."); err != nil {
		return err
	}
	if p.run {
		for _, program := range programs {
			if err := shell(ctx, dir, "bin/"+program.name()); err != nil {
				return fmt.Errorf("the snippet of line %d: %w\n%s", program.line, err, program.source)
			}
		}
	}
	fmt.Printf("%s: works as written: %d\n", p.path, len(programs))
	return nil
}

// tryWorkspace is the other way of the README, without a replace.
func tryWorkspace(ctx context.Context, dir string) error {
	before, err := testdata.ReadFile("testdata/before.go")
	if err != nil {
		return err
	}
	if err = write(dir, "package main\n\nfunc snippet() error { return nil }\n", before); err != nil {
		return err
	}
	err = shell(ctx, dir, "go mod init reader.example/app\nGOWORK= go work init . ../authtrip\nGOWORK= go run .")
	if err != nil {
		return fmt.Errorf("with a workspace: %w", err)
	}
	fmt.Println("README.md: works as written: the workspace")
	return nil
}

// installCommands returns the commands with which a module begins to use this one.
func installCommands(readme string) (string, error) {
	text, err := os.ReadFile(readme)
	if err != nil {
		return "", err
	}
	var commands []string
	for line := range strings.Lines(string(text)) {
		if command, ok := strings.CutPrefix(line, "    "); ok && strings.HasPrefix(command, "go mod ") {
			commands = append(commands, command)
		}
	}
	if len(commands) != 2 {
		return "", fmt.Errorf("%s has %d commands that begin with %q, want 2", readme, len(commands), "go mod")
	}
	return strings.Join(commands, ""), nil
}

func write(dir, snippet string, before []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "before.go"), before, 0o600),
		os.WriteFile(filepath.Join(dir, "snippet.go"), []byte(snippet), 0o600))
}

// shell runs commands as a reader would, in dir.
func shell(ctx context.Context, dir, commands string) error {
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", commands)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", commands, err, out)
	}
	return nil
}
