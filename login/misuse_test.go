package login_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"example.com/authtrip/login"
)

// A mistake of the program is a plain error that says what is wrong.
func TestMisuse(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	ctx := t.Context()
	c := o.client()
	_, tx := begin(t, c, nil)
	exchange := func(c *login.Client, tx *login.Transaction, response any) error {
		_, err := c.Exchange(ctx, tx, response)
		return err
	}
	url1 := func(c *login.Client, req *login.AuthRequest) error {
		_, _, err := c.AuthCodeURL(ctx, req)
		return err
	}
	page := func(h *login.Handlers, f func(http.ResponseWriter, *http.Request), method string) error {
		var err error
		h.OnError = func(_ http.ResponseWriter, _ *http.Request, e error) { err = e }
		f(httptest.NewRecorder(), httptest.NewRequest(method, "/?code=c&state=s", nil))
		return err
	}
	var noClient, noHook login.Handlers
	noHook.Client = c
	_, noToken := c.DeviceToken(ctx, new(oauth2.DeviceAuthResponse), nil)
	_, noMore := c.Introspect(ctx, "")
	for want, err := range map[string]error{
		"the Transaction is nil":           exchange(c, nil, ""),
		"the Transaction is incomplete":    exchange(c, &login.Transaction{Issuer: issuer, ClientID: clientID}, ""),
		"the response is a int":            exchange(c, tx, 7),
		"the response is nil":              exchange(c, tx, (*http.Request)(nil)),
		"login: the response is nil":       exchange(c, tx, (*url.URL)(nil)),
		"redirect: the response is not a":  exchange(c, tx, "http://[::1/callback"),
		"redirect: the response is too":    exchange(c, tx, strings.Repeat("x", 70<<10)),
		"redirect: the response has a que": exchange(c, tx, redirectURL+"?a=%zz"),
		"transaction client_id":            exchange(&login.Client{Provider: c.Provider, ID: "other"}, tx, ""),
		"Client.Provider is nil":           url1(&login.Client{ID: "x"}, nil),
		"Client.ID is empty":               url1(&login.Client{Provider: c.Provider}, nil),
		`AuthRequest.Params has "state"`:   url1(c, &login.AuthRequest{Params: url.Values{"state": {"x"}}}),
		`AuthRequest.Params has "prompt"`:  url1(c, &login.AuthRequest{Prompt: "login", Params: url.Values{"prompt": {"x"}}}),
		"Client.RedirectURL has a param":   url1(c, &login.AuthRequest{RedirectURL: redirectURL + "?tenant=1&state=x"}),
		"Handlers.Client is nil":           page(&noClient, noClient.Login, http.MethodGet),
		"Handlers.OnLogin is nil":          page(&noHook, noHook.Callback, http.MethodGet),
		"login: Handlers.OnLogin is nil":   page(&noHook, noHook.Logout, http.MethodPost),
		"DeviceToken: the device code":     noToken,
		"Introspect: the token is empty":   noMore,
	} {
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "login: ") {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	noTokenRequest(t, o)
}

func TestHandlersMethods(t *testing.T) {
	t.Parallel()
	var h login.Handlers
	for _, tt := range []struct {
		page   http.HandlerFunc
		method string
	}{{h.Login, http.MethodPost}, {h.Callback, http.MethodHead}, {h.Callback, http.MethodPut}, {h.Logout, http.MethodGet}} {
		w := httptest.NewRecorder()
		tt.page(w, httptest.NewRequest(tt.method, "/", nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
			t.Errorf("%s: status %d", tt.method, w.Code)
		}
	}
}

func TestDeviceAnswers(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no object":        `[]`,
		"empty":            `{}`,
		"no user_code":     `{"device_code":"d","verification_uri":"https://as.example/d"}`,
		"no address":       `{"device_code":"d","user_code":"u","verification_uri":"/d"}`,
		"dangerous scheme": `{"device_code":"d","user_code":"u","verification_uri":"javascript://x"}`,
		"types":            `{"device_code":7}`,
	} {
		o := newOP(t)
		o.handle["/device"] = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
		_, err := o.client().DeviceAuth(t.Context(), nil)
		if _, ok := errors.AsType[*login.EndpointError](err); !ok {
			t.Errorf("%s: error is %T %v", name, err, err)
		}
	}
}

// A set may hold keys that cannot be used; those that can are used.
func TestOddKeySets(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	good := jose.JSONWebKey{Key: o.keys[0].key.Public(), KeyID: "k1"}
	forEncryption := jose.JSONWebKey{Key: newKey(t, "").key.Public(), KeyID: "enc", Use: "enc"}
	secretHalf := jose.JSONWebKey{Key: newKey(t, "").key, KeyID: "private"}
	odd := []any{
		map[string]any{"kty": "of the future", "kid": "x"},
		map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "k1"},
		7, nil, "x", forEncryption, secretHalf, good,
	}
	serve := func(v any) {
		o.handle["/keys"] = func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, v) }
	}
	serve(map[string]any{"keys": odd})
	if _, err := o.run(t, o.client(), nil); err != nil {
		t.Errorf("one good key among odd ones: %v", err)
	}
	for _, none := range []any{map[string]any{"keys": odd[:6]}, map[string]any{}, []int{}, json.RawMessage("null")} {
		serve(none)
		_, err := o.run(t, o.client(), nil)
		if _, ok := errors.AsType[*login.EndpointError](err); !ok {
			t.Errorf("error is %T %v", err, err)
		}
	}
}

func TestClockSkew(t *testing.T) {
	t.Parallel()
	o := newOP(t)
	o.claims = func(c map[string]any) { c["exp"] = o.began.Unix() - 30 }
	c := o.client()
	if _, err := o.run(t, c, nil); err != nil {
		t.Errorf("half a minute ago: %v", err)
	}
	c.ClockSkew = -1
	_, err := o.run(t, c, nil)
	wantCheck(t, err, "id_token exp")
}
