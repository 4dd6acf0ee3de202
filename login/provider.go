package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"example.com/authtrip"
	"example.com/authtrip/internal/backoff"
	"example.com/authtrip/internal/digest"
	"example.com/authtrip/internal/origin"
)

// A Provider is an authorization server, known by its issuer. Its metadata and keys are read
// when they are needed, kept, and read again in the background when they are old. While the
// server is down, the last good copy is used. Concurrent readers share one request, and none
// of them can cancel it.
//
// Only Issuer is required. A Provider is safe for concurrent use, must not be
// copied, and its fields must not be modified after first use. One Provider
// serves all clients of its issuer.
type Provider struct {
	// Issuer is the server's identifier, an https URL, exactly as the server
	// writes it: a "/" at the end matters.
	Issuer string
	// MetadataURL is where the metadata is, if it is not where the issuer says.
	// If "", it is looked for below /.well-known/openid-configuration (OpenID
	// Connect Discovery 1.0, section 4), then at
	// /.well-known/oauth-authorization-server (RFC 8414, section 3), and then, for an
	// issuer with a path, at /.well-known/openid-configuration before the path.
	MetadataURL string
	// OAuthFirst looks for the metadata in the order of the Model Context Protocol: at
	// oauth-authorization-server first.
	OAuthFirst bool
	// Static describes a provider that publishes nothing; its Issuer, if any,
	// must be the one above. If nil, the metadata is asked for.
	Static *Metadata
	// TenantIssuer is for a server whose ID tokens have an issuer of their tenant, and whose
	// metadata has a placeholder for it: Microsoft Entra's
	// https://login.microsoftonline.com/{tenantid}/v2.0, exactly as the metadata writes it.
	// The iss of an ID token must be that, with the token's own tid for {tenantid}, and
	// Tenants must take the tid. Issuer says where the metadata is, such as
	// https://login.microsoftonline.com/organizations/v2.0. If "", there is one issuer.
	TenantIssuer string
	// Tenants reports whether users of a tenant may log in. It is required with
	// TenantIssuer, as anybody can make a tenant.
	Tenants func(tenant string) bool
	// TTL is how long metadata and keys are good. If 0, it is an hour; negative means for
	// ever. If a signature has an unknown key, the keys are fetched sooner, but not more
	// often than every 30 seconds.
	TTL time.Duration
	// Cache, if set, keeps metadata and keys for the next start of the program, which then
	// need not wait for the server. TTL counts from when they were fetched. Anybody who can
	// write to the Cache can be the server: see [authtrip.SealedCache]. A Cache that fails
	// is ignored.
	Cache authtrip.Cache
	// HTTPClient sends the requests. If nil, one with the [http.DefaultTransport] does.
	// Redirects are never followed.
	HTTPClient *http.Client
	// AllowInsecureHTTP permits plain http to hosts other than localhost and loopback
	// addresses, for the issuer, the endpoints and the redirect URL. Setting this sends
	// secrets and tokens in clear text, and lets an attacker on the network be the server.
	AllowInsecureHTTP bool
	// OnEvent, if set, is told of fetched metadata and keys, and of a revocation by
	// [Handlers] that failed. It is called synchronously, with no lock held, from several
	// goroutines at once.
	OnEvent func(authtrip.Event)

	metadata document[*Metadata]
	place    atomic.Pointer[string] // where the metadata was
	keys     document[*keySet]
	missed   [senders]atomic.Pointer[backoff.Setback] // the last fetch for an unknown key
}

// The kinds of [authtrip.Event] of this package.
const (
	// EventMetadataRefreshed and EventKeysRefreshed: a copy was fetched.
	EventMetadataRefreshed authtrip.EventKind = "metadata_refreshed"
	EventKeysRefreshed     authtrip.EventKind = "keys_refreshed"
	// EventMetadataFailed and EventKeysFailed: a fetch failed. The last good copy is used,
	// if there is one.
	EventMetadataFailed authtrip.EventKind = "metadata_failed"
	EventKeysFailed     authtrip.EventKind = "keys_failed"
	// EventRevocationFailed: a token could not be revoked, at a logout or after a login that
	// OnLogin turned down. The server accepts it until it expires.
	EventRevocationFailed authtrip.EventKind = "revocation_failed"
)

// Discover returns the provider of issuer after it has read its metadata. It
// blocks until that is done or ctx ends. Its errors are *[EndpointError] for what
// the network or the server did, *[CheckError] for metadata of another issuer,
// and plain ones for an issuer that cannot be one.
//
// A literal Provider with that Issuer does the same when it is first used.
func Discover(ctx context.Context, issuer string) (*Provider, error) {
	p := &Provider{Issuer: issuer}
	_, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Metadata returns what the provider publishes. It blocks only while there is no copy at
// all, until one is fetched or ctx ends. Its errors are those of [Discover]. After a failure
// the next attempt is backed off, and until it is due the same error is returned at once.
func (p *Provider) Metadata(ctx context.Context) (*Metadata, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Static != nil {
		return p.static()
	}
	p.metadata.restore(ctx, p.Cache, p.metadataKey(), p.parseMetadata)
	return p.metadata.get(ctx, p.ttl(), p.fetchMetadata)
}

func (p *Provider) static() (*Metadata, error) {
	if p.Static.Issuer == "" {
		return p.Static, nil
	}
	return p.Static, p.checkMetadata(p.Static)
}

func (p *Provider) ttl() time.Duration {
	if p.TTL == 0 {
		return time.Hour
	}
	return p.TTL
}

// check looks at what is configured; the errors name the field.
func (p *Provider) check() error {
	if p == nil {
		return errors.New("login: Client.Provider is nil")
	}
	u, err := checkURL("Provider.Issuer", p.Issuer, true, p.AllowInsecureHTTP)
	if err != nil {
		return err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return errors.New("login: Provider.Issuer must have no query")
	}
	if p.TenantIssuer == "" {
		return nil
	}
	if strings.Count(p.TenantIssuer, tenantID) != 1 {
		return errors.New("login: Provider.TenantIssuer must have " + tenantID + " once")
	}
	if p.Tenants == nil {
		return errors.New("login: Provider.Tenants is nil: with TenantIssuer it says whose users may log in")
	}
	return nil
}

const tenantID = "{tenantid}"

// issues reports whether iss is an issuer of p's tokens; tenant is what the same token says
// that its tenant is.
func (p *Provider) issues(iss, tenant string) bool {
	if p.TenantIssuer == "" {
		return iss == p.Issuer
	}
	return isTenant(tenant) && iss == strings.Replace(p.TenantIssuer, tenantID, tenant, 1) && p.Tenants(tenant)
}

// isTenant reports whether a tenant is a UUID, as it is written by the server.
func isTenant(s string) bool {
	return len(s) == 36 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
	})
}

// local reports whether the issuer itself is on this machine over plain http.
func (p *Provider) local() bool {
	u, err := url.Parse(p.Issuer)
	return err == nil && u.Scheme == "http" && origin.Loopback(u.Hostname())
}

// endpoint returns the URL of an endpoint of the metadata.
func (p *Provider) endpoint(m *Metadata, name string, mtls bool) (*url.URL, error) {
	raw := m.endpoint(name, mtls)
	if raw == "" {
		return nil, unsupported(name)
	}
	return checkURL("the provider's "+name+" endpoint", raw, p.local(), p.AllowInsecureHTTP)
}

func (p *Provider) fetchMetadata(ctx context.Context) (*Metadata, error) {
	start := time.Now()
	m, err := p.discover(ctx)
	p.report(EventMetadataRefreshed, EventMetadataFailed, start, err)
	return m, err
}

// discover looks for the metadata at one place after the other. An answer that is
// none leads to the next one; another issuer's, and no answer, do not.
func (p *Provider) discover(ctx context.Context) (*Metadata, error) {
	var telling *EndpointError
	for _, at := range p.places() {
		m, err := p.read(ctx, at)
		if err == nil {
			p.place.Store(&at)
			return m, nil
		}
		ee, ok := errors.AsType[*EndpointError](err)
		if !ok || ee.StatusCode == 0 || ee.StatusCode == http.StatusTooManyRequests {
			return nil, err
		}
		if known := p.place.Load(); known != nil && *known == at && ee.StatusCode >= 500 {
			return nil, err // the copy from before is better than what another place may have
		}
		if telling == nil || telling.StatusCode == http.StatusNotFound {
			telling = ee
		}
	}
	return nil, telling
}

func (p *Provider) read(ctx context.Context, at string) (*Metadata, error) {
	if _, err := checkURL("Provider.MetadataURL", at, true, p.AllowInsecureHTTP); err != nil {
		return nil, err
	}
	body, err := fetch(ctx, p.HTTPClient, "metadata", at)
	if err != nil {
		return nil, err
	}
	m, err := p.parseMetadata(body)
	if err == nil {
		carry(ctx, p.Cache, p.metadataKey(), body, p.ttl())
	}
	return m, asEndpointError("metadata", err)
}

func (p *Provider) parseMetadata(body []byte) (*Metadata, error) {
	m, err := parseMetadata(body)
	if err == nil {
		err = p.checkMetadata(m)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (p *Provider) metadataKey() string {
	return "metadata:" + digest.Of(p.Issuer, p.MetadataURL)
}

// places returns where the metadata may be, first where it was the last time.
func (p *Provider) places() []string {
	all := p.wellKnown()
	known := p.place.Load()
	if known == nil {
		return all
	}
	places := []string{*known}
	for _, at := range all {
		if at != *known {
			places = append(places, at)
		}
	}
	return places
}

// asEndpointError keeps a CheckError as it is.
func asEndpointError(endpoint string, err error) error {
	if _, ok := errors.AsType[*CheckError](err); ok || err == nil {
		return err
	}
	return &EndpointError{Endpoint: endpoint, StatusCode: http.StatusOK, Err: err}
}

// wellKnown returns where the metadata may be: behind the issuer's path by OpenID
// Connect Discovery, before it by RFC 8414, under either name.
func (p *Provider) wellKnown() []string {
	if p.MetadataURL != "" {
		return []string{p.MetadataURL}
	}
	issuer := strings.TrimSuffix(p.Issuer, "/")
	rest := strings.Index(issuer, "://") + len("://")
	host, path := issuer, ""
	if i := strings.IndexByte(issuer[rest:], '/'); i >= 0 {
		host, path = issuer[:rest+i], issuer[rest+i:]
	}
	all := []string{
		issuer + "/.well-known/openid-configuration",
		host + "/.well-known/oauth-authorization-server" + path,
	}
	if path != "" {
		all = append(all, host+"/.well-known/openid-configuration"+path)
	}
	if p.OAuthFirst {
		all = append(all[1:], all[0])
	}
	return all
}

func (p *Provider) report(good, bad authtrip.EventKind, start time.Time, err error) {
	if p.OnEvent == nil {
		return
	}
	e := authtrip.Event{Kind: good, Duration: time.Since(start), Requests: 1, Err: err}
	if err != nil {
		e.Kind = bad
	}
	if ee, ok := errors.AsType[*EndpointError](err); ok {
		e.StatusCode, e.Code = ee.StatusCode, ee.Code
	}
	p.OnEvent(e)
}
