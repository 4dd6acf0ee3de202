// Azure shows azcore, on which the clients of the Azure SDK stand: with the
// Transport as its transporter, a client needs no credential of its own, and its
// BearerTokenPolicy does nothing if it is nil.
//
// azcore tries again what a busy server did not answer, each time with the token of that
// time, and every error. It leaves a 401 alone, and so the two do not meet, but for a
// session that has ended.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"example.com/authtrip"
	"example.com/authtrip/examples/internal/scene"
)

func main() { scene.Main(run) }

func run(ctx context.Context, w io.Writer) error {
	s := scene.Start(scene.API{Handler: new(vault), Refuse: refuse})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)

	// A claims challenge of Microsoft Entra would go to Transport.OnChallenge.
	client, err := newClient(&authtrip.Transport{Source: src, Origins: []string{s.URL}, RetryBodyLimit: 8 << 20})
	if err != nil {
		return err
	}
	return s.Play(ctx, w, func(ctx context.Context) error {
		version, err := put(ctx, client, s.URL+"/secrets/recipe", "a pinch of salt")
		fmt.Fprintln(w, "version", version)
		return err
	})
}

func newClient(t *authtrip.Transport) (*azcore.Client, error) {
	return azcore.NewClient("example", "v0.1.0", runtime.PipelineOptions{
		PerRetry: []policy.Policy{runtime.NewBearerTokenPolicy(nil, nil, nil)}, // as the SDK's clients have it
	}, &policy.ClientOptions{
		Transport: transporter{&http.Client{Transport: t}},
	})
}

// A transporter is a policy.Transporter. So is its http.Client, but for two things.
type transporter struct{ *http.Client }

func (t transporter) Do(req *http.Request) (*http.Response, error) {
	// azcore would give the same reader again, while the first request may still be
	// reading it. Without that, the Transport keeps a copy of up to RetryBodyLimit.
	req = req.WithContext(req.Context())
	req.GetBody = nil
	resp, err := t.Client.Do(req)
	if errors.Is(err, authtrip.ErrReauthRequired) {
		err = final{err}
	}
	return resp, err
}

// final is an error after which azcore does not try again.
type final struct{ error }

func (final) NonRetriable()   {}
func (f final) Unwrap() error { return f.error }
