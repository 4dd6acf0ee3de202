// Package chaos kills processes of the operating system while they refresh tokens
// through one Store, and holds what the authorization server has seen against what is
// promised.
//
// The processes are the test binary, started again with what to do in its
// environment. The package knows neither a Store nor a Source: the tests of a store
// pass them in, so that each store can be tested with its own.
package chaos

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// A Process is a running copy of the test binary.
type Process struct {
	*exec.Cmd
	out *bufio.Reader
}

// Start starts the test binary with some more variables in its environment, each
// NAME=value. It ends with the test at the latest.
func Start(tb testing.TB, env ...string) *Process {
	tb.Helper()
	p, err := start(env...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Kill)
	return p
}

func start(env ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self) //nolint:noctx // it is killed, not cancelled
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil { // it ends with this process
		return nil, err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Process{cmd, bufio.NewReader(pipe)}, nil
}

// Line returns what the process prints next.
func (p *Process) Line(tb testing.TB) string {
	tb.Helper()
	line, ok := p.line()
	if !ok {
		tb.Fatalf("process printed %q and no whole line", line)
	}
	return line
}

func (p *Process) line() (string, bool) {
	s, err := p.out.ReadString('\n')
	return strings.TrimSuffix(s, "\n"), err == nil
}

// Kill ends the process as kill -9 does, and returns when it is no more.
func (p *Process) Kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// Crowd starts n processes for one task, and returns when all have succeeded.
func Crowd(tb testing.TB, n int, env ...string) {
	tb.Helper()
	var wg sync.WaitGroup
	for range n {
		p := Start(tb, env...)
		wg.Go(func() {
			out, _ := io.ReadAll(p.out)
			if err := p.Wait(); err != nil {
				tb.Errorf("process: %v: %s", err, out)
			}
		})
	}
	wg.Wait()
}
