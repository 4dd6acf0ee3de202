package login_test

import (
	"bytes"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/login"
)

// browser is a user agent with its own cookies, at the app and at the op.
type browser struct {
	t      testing.TB
	client *http.Client
}

func newBrowser(t testing.TB, o *op) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{
		Transport:     o.network,
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// get returns the response without its body, and where it points.
func (b *browser) get(at string) (*http.Response, *url.URL) {
	b.t.Helper()
	resp, err := b.client.Get(at)
	return b.read(resp, err)
}

func (b *browser) read(resp *http.Response, err error) (*http.Response, *url.URL) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	at, _ := resp.Location()
	return resp, at
}

// web is an application with its handlers, on the network of o.
type web struct {
	*login.Handlers
	mu     sync.Mutex
	users  []string
	failed []error
}

func newWeb(o *op, h *login.Handlers) *web {
	w := &web{Handlers: h}
	if h.Client == nil {
		h.Client = o.client()
	}
	h.OnLogin = func(_ http.ResponseWriter, _ *http.Request, s *login.Session) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.users = append(w.users, s.IDToken.Subject)
		return nil
	}
	h.OnError = func(rw http.ResponseWriter, _ *http.Request, err error) {
		w.mu.Lock()
		w.failed = append(w.failed, err)
		w.mu.Unlock()
		http.Error(rw, "failed", login.StatusCode(err))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", h.Login)
	mux.HandleFunc("/callback", h.Callback)
	mux.HandleFunc("/logout", h.Logout)
	mux.HandleFunc("/bye", h.LoggedOut)
	o.network.Handle("https://app.example", mux)
	return w
}

// keepers are the ways to carry a transaction.
func keepers() map[string]func() *login.Transactions {
	key := bytes.Repeat([]byte{7}, 32)
	return map[string]func() *login.Transactions{
		"nil":    func() *login.Transactions { return nil },
		"memory": func() *login.Transactions { return new(login.Transactions) },
		"cache":  func() *login.Transactions { return &login.Transactions{Cache: new(authtrip.MemoryCache)} },
		"sealed cache": func() *login.Transactions {
			return &login.Transactions{Cache: new(authtrip.MemoryCache), Keys: [][]byte{key}}
		},
		"cookie": func() *login.Transactions { return &login.Transactions{Keys: [][]byte{key}} },
	}
}
