package login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/authtrip"
	"example.com/authtrip/internal/digest"
	"example.com/authtrip/internal/exact"
	"example.com/authtrip/internal/flight"
	"example.com/authtrip/internal/wire"
)

// ClientMetadata is what a client says about itself: to register (RFC 7591, section 2),
// and in a client ID metadata document. If a member is not there, the server decides.
type ClientMetadata struct {
	RedirectURIs            []string        `json:"redirect_uris,omitempty"`
	TokenEndpointAuthMethod string          `json:"token_endpoint_auth_method,omitempty"`
	GrantTypes              []string        `json:"grant_types,omitempty"`
	ResponseTypes           []string        `json:"response_types,omitempty"`
	ClientName              string          `json:"client_name,omitempty"`
	ClientURI               string          `json:"client_uri,omitempty"`
	LogoURI                 string          `json:"logo_uri,omitempty"`
	Scope                   string          `json:"scope,omitempty"`
	Contacts                []string        `json:"contacts,omitempty"`
	TOSURI                  string          `json:"tos_uri,omitempty"`
	PolicyURI               string          `json:"policy_uri,omitempty"`
	JWKSURI                 string          `json:"jwks_uri,omitempty"`
	JWKS                    json.RawMessage `json:"jwks,omitempty"`
	SoftwareID              string          `json:"software_id,omitempty"`
	SoftwareVersion         string          `json:"software_version,omitempty"`
	ApplicationType         string          `json:"application_type,omitempty"`
	PostLogoutRedirectURIs  []string        `json:"post_logout_redirect_uris,omitempty"`
	BackChannelLogoutURI    string          `json:"backchannel_logout_uri,omitempty"`
	FrontChannelLogoutURI   string          `json:"frontchannel_logout_uri,omitempty"`
	InitiateLoginURI        string          `json:"initiate_login_uri,omitempty"`
	// TokenEndpointAuthSigningAlg is the algorithm of Client.Key, which some servers want named.
	TokenEndpointAuthSigningAlg string `json:"token_endpoint_auth_signing_alg,omitempty"`
	// DPoPBoundAccessTokens and CertificateBoundAccessTokens say that the client always has
	// its tokens bound (RFC 9449, section 5.2; RFC 8705, section 3.4): it must have the
	// field [Client.DPoP], or one of those for certificates.
	DPoPBoundAccessTokens        bool `json:"dpop_bound_access_tokens,omitempty"`
	CertificateBoundAccessTokens bool `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	// BackChannelLogoutSessionRequired and FrontChannelLogoutSessionRequired ask for the sid.
	BackChannelLogoutSessionRequired  bool `json:"backchannel_logout_session_required,omitempty"`
	FrontChannelLogoutSessionRequired bool `json:"frontchannel_logout_session_required,omitempty"`
	// SoftwareStatement is what somebody else has signed about the software (section 2.3).
	SoftwareStatement string `json:"software_statement,omitempty"`
}

// check looks for private keys, which a set that was made of keys in memory has.
func (m *ClientMetadata) check() error {
	if len(m.JWKS) == 0 {
		return nil
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(m.JWKS, &set); err != nil {
		return errors.New("login: ClientMetadata.JWKS is not a set of keys")
	}
	for _, k := range set.Keys {
		if !k.IsPublic() {
			return errors.New("login: ClientMetadata.JWKS has a private key, want public ones: see JSONWebKey.Public of go-jose")
		}
	}
	return nil
}

// A Registration is what a server has made of a [ClientMetadata] (RFC 7591, section
// 3.2.1). It belongs to one issuer, and holds secrets. It can be kept as JSON. fmt and
// log/slog print nothing of it.
type Registration struct {
	// Issuer is the server. Nothing of the registration is sent to another one.
	Issuer string `json:"issuer"`
	ClientMetadata
	ClientID              string `json:"client_id"`
	ClientSecret          string `json:"client_secret,omitempty"`
	ClientIDIssuedAt      int64  `json:"client_id_issued_at,omitempty"`
	ClientSecretExpiresAt int64  `json:"client_secret_expires_at,omitempty"`
	// RegistrationClientURI and RegistrationAccessToken are for [Provider.ReadRegistration]
	// and its like; "" if the server has none of it (RFC 7592, section 3).
	RegistrationClientURI   string `json:"registration_client_uri,omitempty"`
	RegistrationAccessToken string `json:"registration_access_token,omitempty"`
}

// Format implements [fmt.Formatter]: it prints nothing that is in r.
func (r Registration) Format(s fmt.State, _ rune) { blank(s, "login.Registration") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in r.
func (r Registration) LogValue() slog.Value { return slog.StringValue("login.Registration{…}") }

// SecretExpired reports whether the secret has expired: only a new registration helps.
func (r *Registration) SecretExpired() bool {
	return r.ClientSecretExpiresAt > 0 && time.Now().Unix() >= r.ClientSecretExpiresAt
}

// Client returns the client of r at p. The caller sets its other fields. A registration
// with another issuer is an error.
func (r *Registration) Client(p *Provider) (*Client, error) {
	if r.Issuer != p.Issuer {
		return nil, refuse("registration issuer", "the client is registered with another server", p.Issuer, r.Issuer)
	}
	c := &Client{Provider: p, ID: r.ClientID, Secret: r.ClientSecret, AuthMethod: r.TokenEndpointAuthMethod}
	if len(r.RedirectURIs) > 0 {
		c.RedirectURL = r.RedirectURIs[0]
	}
	return c, nil
}

// Register registers a client (RFC 7591). initialToken is "" if the server registers
// anybody.
//
// It is sent once. If the answer is lost, the server may have registered a client that
// nobody uses. Its errors are *[EndpointError], and those of [Provider.Metadata]; one that
// wraps [errors.ErrUnsupported] says that the server cannot do it.
func (p *Provider) Register(ctx context.Context, m *ClientMetadata, initialToken string) (*Registration, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	meta, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	at, err := p.endpoint(meta, endpointRegistration, false)
	if err != nil {
		return nil, err
	}
	a, err := p.manage(ctx, http.MethodPost, at.String(), initialToken, m)
	if err != nil {
		return nil, err
	}
	return p.readRegistration(a, nil)
}

// ReadRegistration asks the server for what it knows of r (RFC 7592, section 2.1). Keep
// the result in place of r: the server may have made a new token or secret.
func (p *Provider) ReadRegistration(ctx context.Context, r *Registration) (*Registration, error) {
	at, err := p.management(r)
	if err != nil {
		return nil, err
	}
	a, err := p.manage(ctx, http.MethodGet, at, r.RegistrationAccessToken, nil)
	if err != nil {
		return nil, err
	}
	return p.readRegistration(a, r)
}

// UpdateRegistration replaces what the client says about itself (section 2.2): what is
// not in m is removed. Keep the result in place of r.
func (p *Provider) UpdateRegistration(ctx context.Context, r *Registration, m *ClientMetadata) (*Registration, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	at, err := p.management(r)
	if err != nil {
		return nil, err
	}
	doc := struct {
		ClientMetadata
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret,omitempty"`
	}{*m, r.ClientID, r.ClientSecret}
	a, err := p.manage(ctx, http.MethodPut, at, r.RegistrationAccessToken, doc)
	if err != nil {
		return nil, err
	}
	return p.readRegistration(a, r)
}

// DeleteRegistration ends the client (section 2.3).
func (p *Provider) DeleteRegistration(ctx context.Context, r *Registration) error {
	at, err := p.management(r)
	if err != nil {
		return err
	}
	_, err = p.manage(ctx, http.MethodDelete, at, r.RegistrationAccessToken, nil)
	return err
}

// management returns where r is managed. Its token goes to no other server.
func (p *Provider) management(r *Registration) (string, error) {
	if err := p.check(); err != nil {
		return "", err
	}
	if r.Issuer != p.Issuer {
		return "", refuse("registration issuer", "the client is registered with another server", p.Issuer, r.Issuer)
	}
	if r.RegistrationClientURI == "" || r.RegistrationAccessToken == "" {
		return "", unsupported("client configuration")
	}
	at, err := checkURL("the provider's client configuration endpoint", r.RegistrationClientURI, p.local(), p.AllowInsecureHTTP)
	if err != nil {
		return "", err
	}
	return at.String(), nil
}

// manage sends one request of RFC 7591 or 7592.
func (p *Provider) manage(ctx context.Context, method, at, token string, doc any) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
	defer cancel()
	var body []byte
	if doc != nil {
		var err error
		if body, err = json.Marshal(doc); err != nil {
			return nil, fmt.Errorf("login: ClientMetadata: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, &EndpointError{Endpoint: endpointRegistration, Err: wire.Cause(err)}
	}
	req.Header.Set("Accept", "application/json")
	if doc != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := send(p.HTTPClient, req, endpointRegistration)
	if err != nil {
		return nil, err
	}
	if a.status < 200 || a.status > 204 {
		return nil, a.fail(endpointRegistration, errors.New("want status 200 or 201"))
	}
	return a, nil
}

// readRegistration reads what the server has made of a client, keeping of old what it
// does not repeat.
func (p *Provider) readRegistration(a *answer, old *Registration) (*Registration, error) {
	r := new(Registration)
	matters := func(name string) bool {
		return strings.HasPrefix(name, "client_id") || strings.HasPrefix(name, "client_secret") || strings.HasPrefix(name, "registration_")
	}
	if err := exact.Decode(a.body, r, matters); err != nil || r.ClientID == "" {
		return nil, a.fail(endpointRegistration, errors.New("the answer has no client_id, or is not that of RFC 7591"))
	}
	r.Issuer = p.Issuer
	if old == nil {
		return r, nil
	}
	if r.ClientID != old.ClientID {
		return nil, &CheckError{Check: "registration client_id", Reason: "is that of another client"}
	}
	if r.RegistrationAccessToken == "" {
		r.RegistrationAccessToken = old.RegistrationAccessToken
	}
	if r.RegistrationClientURI == "" {
		r.RegistrationClientURI = old.RegistrationClientURI
	}
	if r.ClientSecret == "" {
		r.ClientSecret, r.ClientSecretExpiresAt = old.ClientSecret, old.ClientSecretExpiresAt
	}
	return r, nil
}

// Registrations keeps what servers have made of one client, by issuer, so that it is
// registered once with each. Cache and Metadata are required. It is safe for concurrent
// use, must not be copied, and its fields must not be modified after first use. If
// several processes register at once, each may get a registration of its own.
type Registrations struct {
	// Cache keeps the registrations, which hold secrets: see [authtrip.SealedCache].
	Cache authtrip.Cache
	// Metadata is what the client says about itself.
	Metadata *ClientMetadata
	// InitialToken returns the token with which to register with an issuer. If nil, none is
	// sent.
	InitialToken func(ctx context.Context, issuer string) (string, error)
	// TTL is how long a registration is kept. If 0, it is a year, or until its secret
	// expires if that is sooner.
	TTL time.Duration

	flights flight.Group[*Registration] // by issuer
}

// Register returns the registration with the server of p: the one that is kept, or a new
// one. A secret that has expired is replaced by registering anew.
func (rs *Registrations) Register(ctx context.Context, p *Provider) (*Registration, error) {
	if rs.Cache == nil || rs.Metadata == nil {
		return nil, errors.New("login: Registrations.Cache or Registrations.Metadata is nil")
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	r, err := rs.flights.Do(ctx, p.Issuer, 2*endpointTimeout, func(ctx context.Context) (*Registration, error) { return rs.register(ctx, p) })
	if r != nil {
		own := *r // of those who share it, each may change its own
		r = &own
	}
	return r, interrupted(ctx, err)
}

// register is for one caller at a time: of each other one the server would make a client of
// its own.
func (rs *Registrations) register(ctx context.Context, p *Provider) (*Registration, error) {
	kept, err := rs.Cache.Get(ctx, registrationKey(p))
	if err != nil && !errors.Is(err, authtrip.ErrNotFound) {
		return nil, fmt.Errorf("login: Registrations.Cache: %w", err)
	}
	r := new(Registration)
	if err == nil && json.Unmarshal(kept, r) == nil && r.Issuer == p.Issuer && r.ClientID != "" && !r.SecretExpired() {
		return r, nil
	}
	var token string
	if rs.InitialToken != nil {
		if token, err = rs.InitialToken(ctx, p.Issuer); err != nil {
			return nil, fmt.Errorf("login: Registrations.InitialToken: %w", err)
		}
	}
	if r, err = p.Register(ctx, rs.Metadata, token); err != nil {
		return nil, err
	}
	return r, rs.Keep(ctx, r)
}

// Keep replaces what is kept for r's issuer, as after [Provider.UpdateRegistration].
func (rs *Registrations) Keep(ctx context.Context, r *Registration) error {
	doc, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("login: Registrations: %w", err)
	}
	ttl := rs.TTL
	if ttl <= 0 {
		ttl = 365 * 24 * time.Hour
	}
	if r.ClientSecretExpiresAt > 0 {
		// In seconds, as what a server means by never may be more than a Duration can be.
		left := min(r.ClientSecretExpiresAt-time.Now().Unix(), int64(ttl/time.Second))
		ttl = time.Duration(max(left, 0)) * time.Second
	}
	if err := rs.Cache.Set(context.WithoutCancel(ctx), registrationKey(&Provider{Issuer: r.Issuer}), doc, ttl); err != nil {
		return fmt.Errorf("login: Registrations.Cache: %w", err)
	}
	return nil
}

func registrationKey(p *Provider) string { return "registration:" + digest.Of(p.Issuer) }

// ClientDocument is a client ID metadata document
// (draft-ietf-oauth-client-id-metadata-document). It is served at a URL, and that URL is
// the client_id, so the client need not register. Everybody may read the page:
//
//	mux.Handle("GET /client.json", &login.ClientDocument{ID: "https://app.example/client.json", Metadata: m})
//
// ID and Metadata are required, and must not be modified after first use.
type ClientDocument struct {
	// ID is the client_id: the https URL of this page, with a path.
	ID string
	// Metadata is what the client says about itself. It has no secret: a client
	// authenticates itself with private_key_jwt, or not at all.
	Metadata *ClientMetadata
}

// ServeHTTP implements [http.Handler].
func (d *ClientDocument) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		notAllowed(w, "GET, HEAD")
		return
	}
	doc, err := d.Document()
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(doc)
}

// Document returns the document as JSON, or an error that names the member that must or must
// not be there.
func (d *ClientDocument) Document() ([]byte, error) {
	u, err := url.Parse(d.ID)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.Path == "" || u.Path == "/" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("login: ClientDocument.ID is not an https URL with a path, without user and fragment")
	case strings.Contains(u.EscapedPath()+"/", "/./") || strings.Contains(u.EscapedPath()+"/", "/../"):
		return nil, errors.New("login: ClientDocument.ID has a . or .. in its path")
	case d.Metadata == nil || len(d.Metadata.RedirectURIs) == 0:
		return nil, errors.New("login: ClientDocument.Metadata has no RedirectURIs")
	}
	if err = d.Metadata.check(); err != nil {
		return nil, err
	}
	m := *d.Metadata
	switch m.TokenEndpointAuthMethod {
	case "":
		m.TokenEndpointAuthMethod = authNone
	case authBasic, authPost, authSecretJWT:
		return nil, errors.New("login: ClientDocument.Metadata.TokenEndpointAuthMethod needs a secret, which a document for everybody cannot have")
	}
	doc, err := json.Marshal(struct {
		ClientID string `json:"client_id"`
		ClientMetadata
	}{d.ID, m})
	if err != nil {
		return nil, fmt.Errorf("login: ClientDocument.Metadata: %w", err)
	}
	return doc, nil
}
