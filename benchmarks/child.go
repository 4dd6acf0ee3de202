package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// childEnv is set in the processes that this program starts of itself, to what they
// are to be.
const childEnv = "AUTHTRIP_BENCHMARK_CHILD"

// child reports whether this process is one of those, which has then done its work.
func child() (bool, error) {
	switch os.Getenv(childEnv) {
	case "shift":
		return true, work(os.Stdin, os.Stdout)
	case "tokens":
		return true, serveTokens(os.Stdin, os.Stdout)
	}
	return false, nil
}

// A process is a child. It ends when its input does.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startProcess(what string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(program)} //nolint:noctx // it ends with its input
	p.cmd.Env = append(os.Environ(), childEnv+"="+what)
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	return p, p.cmd.Start()
}

func (p *process) end() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }

// tokens is the token endpoint as a process of its own: it answers while a thousand
// callers keep this one busy, as servers do.
type tokens struct {
	process  *process
	endpoint *Endpoint
}

// An order is what the parent says to the token endpoint: how it is from now on.
type order struct {
	Lifetime int64 // of new tokens, in seconds
	Delay    time.Duration
}

// A place is what the token endpoint says first.
type place struct {
	URL         string
	Certificate []byte
}

// serveTokens is the child. It answers each order with the number of the token
// requests so far.
func serveTokens(in io.Reader, out io.Writer) error {
	w := newWorld()
	defer w.close()
	say := json.NewEncoder(out)
	if err := say.Encode(place{w.auth.URL + "/token", w.auth.Certificate().Raw}); err != nil {
		return err
	}
	hear := json.NewDecoder(in)
	for {
		var o order
		if err := hear.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		w.lifetime.Store(o.Lifetime)
		w.delay.Store(int64(o.Delay))
		if err := say.Encode(w.requests.Load()); err != nil {
			return err
		}
	}
}

// startTokens starts the child.
func startTokens() (*tokens, error) {
	p, err := startProcess("tokens")
	if err != nil {
		return nil, err
	}
	t := &tokens{process: p}
	var at place
	if err = t.hear(&at); err == nil {
		t.endpoint, err = at.endpoint()
	}
	if err != nil {
		return nil, errors.Join(err, p.end())
	}
	return t, nil
}

func (p place) endpoint() (*Endpoint, error) {
	transport, err := trusting(p.Certificate)
	return &Endpoint{URL: p.URL, Client: &http.Client{Transport: transport}}, err
}

// set says how the endpoint is from now on, and returns how many token requests
// there were.
func (t *tokens) set(o order) (requests int, err error) {
	if err = json.NewEncoder(t.process.in).Encode(o); err == nil {
		err = t.hear(&requests)
	}
	return requests, err
}

func (t *tokens) hear(v any) error {
	line, err := t.process.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("token endpoint: %w", err)
	}
	return json.NewDecoder(bytes.NewReader(line)).Decode(v)
}

// trusting returns a transport that knows these certificates.
func trusting(certificates ...[]byte) (*http.Transport, error) {
	roots := x509.NewCertPool()
	for _, der := range certificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		roots.AddCert(cert)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 100}, nil
}
