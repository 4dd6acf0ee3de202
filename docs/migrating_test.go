package docs_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// The examples are the code of migrating.md: each way as it was, and as it is.

// A world is a server on the loopback interface, a client of it, and a token of a
// user that has just ended.
type world struct {
	srv  *authtriptest.Server
	url  string
	conf *oauth2.Config
	tok  *oauth2.Token
}

func newWorld() (world, func()) {
	srv := &authtriptest.Server{}
	site := httptest.NewServer(srv)
	tok := srv.Issue("alice")
	tok.Expiry = time.Now().Add(-time.Second)
	conf := srv.Config(site.URL)
	conf.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	return world{srv, site.URL, conf, tok}, site.Close
}

// call prints what a client gets of the API, and what it asked the token endpoint.
func (w world) call(client *http.Client) {
	before := w.srv.Counts().Token
	resp, err := client.Get(w.url + authtriptest.APIPath)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, w.srv.Counts().Token-before)
}

func Example_configClient() {
	w, done := newWorld()
	defer done()
	ctx, conf, tok := context.Background(), w.conf, w.tok
	{
		client := conf.Client(ctx, tok)
		w.call(client)
	}
	{
		client := &http.Client{Transport: &authtrip.Transport{Source: &authtrip.Source{Refresher: authtrip.RefreshToken(conf), Initial: tok}}}
		w.call(client)
	}
	// Output:
	// 200 OK 1
	// 200 OK 1
}

func Example_transport() {
	w, done := newWorld()
	defer done()
	ts := w.conf.TokenSource(context.Background(), w.tok)
	base := http.DefaultTransport
	{
		client := &http.Client{Transport: &oauth2.Transport{Source: ts, Base: base}}
		w.call(client)
	}
	{
		client := &http.Client{Transport: &authtrip.Transport{Source: ts, Base: base}}
		w.call(client)
	}
	// Output:
	// 200 OK 1
	// 200 OK 0
}

func Example_newClient() {
	w, done := newWorld()
	defer done()
	ctx := context.Background()
	ts := w.conf.TokenSource(ctx, w.tok)
	{
		client := oauth2.NewClient(ctx, ts)
		w.call(client)
	}
	{
		client := &http.Client{Transport: &authtrip.Transport{Source: ts}}
		w.call(client)
	}
	// Output:
	// 200 OK 1
	// 200 OK 0
}

// vendorSource makes a token at each call, as many SDKs have one.
type vendorSource struct{ w world }

func (v vendorSource) Token() (*oauth2.Token, error) {
	return v.w.conf.TokenSource(context.Background(), v.w.tok).Token()
}

func Example_reuseTokenSource() {
	w, done := newWorld()
	defer done()
	tok, vendor := w.tok, vendorSource{w}
	{
		ts := oauth2.ReuseTokenSource(tok, vendor)
		w.call(&http.Client{Transport: &oauth2.Transport{Source: ts}})
	}
	{
		ts := &authtrip.Source{Refresher: authtrip.FromTokenSource(vendor), Initial: tok}
		w.call(&http.Client{Transport: &authtrip.Transport{Source: ts}})
	}
	// Output:
	// 200 OK 1
	// 200 OK 1
}

func Example_reuseTokenSourceOfAConfig() {
	w, done := newWorld()
	defer done()
	ctx, conf, tok := context.Background(), w.conf, w.tok
	{
		ts := oauth2.ReuseTokenSource(tok, conf.TokenSource(ctx, tok))
		w.call(&http.Client{Transport: &oauth2.Transport{Source: ts}})
	}
	{
		ts := &authtrip.Source{Refresher: authtrip.RefreshToken(conf), Initial: tok}
		w.call(&http.Client{Transport: &authtrip.Transport{Source: ts}})
	}
	// Output:
	// 200 OK 1
	// 200 OK 1
}

func Example_reuseTokenSourceWithExpiry() {
	w, done := newWorld()
	defer done()
	tok, vendor := w.tok, vendorSource{w}
	{
		ts := oauth2.ReuseTokenSourceWithExpiry(tok, vendor, time.Minute)
		w.call(&http.Client{Transport: &oauth2.Transport{Source: ts}})
	}
	{
		ts := &authtrip.Source{Refresher: authtrip.FromTokenSource(vendor), Initial: tok, EarlyRefresh: time.Minute}
		w.call(&http.Client{Transport: &authtrip.Transport{Source: ts}})
	}
	// Output:
	// 200 OK 1
	// 200 OK 1
}

func Example_clientCredentials() {
	w, done := newWorld()
	defer done()
	ctx := context.Background()
	conf := &clientcredentials.Config{
		ClientID: w.conf.ClientID, ClientSecret: w.conf.ClientSecret, TokenURL: w.conf.Endpoint.TokenURL,
		AuthStyle: oauth2.AuthStyleInHeader,
	}
	{
		client := conf.Client(ctx)
		w.call(client)
	}
	{
		client := &http.Client{Transport: &authtrip.Transport{Source: &authtrip.Source{Refresher: authtrip.ClientCredentials(conf)}}}
		w.call(client)
	}
	// Output:
	// 200 OK 1
	// 200 OK 1
}

// saver is what programs write to keep a refreshed token.
type saver struct {
	oauth2.TokenSource
	save func(*oauth2.Token)
}

func (s saver) Token() (*oauth2.Token, error) {
	tok, err := s.TokenSource.Token()
	if err == nil {
		s.save(tok)
	}
	return tok, err
}

func Example_savingTokens() {
	w, done := newWorld()
	defer done()
	ctx, conf, tok := context.Background(), w.conf, w.tok
	save := func(*oauth2.Token) { fmt.Println("saved, if nobody was faster") }
	store := new(authtrip.MemoryStore)
	{
		ts := oauth2.ReuseTokenSource(tok, saver{conf.TokenSource(ctx, tok), save})
		w.call(&http.Client{Transport: &oauth2.Transport{Source: ts}})
	}
	{
		ts := &authtrip.Source{Refresher: authtrip.RefreshToken(conf), Initial: tok, Store: store, Key: "alice"}
		w.call(&http.Client{Transport: &authtrip.Transport{Source: ts}})
	}
	_, version, err := store.Load(ctx, "alice")
	fmt.Println("there is a record:", version != "", err)
	// Output:
	// saved, if nobody was faster
	// 200 OK 1
	// 200 OK 1
	// there is a record: true <nil>
}

func Example_ownHTTPClient() {
	w, done := newWorld()
	defer done()
	conf, tok := w.conf, w.tok
	own := &http.Client{Timeout: 10 * time.Second}
	{
		ctx := context.WithValue(context.Background(), oauth2.HTTPClient, own)
		client := conf.Client(ctx, tok)
		w.call(client)
	}
	{
		grant := authtrip.RefreshToken(conf)
		grant.HTTPClient = own
		client := *own
		client.Transport = &authtrip.Transport{
			Source: &authtrip.Source{Refresher: grant, Initial: tok},
			Base:   own.Transport,
		}
		w.call(&client)
	}
	// Output:
	// 200 OK 1
	// 200 OK 1
}

func Example_errors() {
	w, done := newWorld()
	defer done()
	w.srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{Error: "invalid_grant"})
	source := &authtrip.Source{Refresher: authtrip.RefreshToken(w.conf), Initial: w.tok}
	client := &http.Client{Transport: &authtrip.Transport{Source: source}}

	_, err := client.Get(w.url + authtriptest.APIPath)

	var retrieve *oauth2.RetrieveError
	if errors.As(err, &retrieve) {
		fmt.Println("as before:", retrieve.ErrorCode)
	}
	if errors.Is(err, authtrip.ErrReauthRequired) {
		fmt.Println("better: send the user to the login page")
	}
	// Output:
	// as before: invalid_grant
	// better: send the user to the login page
}
