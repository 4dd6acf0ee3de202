// Kubernetes shows k8s.io/client-go, whose rest.Config takes a Transport around its own, so
// that TLS, proxies and HTTP/2 stay client-go's business. Its limit of requests per second
// comes before the Transport: a retry is not held up by it.
//
// Of all the ways in which a rest.Config can say who calls, none may be set: where client-go
// has put an Authorization header on a request, it stays, and nothing is refreshed.
// rest.AnonymousClientConfig removes them from a configuration that comes from a kubeconfig
// or from a pod.
//
// An API server rejects a token with a 401 that has no challenge, which counts as
// invalid_token. The objects that client-go sends can be sent again. A watch has the token
// with which it was opened, and goes on when that one has ended; the watch that follows it
// has the token of its time.
//
// A cluster may want the ID token in the place of the access token: see idTokens.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: new(cluster), Refuse: refuse, TLS: true})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	client, err := kubernetes.NewForConfig(wrap(configOf(s), src))
	if err != nil {
		return err
	}
	maps := client.CoreV1().ConfigMaps(namespace)

	fmt.Fprintln(w, "create")
	err = s.Play(ctx, w, func(ctx context.Context) error { return create(ctx, w, maps, "50") })
	if err != nil {
		return err
	}

	fmt.Fprintln(w, "watch")
	return s.Play(ctx, w, func(ctx context.Context) error { return first(ctx, w, maps) })
}

// wrap returns config with the tokens of src in the place of its own credentials,
// of Impersonate, and of what was wrapped before.
func wrap(config *rest.Config, src *authtrip.Source) *rest.Config {
	config = rest.AnonymousClientConfig(config)
	config.Wrap(func(base http.RoundTripper) http.RoundTripper {
		return &authtrip.Transport{Source: src, Base: base}
	})
	return config
}
