package main

import (
	"context"
	"crypto/rand"
	_ "embed" // of the picture
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/authtrip/examples/internal/provider"
	"example.com/authtrip/login"
)

// This file is for a machine without a provider and an API. An application of your
// own does without it.

const (
	// demoLifetime is that of an access token: short, so that the log shows how it
	// is refreshed.
	demoLifetime = 15 * time.Second

	demoLogin    = "ada"
	demoPassword = "analytical engine"
	demoName     = "Ada Lovelace"
)

//go:embed demo.svg
var demoPicture string

// demo is two providers with a user each, and an API that takes the tokens of both.
type demo struct {
	provider *provider.Provider
	second   *provider.Provider
	api      *http.Server
	apiURL   string
	secret   string
}

func startDemo(baseURL string, lifetime time.Duration) (*demo, error) {
	d := &demo{secret: rand.Text()}
	apiSecret := rand.Text()
	var err error
	d.provider, err = provider.Start(provider.Options{
		AccessTokenLifetime: lifetime,
		Clients:             d.clients(baseURL, callbacks()[0], apiSecret),
		Users: []provider.User{
			{Subject: "42", Login: demoLogin, Password: demoPassword, Name: demoName, Email: "ada@example.com", Picture: demoPicture},
			{Subject: "43", Login: "grace", Password: "compiler", Name: "Grace Hopper", Email: "grace@example.com"},
		},
	})
	if err != nil {
		return nil, err
	}
	d.second, err = provider.Start(provider.Options{
		AccessTokenLifetime: lifetime,
		Clients:             d.clients(baseURL, callbacks()[1], apiSecret),
		Users:               []provider.User{{Subject: "1815", Login: demoLogin, Password: demoPassword, Name: "Ada King", Email: "ada@work.example"}},
	})
	if err != nil {
		return nil, errors.Join(err, d.provider.Close())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, d.provider.Close(), d.second.Close())
	}
	d.apiURL = "http://" + listener.Addr().String()
	d.api = &http.Server{
		Handler: demoAPI(
			&login.Client{Provider: &login.Provider{Issuer: d.provider.Issuer()}, ID: "api", Secret: apiSecret},
			&login.Client{Provider: &login.Provider{Issuer: d.second.Issuer()}, ID: "api", Secret: apiSecret},
		),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() { _ = d.api.Serve(listener) }() // until Close
	return d, nil
}

// clients are those that each provider knows.
func (d *demo) clients(baseURL, callback, apiSecret string) []provider.Client {
	return []provider.Client{
		{
			ID: "weblogin", Secret: d.secret,
			RedirectURIs:           []string{baseURL + callback},
			PostLogoutRedirectURIs: []string{baseURL + "/logged-out"},
			BackChannelLogoutURI:   baseURL + "/backchannel-logout",
		},
		{ID: "api", Secret: apiSecret},
	}
}

// configure has the application use the demo.
func (d *demo) configure(conf config) config {
	conf.providers = []providerConfig{
		{"Account at home", d.provider.Issuer(), "weblogin", d.secret, callbacks()[0]},
		{"Account at work", d.second.Issuer(), "weblogin", d.secret, callbacks()[1]},
	}
	if conf.apiURL == "" {
		conf.apiURL = d.apiURL
	}
	return conf
}

// Close ends all of it.
func (d *demo) Close() error {
	return errors.Join(d.api.Close(), d.provider.Close(), d.second.Close())
}

// demoAPI is an API that wants an access token, and asks the providers about each
// one that it gets (RFC 7662).
func demoAPI(clients ...*login.Client) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			refuse(w, "Bearer")
			return
		}
		switch said, err := introspect(r.Context(), clients, token); {
		case err != nil:
			http.Error(w, "the provider does not answer", http.StatusServiceUnavailable)
		case !said.Active:
			refuse(w, `Bearer error="invalid_token"`)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"orders": demoOrders(said.Subject)}) // or the caller has gone
		}
	})
	return mux
}

// introspect asks one provider after another, until one knows the token.
func introspect(ctx context.Context, clients []*login.Client, token string) (*login.Introspection, error) {
	var errs []error
	for _, c := range clients {
		said, err := c.Introspect(ctx, token)
		if err == nil && said.Active {
			return said, nil
		}
		errs = append(errs, err)
	}
	return new(login.Introspection), errors.Join(errs...) // not active, unless one does not answer
}

func refuse(w http.ResponseWriter, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	http.Error(w, "unauthorized", http.StatusUnauthorized)
}

func demoOrders(subject string) []order {
	ago := func(days int) time.Time { return time.Now().AddDate(0, 0, -days) }
	if subject != "42" {
		return []order{{Number: "1952-01", Item: "Magnetic tape, 6 reels", Placed: ago(1), State: "packing", Cents: 21600}}
	}
	return []order{
		{Number: "1843-17", Item: "Punched cards, box of 500", Placed: ago(1), State: "packing", Cents: 4250},
		{Number: "1843-16", Item: "Gear set, brass, 48 teeth", Placed: ago(3), State: "sent", Cents: 18900},
		{Number: "1843-12", Item: "Iron gall ink, 200 ml", Placed: ago(12), State: "delivered", Cents: 1480},
		{Number: "1843-09", Item: "Squared notebook, folio", Placed: ago(27), State: "delivered", Cents: 2295},
		{Number: "1842-31", Item: "Lamp oil, 2 litres", Placed: ago(54), State: "delivered", Cents: 960},
	}
}
