package main

import (
	"context"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// azcorePeer is a pipeline with a bearer token policy. Retries of API calls are
// off, as no other peer has them; what else a pipeline does is part of its price.
type azcorePeer struct{}

func (azcorePeer) Name() string   { return "azcore" }
func (azcorePeer) Module() string { return "github.com/Azure/azure-sdk-for-go/sdk/azcore" }

func (azcorePeer) Wrap(u User) (http.RoundTripper, error) {
	auth := runtime.NewBearerTokenPolicy(azureCredential{u}, []string{"scope"}, nil)
	return azurePipeline{runtime.NewPipeline("benchmarks", "v0", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &policy.ClientOptions{
		Transport: azureTransporter{u.Base},
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{Disabled: true},
	})}, nil
}

type azureCredential struct{ user User }

func (c azureCredential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	tok, err := c.user.Token(ctx)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	at := azcore.AccessToken{Token: tok.AccessToken, ExpiresOn: tok.Expiry}
	if c.user.Margin != 0 {
		at.RefreshOn = tok.Expiry.Add(-c.user.Margin)
	}
	return at, nil
}

type azureTransporter struct{ base http.RoundTripper }

func (t azureTransporter) Do(req *http.Request) (*http.Response, error) { return t.base.RoundTrip(req) }

type azurePipeline struct{ pipeline runtime.Pipeline }

func (p azurePipeline) RoundTrip(req *http.Request) (*http.Response, error) {
	// The policy writes into the request that it is given.
	r, err := runtime.NewRequestFromRequest(req.Clone(req.Context()))
	if err != nil {
		return nil, err
	}
	return p.pipeline.Do(r)
}
