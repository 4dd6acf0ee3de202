package login_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/authtrip/login"
)

// A signed request holds all parameters, for this server and for a few minutes, and the
// browser carries nothing that could be changed.
func TestSignedRequest(t *testing.T) {
	t.Parallel()
	for name, pushed := range map[string]bool{"by the browser": false, "pushed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			o.metadata = func(m map[string]any) { m["require_signed_request_object"] = true }
			o.handle["/par"] = func(w http.ResponseWriter, _ *http.Request) {
				reply(w, http.StatusCreated, map[string]any{"request_uri": "urn:example:1"})
			}
			c := o.client()
			if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Client.Key") {
				t.Fatalf("without a key: %v", err)
			}
			key := p256(t)
			c.Key, c.KeyID, c.AuthMethod, c.PushRequests = key, "mine", "private_key_jwt", pushed
			asked, tx := begin(t, c, &login.AuthRequest{
				MaxAge: time.Minute, Prompt: "login", Resources: []string{"https://a.example", "https://b.example"},
				Params: url.Values{"claims": {`{"id_token":{"email":null}}`}},
			})
			if pushed {
				asked, _ = o.last("/par")
			}
			for _, name := range []string{"state", "redirect_uri", "code_challenge", "nonce", "prompt", "claims"} {
				if asked.Has(name) {
					t.Errorf("%s is outside of the signed request", name)
				}
			}
			tok, err := jwt.ParseSigned(asked.Get("request"), []jose.SignatureAlgorithm{jose.ES256})
			if err != nil {
				t.Fatal(err)
			}
			var std jwt.Claims
			var claims struct {
				State    string                    `json:"state"`
				ClientID string                    `json:"client_id"`
				MaxAge   int                       `json:"max_age"`
				Resource []string                  `json:"resource"`
				Claims   map[string]map[string]any `json:"claims"`
			}
			if err := tok.Claims(key.Public(), &std, &claims); err != nil {
				t.Fatal(err)
			}
			if err := std.Validate(jwt.Expected{Issuer: clientID, AnyAudience: jwt.Audience{issuer}}); err != nil || std.ID == "" ||
				std.Expiry.Time().Sub(std.IssuedAt.Time()) > 10*time.Minute || tok.Headers[0].ExtraHeaders["typ"] != "oauth-authz-req+jwt" {
				t.Errorf("the request is not signed as it should be: %v", err)
			}
			if claims.State != tx.State || claims.ClientID != clientID || claims.MaxAge != 60 || len(claims.Resource) != 2 || claims.Claims["id_token"] == nil {
				t.Errorf("claims = %+v", claims)
			}
			if asked.Get("client_id") != clientID || asked.Has("response_type") == pushed {
				t.Errorf("outside of the signed request: %v", asked)
			}
		})
	}
}
