package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strings"

	"example.com/authtrip"
)

const callUsage = `usage: cli call [-X method] [-d body] [-H 'name: value'] URL

URL is one of the API, or relative to it. The answer goes to the standard output;
from status 400 on the exit code is 22.

`

// call sends one request to the API.
func (p *program) call(ctx context.Context, conf config, args []string) error {
	req, err := p.request(ctx, conf, args)
	if err != nil {
		return err
	}
	a, err := p.account(conf)
	if err != nil {
		return err
	}
	src := a.source()
	defer p.end(src)
	var refusal error
	client := &http.Client{Transport: &authtrip.Transport{
		Source:  src,
		Origins: []string{req.URL.Scheme + "://" + req.URL.Host}, // a redirect may lead elsewhere
		OnEvent: func(e authtrip.Event) {
			a.onEvent(e)
			if e.Kind == authtrip.EventRequestNotRetried {
				refusal = e.Err
			}
		},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if errors.Is(refusal, authtrip.ErrReauthRequired) {
		return refusal // and what the API says of the token helps nobody
	}
	if _, err := io.Copy(p.out, resp.Body); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode >= 400 {
		return statusError{resp.Status, explain(req, refusal)}
	}
	return nil
}

// explain says in words of this program why a refused request was not sent again.
// If it is not the refresh that failed, it is the body.
func explain(req *http.Request, refusal error) error {
	_, refresh := errors.AsType[*authtrip.RefreshError](refusal)
	if refusal == nil || refresh || req.Body == nil || req.GetBody != nil {
		return refusal
	}
	return errors.New("the token has been replaced, but what came in cannot be sent twice: run the command again")
}

// request makes the request of a command line.
func (p *program) request(ctx context.Context, conf config, args []string) (*http.Request, error) {
	flags := flag.NewFlagSet("call", flag.ContinueOnError)
	method := flags.String("X", "", "`method`; if not given, GET, or POST where there is a body")
	data := flags.String("d", "", "`body`; @name is the content of a file, @- what comes in")
	header := make(http.Header)
	flags.Func("H", "`header`, as 'Name: value'; may be given again", func(s string) error { return addHeader(header, s) })
	if err := p.parse(flags, args, callUsage); err != nil {
		return nil, err
	}
	if flags.NArg() != 1 {
		return nil, usageError("cli call takes one URL, behind its flags")
	}
	u, err := conf.target(flags.Arg(0))
	if err != nil {
		return nil, err
	}
	return p.newRequest(ctx, *method, u, *data, header)
}

func (p *program) newRequest(ctx context.Context, method string, u *url.URL, data string, header http.Header) (*http.Request, error) {
	if data == "" {
		req, err := http.NewRequestWithContext(ctx, cmp.Or(method, http.MethodGet), u.String(), nil)
		if err != nil {
			return nil, usageError("%v", err)
		}
		req.Header = header
		return req, nil
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(method, http.MethodPost), u.String(), strings.NewReader(data))
	if err != nil {
		return nil, usageError("%v", err)
	}
	req.Header = header
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	if name, ok := strings.CutPrefix(data, "@"); ok {
		return req, p.stream(req, name)
	}
	return req, nil
}

// stream has req carry a file, however large. One with a name can be read again if
// the API refuses the token; what comes in cannot, so that the caller has to send
// it again.
func (p *program) stream(req *http.Request, name string) error {
	req.ContentLength, req.GetBody = -1, nil
	if name == "-" {
		req.Body = io.NopCloser(p.in)
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return usageError("%v", err)
	}
	req.Body = f
	if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
		req.ContentLength = fi.Size()
		req.GetBody = func() (io.ReadCloser, error) { return os.Open(name) }
	}
	return nil
}

func addHeader(header http.Header, line string) error {
	name, value, ok := strings.Cut(line, ":")
	name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
	switch {
	case !ok || name == "":
		return errors.New("want 'Name: value'")
	case name == "Authorization" || name == "Host":
		return errors.New("this one is set by the program")
	}
	header.Add(name, strings.TrimSpace(value))
	return nil
}
