package authtriptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const keyID = "authtriptest"

// Sign returns the claims as a JWT, signed with the server's key (ES256), which
// [KeysPath] publishes: an ID token of another subject, user info as a JWT, an
// assertion. Claims that cannot be written as JSON are a mistake of the test,
// and Sign panics.
func (s *Server) Sign(claims map[string]any) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signLocked(claims)
}

func (s *Server) signLocked(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(fmt.Sprintf("authtriptest: signing claims: %v", err))
	}
	input := encode([]byte(`{"alg":"ES256","kid":"`+keyID+`","typ":"JWT"}`)) + "." + encode(payload)
	sum := sha256.Sum256([]byte(input))
	x, y, err := ecdsa.Sign(rand.Reader, s.keyLocked(), sum[:])
	if err != nil {
		panic(fmt.Sprintf("authtriptest: signing claims: %v", err))
	}
	// RFC 7518, section 3.4: both numbers, 32 bytes each.
	signature := make([]byte, 64)
	x.FillBytes(signature[:32])
	y.FillBytes(signature[32:])
	return input + "." + encode(signature)
}

// keyLocked returns the key, which is made at first use.
func (s *Server) keyLocked() *ecdsa.PrivateKey {
	if s.key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(fmt.Sprintf("authtriptest: making a key: %v", err))
		}
		s.key = key
	}
	return s.key
}

// idTokenLocked is OpenID Connect Core, section 2. An ID token from a refresh
// keeps auth_time (section 12.2).
func (s *Server) idTokenLocked(f *family) string {
	now := time.Now()
	lifetime := s.lifetime()
	if lifetime < 0 {
		lifetime = time.Hour
	}
	return s.signLocked(map[string]any{
		"iss":       s.issuerLocked(),
		"sub":       f.subject,
		"aud":       s.clientID(),
		"iat":       now.Unix(),
		"exp":       now.Add(lifetime).Unix(),
		"auth_time": f.login.Unix(),
	})
}

// keys is the JWK set with the server's key (RFC 7517; RFC 7518, section 6.2).
func (s *Server) keys() answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	point, err := s.keyLocked().PublicKey.Bytes()
	if err != nil {
		return jsonAnswer(http.StatusInternalServerError, map[string]any{"error": "server_error"})
	}
	return jsonAnswer(http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "EC",
		"crv": "P-256",
		"alg": "ES256",
		"use": "sig",
		"kid": keyID,
		"x":   encode(point[1:33]),
		"y":   encode(point[33:65]),
	}}})
}

// metadata is OpenID Connect Discovery, section 3, as far as the server goes.
func (s *Server) metadata() answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss, base := s.issuerLocked(), s.base
	if base == "" {
		base = iss
	}
	return jsonAnswer(http.StatusOK, map[string]any{
		"issuer":                                iss,
		"token_endpoint":                        base + TokenPath,
		"revocation_endpoint":                   base + RevokePath,
		"userinfo_endpoint":                     base + UserInfoPath,
		"jwks_uri":                              base + KeysPath,
		"id_token_signing_alg_values_supported": []string{"ES256"},
		"subject_types_supported":               []string{"public"},
		"grant_types_supported": []string{
			"refresh_token", "client_credentials", GrantJWTBearer, GrantTokenExchange,
		},
	})
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
