package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"example.com/authtrip/login"
	"example.com/authtrip/probe/measure"
)

// config is the command line.
type config struct {
	issuer, metadataURL, id, api string
	login, scopes, resource      string
	prompt, addr, path, method   string
	secretEnv, secretFile        string
	keyFile, keyID               string
	steps                        string
	yes, json                    bool
	row                          string
	sessions                     int
	graceLimit                   time.Duration
}

const usage = `usage: probe -issuer URL -client-id ID [flags]

Asks an authorization server how it treats tokens. It takes less than two minutes beside the
time that logins need. The client's secret is read from $` + measure.SecretEnv + `, or from a file.

flags:
`

func (c *config) define(f *flag.FlagSet) {
	f.StringVar(&c.issuer, "issuer", "", "the server's `URL`, exactly as it writes it; required")
	f.StringVar(&c.metadataURL, "metadata", "", "`URL` of its metadata, where that is not where the issuer says")
	f.StringVar(&c.id, "client-id", "", "the client; required")
	f.StringVar(&c.secretEnv, "secret-env", measure.SecretEnv, "`NAME` of the environment variable with the client's secret")
	f.StringVar(&c.secretFile, "secret-file", "", "`file` with the client's secret")
	f.StringVar(&c.keyFile, "key-file", "", "`file` with the client's private key, as PEM, for private_key_jwt")
	f.StringVar(&c.keyID, "key-id", "", "the key's `ID`")
	f.StringVar(&c.method, "auth-method", "", "the client authentication `method`, such as client_secret_post; without it those are tried that fit")
	f.StringVar(&c.login, "login", "loopback", "how the tokens come: loopback, device or client-credentials")
	f.StringVar(&c.scopes, "scopes", "", "what is asked for, with spaces between; without it openid offline_access, and nothing for client-credentials")
	f.StringVar(&c.resource, "resource", "", "the API that tokens are for (RFC 8707)")
	f.StringVar(&c.prompt, "prompt", "", "the prompt of logins, such as consent, which some servers want for a refresh token")
	f.StringVar(&c.addr, "addr", "127.0.0.1:0", "loopback `address` that the browser comes back to; a server may want its port registered")
	f.StringVar(&c.path, "path", "/callback", "`path` that the browser comes back to")
	f.StringVar(&c.api, "api", "", "`URL` of an API that takes the tokens; it is asked with GET")
	f.StringVar(&c.steps, "steps", "", "these steps alone, with commas between, without asking")
	f.BoolVar(&c.yes, "yes", false, "all steps, without asking")
	f.BoolVar(&c.json, "json", false, "print the report as JSON")
	f.StringVar(&c.row, "row", "", "print the report as the row of a server of that `name` for docs/providers.md")
	f.IntVar(&c.sessions, "sessions", 4, "how many sessions the search of the grace period uses; each is a login")
	f.DurationVar(&c.graceLimit, "grace-limit", 65*time.Second, "the longest grace period that is looked for, at most 5m10s; a longer one takes longer")
}

// parse reads the command line; -h prints the flags and the steps.
func (p *program) parse(args []string) (*config, error) {
	c := new(config)
	f := flag.NewFlagSet("probe", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	c.define(f)
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(p.out, usage)
		f.SetOutput(p.out)
		f.PrintDefaults()
		fmt.Fprintln(p.out, "\nsteps, each of which is asked for first:")
		for _, s := range measure.Steps() {
			fmt.Fprintf(p.out, "  %-7s %s\n", s.Name, s.Does)
		}
		return nil, err
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: see probe -h", err)
	case f.NArg() > 0:
		return nil, errors.New("there is an argument that is no flag: see probe -h")
	case c.issuer == "" || c.id == "":
		return nil, errors.New("-issuer and -client-id are required: see probe -h")
	case !slices.Contains([]string{"loopback", "device", "client-credentials"}, c.login):
		return nil, fmt.Errorf("-login %q is none of loopback, device and client-credentials", c.login)
	}
	return c, c.checkSteps()
}

func (c *config) checkSteps() error {
	for _, name := range c.chosen() {
		if !slices.ContainsFunc(measure.Steps(), func(s measure.Step) bool { return s.Name == name }) {
			return fmt.Errorf("-steps: there is no step %q: see probe -h", name)
		}
	}
	return nil
}

func (c *config) chosen() []string {
	return strings.FieldsFunc(c.steps, func(r rune) bool { return r == ',' || r == ' ' })
}

// client is the client that the flags describe.
func (c *config) client(getenv func(string) string) (*login.Client, error) {
	client := &login.Client{
		Provider:   &login.Provider{Issuer: c.issuer, MetadataURL: c.metadataURL},
		ID:         c.id,
		Secret:     getenv(c.secretEnv),
		AuthMethod: c.method,
		KeyID:      c.keyID,
	}
	if c.resource != "" {
		client.Resources = []string{c.resource}
	}
	client.Scopes = strings.Fields(c.scopes)
	if c.login != "client-credentials" {
		client.Scopes = strings.Fields(cmp.Or(c.scopes, "openid offline_access"))
	}
	if c.secretFile != "" {
		secret, err := os.ReadFile(c.secretFile)
		if err != nil {
			return nil, fmt.Errorf("-secret-file: %w", err)
		}
		client.Secret = strings.TrimRight(string(secret), "\r\n")
	}
	if c.keyFile == "" {
		return client, nil
	}
	var err error
	client.Key, err = readKey(c.keyFile)
	return client, err
}

// readKey reads a private key. Its errors quote nothing of the file.
func readKey(name string) (crypto.Signer, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("-key-file: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("-key-file: it is not PEM")
	}
	if key, perr := x509.ParsePKCS8PrivateKey(block.Bytes); perr == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	if key, perr := x509.ParseECPrivateKey(block.Bytes); perr == nil {
		return key, nil
	}
	if key, perr := x509.ParsePKCS1PrivateKey(block.Bytes); perr == nil {
		return key, nil
	}
	return nil, errors.New("-key-file: there is no private key in it, as PKCS #8, PKCS #1 or SEC 1")
}

// allow decides about a step: by the flags, or by asking.
func (p *program) allow(c *config) func(context.Context, measure.Step) bool {
	in := &lines{from: p.in}
	return func(ctx context.Context, s measure.Step) bool {
		switch chosen := c.chosen(); {
		case len(chosen) > 0:
			return slices.Contains(chosen, s.Name)
		case c.yes || s.Name == "login":
			return true
		case !p.asks:
			return false
		}
		fmt.Fprintf(p.err, "\nThe step %q %s.\nTake it? [y/N] ", s.Name, s.Does)
		line := strings.ToLower(strings.TrimSpace(in.next(ctx)))
		return line == "y" || line == "yes"
	}
}
