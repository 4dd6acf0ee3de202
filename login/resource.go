package login

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/authtrip/internal/exact"
	"example.com/authtrip/internal/origin"
)

// A Resource is an API that publishes which servers' tokens it accepts (RFC 9728). Its
// metadata is kept as that of a [Provider] is.
//
// Only ID is required. A Resource is safe for concurrent use, must not be copied,
// and its fields must not be modified after first use.
type Resource struct {
	// ID is the API's identifier, an https URL. After a challenge that names a
	// MetadataURL, it is the URL that was requested.
	ID string
	// MetadataURL is where the metadata is, such as
	// [authtrip.Challenge.ResourceMetadata]. If "", it is where the ID says: below
	// /.well-known/oauth-protected-resource of its host.
	MetadataURL string
	// TTL is how long the metadata is good. If 0, it is an hour; negative means
	// for ever.
	TTL time.Duration
	// HTTPClient sends the requests. If nil, one with the [http.DefaultTransport] does.
	// Redirects are never followed.
	HTTPClient *http.Client
	// AllowInsecureHTTP permits plain http to hosts other than localhost and loopback
	// addresses. Setting this lets an attacker on the network choose the server.
	AllowInsecureHTTP bool

	metadata document[*ResourceMetadata]
}

// ResourceMetadata is what an API publishes about itself (RFC 9728, section 2). It
// is shared and must not be modified.
type ResourceMetadata struct {
	Resource string `json:"resource"`
	// AuthorizationServers are the issuers whose tokens the API accepts, for
	// [Provider.Issuer]. The program decides which of them to trust.
	AuthorizationServers   []string `json:"authorization_servers"`
	ScopesSupported        []string `json:"scopes_supported"`
	BearerMethodsSupported []string `json:"bearer_methods_supported"`
	// DPoPBoundTokensRequired says that the API takes no bearer tokens (RFC 9449).
	DPoPBoundTokensRequired bool `json:"dpop_bound_access_tokens_required"`

	raw json.RawMessage
}

// Claims decodes all members into v, as [json.Unmarshal] does.
func (m *ResourceMetadata) Claims(v any) error {
	if err := json.Unmarshal(m.raw, v); err != nil {
		return fmt.Errorf("login: resource metadata: %w", err)
	}
	return nil
}

// Metadata returns what the API publishes. It blocks only while there is no copy
// at all, until one is fetched or ctx ends. Its errors are *[EndpointError] for
// what the network or the server did, *[CheckError] for metadata of another API,
// and plain ones for an ID that cannot be one.
func (r *Resource) Metadata(ctx context.Context) (*ResourceMetadata, error) {
	ttl := r.TTL
	if ttl == 0 {
		ttl = time.Hour
	}
	return r.metadata.get(ctx, ttl, r.fetch)
}

func (r *Resource) fetch(ctx context.Context) (*ResourceMetadata, error) {
	id, err := checkURL("Resource.ID", r.ID, true, r.AllowInsecureHTTP)
	if err != nil {
		return nil, err
	}
	at := r.MetadataURL
	if at == "" {
		at = resourceWellKnown(id)
	}
	// An API may name a place in its challenge: on this machine only if the API
	// is there as well.
	if _, err = checkURL("Resource.MetadataURL", at, origin.Loopback(id.Hostname()), r.AllowInsecureHTTP); err != nil {
		return nil, err
	}
	body, err := fetch(ctx, r.HTTPClient, "resource metadata", at)
	if err != nil {
		return nil, err
	}
	m, err := parseResource(body, r.ID)
	return m, asEndpointError("resource metadata", err)
}

// resourceWellKnown puts the name between host and path (section 3.1).
func resourceWellKnown(id *url.URL) string {
	path := strings.TrimSuffix(id.EscapedPath(), "/")
	return id.Scheme + "://" + id.Host + "/.well-known/oauth-protected-resource" + path + query(id)
}

func query(u *url.URL) string {
	if u.RawQuery == "" {
		return ""
	}
	return "?" + u.RawQuery
}

// parseResource implements Rule 46.
func parseResource(body []byte, id string) (*ResourceMetadata, error) {
	m, err := parseAnyResource(body)
	if err == nil && m.Resource != id {
		return nil, refuse("metadata resource", "is not the one that was asked for", id, m.Resource)
	}
	return m, err
}

func parseAnyResource(body []byte) (*ResourceMetadata, error) {
	m := new(ResourceMetadata)
	if err := exact.Decode(body, m, memberMatters); err != nil {
		return nil, fmt.Errorf("the answer is not the JSON of metadata: %w", err)
	}
	m.raw = exact.Only(body, memberMatters)
	return m, nil
}
