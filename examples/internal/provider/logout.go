package provider

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// EndSessions ends all that a user has here, as an administrator does, and tells the
// clients with a BackChannelLogoutURI (OpenID Connect Back-Channel Logout 1.0). The
// error says that one of them has not taken it.
func (p *Provider) EndSessions(ctx context.Context, subject string) error {
	var errs []error
	for id, c := range p.storage.clients {
		_ = p.storage.TerminateSession(ctx, subject, id) // never fails
		if c.BackChannelLogoutURI != "" {
			errs = append(errs, p.tell(ctx, c.Client, subject))
		}
	}
	return errors.Join(errs...)
}

// tell sends a logout token.
func (p *Provider) tell(ctx context.Context, c Client, subject string) error {
	token, err := p.storage.logoutToken(c.ID, subject)
	if err != nil {
		return fmt.Errorf("provider: %w", err)
	}
	form := url.Values{"logout_token": {token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.BackChannelLogoutURI, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("provider: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("provider: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("provider: client %q has not taken the logout: status %d", c.ID, resp.StatusCode)
	}
	return nil
}

// logoutToken returns what section 2.4 describes.
func (s *storage) logoutToken(clientID, subject string) (string, error) {
	opts := (&jose.SignerOptions{}).WithType("logout+jwt").WithHeader("kid", s.key.ID())
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: s.key.SignatureAlgorithm(), Key: s.key.Key()}, opts)
	if err != nil {
		return "", err
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": s.issuer, "sub": subject, "aud": clientID, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	})
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}
