// Sidecar shows a reverse proxy that adds tokens: a program in any language calls
// an address on its own machine, knows nothing of OAuth, and reaches an API that
// wants an access token.
//
// A rejected request is sent again by the proxy, with its body if that is not larger than
// Transport.RetryBodyLimit; the program does not notice.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: http.HandlerFunc(echo)})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	api, err := url.Parse(s.URL)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Transport: &authtrip.Transport{Source: src, Origins: []string{s.URL}},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(api)
			r.Out.Header.Del("Authorization") // it would stay, and no token would be added
		},
	}
	// On this machine only: whoever reaches the sidecar acts with its token.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	sidecar := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = sidecar.Serve(listener) }() // until Close
	defer func() { _ = sidecar.Close() }()

	return s.Play(ctx, w, func(ctx context.Context) error {
		answer, err := program(ctx, "http://"+listener.Addr().String())
		fmt.Fprintln(w, answer)
		return err
	})
}

// program stands for any program, such as curl.
func program(ctx context.Context, address string) (answer string, err error) {
	body := strings.NewReader("a body that arrives whole")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/notes", body)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), errors.Join(err, resp.Body.Close())
}
