package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"example.com/authtrip/internal/exact"
	"example.com/authtrip/internal/wire"
)

// An IDToken says who has logged in, verified (OpenID Connect Core 1.0, section
// 2). It is shared and must not be modified.
type IDToken struct {
	// Issuer and Subject together name the user; nothing else does (section 5.7).
	Issuer, Subject string
	Audience        []string
	IssuedAt        time.Time
	Expiry          time.Time
	// AuthTime is when the user authenticated; zero if the server did not say.
	AuthTime time.Time
	// ACR and AMR say how; "" and nil if the server did not say.
	ACR string
	AMR []string

	claims []byte
}

// Format implements [fmt.Formatter]: it prints nothing that is in t.
func (t IDToken) Format(s fmt.State, _ rune) { blank(s, "login.IDToken") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in t.
func (t IDToken) LogValue() slog.Value { return slog.StringValue("login.IDToken{…}") }

// Key returns a key for the user, made of Issuer and Subject: the same for the
// same user, and for nobody else.
func (t *IDToken) Key() string {
	return fmt.Sprintf("%d:%s%s", len(t.Issuer), t.Issuer, t.Subject)
}

// Claims decodes all claims into v, as [json.Unmarshal] does.
func (t *IDToken) Claims(v any) error {
	if err := json.Unmarshal(t.claims, v); err != nil {
		return fmt.Errorf("login: id_token: %w", err)
	}
	return nil
}

// idClaims are the claims that are looked at, by their exact names.
type idClaims struct {
	wire.IDClaims
	AuthorizedParty string   `json:"azp"`
	Tenant          string   `json:"tid"`
	AccessTokenHash string   `json:"at_hash"`
	ACR             word     `json:"acr"`
	AMR             words    `json:"amr"`
	Expiry          *float64 `json:"exp"`
	IssuedAt        *float64 `json:"iat"`
	NotBefore       *float64 `json:"nbf"`
}

// claimMatters names the claims on which a decision is built.
func claimMatters(name string) bool {
	switch name {
	case "iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "auth_time", "at_hash", "sid", "tid", "jti", "events":
		return true
	}
	return false
}

func readClaims(payload []byte) (*idClaims, error) {
	claims := new(idClaims)
	if err := exact.Decode(payload, claims, claimMatters); err != nil {
		return nil, &CheckError{Check: "id_token claims", Reason: "cannot be read", Err: err}
	}
	return claims, nil
}

// unverified returns the claims of a token that came from the token endpoint, or was
// verified before.
func unverified(raw string) (*idClaims, error) {
	payload, err := payloadOf(raw)
	if err != nil {
		return nil, idTokenError("claims", "cannot be read")
	}
	return readClaims(payload)
}

// payloadOf returns that of a JWT which nobody has verified.
func payloadOf(raw string) ([]byte, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, errors.New("is not a signed JWT")
	}
	return base64.RawURLEncoding.DecodeString(parts[1])
}

// verifyIDToken implements Rule 47.
func (c *Client) verifyIDToken(ctx context.Context, m *Metadata, raw, accessToken string, want expectation) (*IDToken, error) {
	keys := &providerKeys{provider: c.Provider, metadata: m, patience: keyPatience}
	t, claims, err := c.verifyWith(ctx, m, raw, keys)
	if err != nil {
		return nil, err
	}
	if err := c.checkTimes(claims); err != nil {
		return nil, err
	}
	if err := c.checkClaims(claims, want); err != nil {
		return nil, err
	}
	t.AccessTokenHash = claims.AccessTokenHash
	if t.AccessTokenHash != "" && t.VerifyAccessToken(accessToken) != nil {
		return nil, idTokenError("at_hash", "is not that of the access token")
	}
	id := &IDToken{
		Issuer:   claims.Issuer,
		Subject:  claims.Subject,
		Audience: claims.Audience,
		IssuedAt: seconds(*claims.IssuedAt),
		Expiry:   seconds(*claims.Expiry),
		ACR:      string(claims.ACR),
		AMR:      claims.AMR,
		claims:   exact.Only(keys.payload, claimMatters),
	}
	if at, ok := authTime(claims.AuthTime); ok {
		id.AuthTime = at
	}
	return id, nil
}

// verifyWith has go-oidc verify the signature, iss and aud, and holds the claims by
// their exact names against the same. Times are left to the caller: go-oidc's
// leeway for nbf is not that of ClockSkew.
func (c *Client) verifyWith(ctx context.Context, m *Metadata, raw string, keys *providerKeys) (*oidc.IDToken, *idClaims, error) {
	algs := c.idTokenAlgs(m)
	if _, err := parseJWT(raw, algs, "id_token"); err != nil {
		return nil, nil, err
	}
	config := &oidc.Config{ClientID: c.ID, SkipExpiryCheck: true, SkipIssuerCheck: c.Provider.TenantIssuer != ""}
	for _, alg := range algs {
		config.SupportedSigningAlgs = append(config.SupportedSigningAlgs, string(alg))
	}
	t, err := oidc.NewVerifier(c.Provider.Issuer, keys, config).Verify(ctx, raw)
	if keys.err != nil {
		return nil, nil, keys.failure("id_token")
	}
	claims, cerr := readClaims(keys.payload)
	if cerr == nil {
		cerr = c.checkParties(claims)
	}
	switch {
	case cerr != nil:
		return nil, nil, cerr
	case err != nil:
		return nil, nil, idTokenError("claims", "cannot be read")
	}
	return t, claims, nil
}

// checkParties holds iss and aud against those of the client.
func (c *Client) checkParties(claims *idClaims) error {
	switch {
	case !c.Provider.issues(claims.Issuer, claims.Tenant):
		return refuse("id_token iss", "is another server's, or of a tenant that is not taken", c.Provider.Issuer, claims.Issuer)
	case !contains(claims.Audience, c.ID):
		return refuse("id_token aud", "is not for this client", c.ID, strings.Join(claims.Audience, " "))
	}
	return nil
}

// checkTimes holds exp and nbf against the clock.
func (c *Client) checkTimes(claims *idClaims) error {
	now := time.Now()
	switch {
	case claims.Expiry == nil:
		return idTokenError("exp", "is missing")
	case seconds(*claims.Expiry).Before(now.Add(-c.skew())):
		return refuse("id_token exp", "is over", "later than "+stamp(now), stamp(seconds(*claims.Expiry)))
	case claims.NotBefore != nil && seconds(*claims.NotBefore).After(now.Add(c.skew())):
		return refuse("id_token nbf", "is not reached yet", "not after "+stamp(now), stamp(seconds(*claims.NotBefore)))
	}
	return nil
}

// seconds is the time that a NumericDate stands for; what makes no sense is long ago.
func seconds(n float64) time.Time {
	if !(n > 0 && n < 1<<40) {
		return time.Unix(0, 0)
	}
	return time.Unix(int64(n), 0)
}

func (c *Client) idTokenAlgs(m *Metadata) []jose.SignatureAlgorithm {
	if c.IDTokenAlgs != nil {
		return c.algorithms(c.IDTokenAlgs)
	}
	return c.algorithms(m.IDTokenSigningAlgs)
}

// parseJWT refuses a JWT that is not one, or whose algorithm nobody expects.
func parseJWT(raw string, algs []jose.SignatureAlgorithm, what string) (*jose.JSONWebSignature, error) {
	if len(algs) == 0 {
		return nil, &CheckError{Check: what + " alg", Reason: "none of those that the server or the client names is ever accepted"}
	}
	if len(raw) > maxJWT {
		return nil, &CheckError{Check: what, Reason: "is too long"}
	}
	if strings.Count(raw, ".") == 4 {
		return nil, &CheckError{Check: what, Reason: "is encrypted, which is not supported"}
	}
	if strings.Count(raw, ".") != 2 {
		return nil, &CheckError{Check: what, Reason: "is not a signed JWT"}
	}
	jws, err := jose.ParseSignedCompact(raw, algs)
	var alg *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &alg):
		return nil, refuse(what+" alg", "is not one that the server says it signs with", fmt.Sprint(algs), string(alg.Got))
	case err != nil || len(jws.Signatures) != 1:
		return nil, &CheckError{Check: what, Reason: "is not a signed JWT"}
	}
	return jws, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func idTokenError(claim, reason string) *CheckError {
	return &CheckError{Check: "id_token " + claim, Reason: reason}
}

// checkClaims does what go-oidc leaves out.
func (c *Client) checkClaims(claims *idClaims, want expectation) error {
	latest := time.Now().Add(c.skew())
	switch {
	case claims.Subject == "" || len(claims.Subject) > 255:
		return idTokenError("sub", "is missing or too long")
	case claims.IssuedAt == nil:
		return idTokenError("iat", "is missing")
	case *claims.IssuedAt > float64(latest.Unix()):
		return refuse("id_token iat", "is in the future", "not after "+stamp(latest), fmt.Sprintf("%.0f", *claims.IssuedAt))
	case claims.AuthorizedParty != "" && claims.AuthorizedParty != c.ID:
		return refuse("id_token azp", "is another client", c.ID, claims.AuthorizedParty)
	case len(claims.Audience) > 1 && claims.AuthorizedParty == "":
		return refuse("id_token azp", "is missing where aud has several", c.ID, "")
	case want.nonce != "" && claims.Nonce == "":
		return idTokenError("nonce", "is missing")
	case want.nonce != "" && !equal(claims.Nonce, want.nonce):
		return idTokenError("nonce", "is not that of this login")
	}
	return c.checkAge(claims, want)
}

// checkAge holds auth_time against max_age, which counts from the request: how long
// the user reads the consent page does not matter.
func (c *Client) checkAge(claims *idClaims, want expectation) error {
	if want.maxAge == nil {
		return nil
	}
	at, ok := authTime(claims.AuthTime)
	if !ok {
		return idTokenError("auth_time", "is missing, and max_age was asked for")
	}
	began := want.began
	if began.IsZero() {
		began = time.Now()
	}
	oldest := began.Add(-time.Duration(*want.maxAge)*time.Second - c.skew())
	if at.Before(oldest) {
		return refuse("id_token auth_time", "is longer ago than max_age", "not before "+stamp(oldest), stamp(at))
	}
	return nil
}

func authTime(n json.Number) (time.Time, bool) {
	seconds, err := n.Float64()
	if err != nil || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// verifyRefreshed implements Rules 32 and 58: without the key of the signature the
// connection to the token endpoint vouches for the token. Its exp does not count: who has logged in
// was settled when they did, and some servers repeat the first token. Not ok is a token
// whose signature is of no kind that is verified, as after a change of algorithms that the
// metadata at hand does not have yet.
func (c *Client) verifyRefreshed(ctx context.Context, m *Metadata, raw string, old *oauth2.Token) (ok bool, err error) {
	keys := &providerKeys{provider: c.Provider, metadata: m}
	var claims *idClaims
	if _, err = parseJWT(raw, c.idTokenAlgs(m), "id_token"); err == nil {
		ok = true
		_, claims, err = c.verifyWith(ctx, m, raw, keys)
	}
	if !ok || keys.unknown() {
		if claims, err = unverified(raw); err == nil {
			err = c.checkParties(claims)
		}
	}
	if err != nil {
		return ok, err
	}
	return ok, continues(claims, old)
}

// continues holds the claims of a refreshed ID token against those of the one before it.
func continues(claims *idClaims, old *oauth2.Token) error {
	before, _ := old.Extra("id_token").(string)
	if before == "" {
		return nil
	}
	first, err := unverified(before)
	if err != nil {
		return nil //nolint:nilerr // nothing to compare with
	}
	if first.Nonce == "" {
		claims.Nonce = "" // that of the login may have been left out in between
	}
	if err = claims.Continues(first.IDClaims); err != nil {
		return &CheckError{Check: "id_token", Reason: "is not of the same login", Err: err}
	}
	return nil
}

// providerKeys is an [oidc.KeySet] for one token, which remembers what it saw:
// go-oidc wraps errors so that they cannot be told apart.
type providerKeys struct {
	provider *Provider
	metadata *Metadata
	patience time.Duration
	payload  []byte
	err      error
}

// VerifySignature implements [oidc.KeySet].
func (k *providerKeys) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, asymmetric())
	if err == nil {
		k.payload, err = k.provider.verifySignature(ctx, k.metadata, jws, fromTokenEndpoint, k.patience)
	}
	k.err = err
	return k.payload, err
}

// unknown reports whether the key of the signature is not known: nothing was found
// wrong with it.
func (k *providerKeys) unknown() bool {
	return errors.Is(k.err, errKeysUnavailable) || errors.Is(k.err, errUnknownKey)
}

// failure is the error of a signature that was not verified.
func (k *providerKeys) failure(what string) error {
	if errors.Is(k.err, errKeysUnavailable) {
		return failed(what, k.err)
	}
	return &CheckError{Check: what + " signature", Reason: k.err.Error()}
}

// verifyJWT verifies an answer of the provider that is a JWT, and returns its
// claims. Rule 49: iss and aud must be right where they are there.
func (c *Client) verifyJWT(ctx context.Context, m *Metadata, raw, what string, algs []jose.SignatureAlgorithm) (*jose.JSONWebSignature, []byte, error) {
	jws, err := parseJWT(strings.TrimSpace(raw), algs, what)
	if err != nil {
		return nil, nil, err
	}
	payload, err := c.Provider.verifySignature(ctx, m, jws, fromAnybody, 0)
	if err != nil {
		return nil, nil, (&providerKeys{err: err}).failure(what)
	}
	var claims idClaims
	if exact.Decode(payload, &claims, claimMatters) != nil {
		return nil, nil, &CheckError{Check: what, Reason: "holds no claims"}
	}
	switch {
	case claims.Issuer != "" && !c.Provider.issues(claims.Issuer, claims.Tenant):
		return nil, nil, refuse(what+" iss", "is another server's", c.Provider.Issuer, claims.Issuer)
	case len(claims.Audience) > 0 && !contains(claims.Audience, c.ID):
		return nil, nil, refuse(what+" aud", "is not for this client", c.ID, strings.Join(claims.Audience, " "))
	}
	return jws, payload, nil
}

// verifyUserInfo is for [authtrip.UserInfoSource.VerifyJWT].
func (c *Client) verifyUserInfo(ctx context.Context, raw string) ([]byte, error) {
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	algs := c.idTokenAlgs(m)
	if len(m.UserInfoSigningAlgs) > 0 {
		algs = c.algorithms(m.UserInfoSigningAlgs)
	}
	_, payload, err := c.verifyJWT(ctx, m, raw, "userinfo", algs)
	return payload, err
}
