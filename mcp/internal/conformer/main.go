// Conformer is the client of this package that the official conformance suite drives.
package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/authtrip/dpop"
	"example.com/authtrip/login"
	"example.com/authtrip/mcp"
)

// given is what a scenario tells a client beforehand; what it does not need is "".
type given struct {
	Issuer       string `json:"issuer"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	PrivateKey   string `json:"private_key_pem"`
	Assertion    string `json:"valid_jwt"`
	IDToken      string `json:"idp_id_token"`
	IDPClient    string `json:"idp_client_id"`
	IDPIssuer    string `json:"idp_issuer"`
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	var g given
	if doc := os.Getenv("MCP_CONFORMANCE_CONTEXT"); doc != "" {
		if err := json.Unmarshal([]byte(doc), &g); err != nil {
			return err
		}
	}
	at := os.Args[len(os.Args)-1]
	t := &mcp.Transport{URL: at, Login: g.login(), DPoP: new(dpop.Keys), Identity: &login.Identity{
		Registered:  g.registered,
		DocumentURL: "https://conformance-test.local/client-metadata.json",
		Metadata:    &login.ClientMetadata{ClientName: "conformer"},
	}}
	st := &sdk.StreamableClientTransport{Endpoint: at, HTTPClient: &http.Client{Transport: t}}
	if os.Getenv("CONFORMER_OAUTH_HANDLER") != "" {
		st.HTTPClient, st.OAuthHandler = &http.Client{Transport: t.Proofs()}, t
	}
	return use(ctx, st)
}

func (g *given) login() mcp.Login {
	switch {
	case g.IDToken != "":
		idp := &login.Client{Provider: &login.Provider{Issuer: g.IDPIssuer}, ID: g.IDPClient}
		return &mcp.Enterprise{Provider: idp, IDToken: func(context.Context) (string, error) { return g.IDToken, nil }}
	case g.Assertion != "":
		return &mcp.Workload{Assertion: func(context.Context, string) (string, error) { return g.Assertion, nil }}
	case g.ClientID != "" && g.Issuer == "":
		return new(mcp.ClientCredentials)
	}
	return &mcp.Browser{Open: browse, Output: io.Discard}
}

func (g *given) registered(_ context.Context, issuer string) (*login.Client, error) {
	if g.ClientID == "" || g.Issuer != "" && g.Issuer != issuer {
		return nil, nil //nolint:nilnil // as Registered has it
	}
	c := &login.Client{ID: g.ClientID, Secret: g.ClientSecret}
	if block, _ := pem.Decode([]byte(g.PrivateKey)); block != nil {
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		c.Key, _ = key.(crypto.Signer)
	}
	return c, nil
}

// browse is a user who agrees.
func browse(ctx context.Context, at string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	go func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	return nil
}

// use is what a program does with a session.
func use(ctx context.Context, t sdk.Transport) error {
	session, err := sdk.NewClient(&sdk.Implementation{Name: "conformer", Version: "v0.1.0"}, nil).Connect(ctx, t, nil)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	if _, err = session.ListTools(ctx, nil); err != nil {
		return err
	}
	_, err = session.CallTool(ctx, &sdk.CallToolParams{Name: "test-tool", Arguments: map[string]any{}})
	return err
}
