package login_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/authtrip/login"
)

// signedResponse is what the server sends where response_mode is jwt.
func (o *op) signedResponse(asked url.Values, edit func(c map[string]any)) url.Values {
	c := map[string]any{"iss": o.issuer, "aud": clientID, "exp": time.Now().Add(time.Minute).Unix()}
	for name, values := range o.consent(asked) {
		c[name] = values[0]
	}
	if edit != nil {
		edit(c)
	}
	return url.Values{"response": {o.signed(c)}}
}

func jarmClient(o *op) *login.Client {
	o.metadata = func(m map[string]any) { m["authorization_signing_alg_values_supported"] = []string{"ES256"} }
	c := o.client()
	c.SignedResponses = true
	return c
}

// A signed response (JARM) is verified before anything of it is used: its signature, iss, aud
// and exp, and then what every response is held to.
func TestSignedResponse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit  func(o *op, q url.Values) url.Values
		claim func(c map[string]any)
		check string // of the CheckError; "" for none
	}{
		"as it should be": {},
		"another server":  {claim: func(c map[string]any) { c["iss"] = "https://evil.example" }, check: "response iss"},
		"no iss":          {claim: func(c map[string]any) { delete(c, "iss") }, check: "response iss"},
		"another client":  {claim: func(c map[string]any) { c["aud"] = "other" }, check: "response aud"},
		"no aud":          {claim: func(c map[string]any) { delete(c, "aud") }, check: "response aud"},
		"over":            {claim: func(c map[string]any) { c["exp"] = 1 }, check: "response exp"},
		"no exp":          {claim: func(c map[string]any) { delete(c, "exp") }, check: "response exp"},
		"another state":   {claim: func(c map[string]any) { c["state"] = "other" }, check: "state"},
		"no code":         {claim: func(c map[string]any) { delete(c, "code") }, check: "code"},
		"a token":         {claim: func(c map[string]any) { c["access_token"] = "t" }, check: "redirect"},
		"not signed": {edit: func(o *op, q url.Values) url.Values {
			raw := q.Get("response")
			return url.Values{"response": {raw[:strings.LastIndex(raw, ".")+1] + "AAAA"}}
		}, check: "response signature"},
		"alg none": {edit: func(_ *op, q url.Values) url.Values {
			return url.Values{"response": {"eyJhbGciOiJub25lIn0." + strings.Split(q.Get("response"), ".")[1] + "."}}
		}, check: "response"},
		"twice": {edit: func(_ *op, q url.Values) url.Values {
			return url.Values{"response": {q.Get("response"), q.Get("response")}}
		}, check: "redirect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOP(t)
			c := jarmClient(o)
			asked, tx := begin(t, c, nil)
			if asked.Get("response_mode") != "jwt" {
				t.Errorf("response_mode = %q", asked.Get("response_mode"))
			}
			q := o.signedResponse(asked, tt.claim)
			if tt.edit != nil {
				q = tt.edit(o, q)
			}
			s, err := c.Exchange(t.Context(), tx, callback(q))
			if tt.check == "" {
				if err != nil || s.IDToken.Subject != "alice" {
					t.Error(err)
				}
				return
			}
			if ce, ok := errors.AsType[*login.CheckError](err); !ok || !strings.HasPrefix(ce.Check, tt.check) {
				t.Errorf("error = %v, want the check %s", err, tt.check)
			}
			if o.count("/token") != 0 {
				t.Error("the code was spent")
			}
		})
	}
}

// Whoever asks for a signed response takes no other, and nobody takes one unasked.
func TestResponseIsSignedIfAndOnlyIfAskedFor(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := jarmClient(o)
	asked, tx := begin(t, c, nil)
	if _, err := c.Exchange(t.Context(), tx, callback(o.consent(asked))); err == nil {
		t.Error("a response that is not signed is taken")
	}
	c = o.client()
	asked, tx = begin(t, c, nil)
	if _, err := c.Exchange(t.Context(), tx, callback(o.signedResponse(asked, nil))); err == nil {
		t.Error("a signed response is taken that nobody asked for")
	}
	if o.count("/token") != 0 {
		t.Error("a code was spent")
	}
}

// A server's error comes signed as well.
func TestSignedErrorResponse(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	c := jarmClient(o)
	asked, tx := begin(t, c, nil)
	_, err := c.Exchange(t.Context(), tx, callback(o.signedResponse(asked, func(c map[string]any) {
		delete(c, "code")
		c["error"] = "access_denied"
	})))
	if ae, ok := errors.AsType[*login.AuthorizationError](err); !ok || ae.Code != "access_denied" {
		t.Error(err)
	}
}

// Handlers find the login of a signed response by the state in it, in the URL and as a form.
func TestHandlersSignedResponse(t *testing.T) {
	t.Parallel()
	for keeper, transactions := range keepers() {
		for mode, form := range map[string]bool{"jwt": false, "form_post.jwt": true} {
			t.Run(keeper+" "+mode, func(t *testing.T) {
				t.Parallel()
				o := newOP(t)
				w := newWeb(o, &login.Handlers{
					Client: jarmClient(o), Transactions: transactions(),
					Request: func(*http.Request) (*login.AuthRequest, error) { return &login.AuthRequest{FormPost: form}, nil },
				})
				b := newBrowser(t, o)
				_, at := b.get("https://app.example/login?return_to=/inbox")
				asked := at.Query()
				if asked.Get("response_mode") != mode {
					t.Errorf("response_mode = %q", asked.Get("response_mode"))
				}
				q := o.signedResponse(asked, nil)
				if form {
					_, at = b.read(b.client.PostForm(redirectURL, q))
				} else {
					_, at = b.get(callback(q))
				}
				if at == nil || at.Path != "/inbox" || len(w.users) != 1 {
					t.Errorf("the login ends at %v: %v", at, w.failed)
				}
			})
		}
	}
}

// A server that does not sign its responses is said before the browser opens.
func TestServerWithoutSignedResponsesIsSaidBeforeTheBrowserOpens(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.metadata = func(m map[string]any) { m["response_modes_supported"] = []string{"query", "form_post"} }
	c := o.client()
	c.SignedResponses = true
	if _, _, err := c.AuthCodeURL(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Client.SignedResponses") {
		t.Errorf("error = %v", err)
	}
}
