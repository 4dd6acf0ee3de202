package main

import (
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
	// is renewed.
	demoLifetime = 15 * time.Second

	demoLogin    = "ada"
	demoPassword = "analytical engine"
	demoName     = "Ada Lovelace"
)

//go:embed demo.svg
var demoPicture string

// demo is a provider with a user, and an API that takes its tokens.
type demo struct {
	provider *provider.Provider
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
		Clients: []provider.Client{
			{
				ID: "weblogin", Secret: d.secret,
				RedirectURIs:           []string{baseURL + "/callback"},
				PostLogoutRedirectURIs: []string{baseURL + "/logged-out"},
			},
			{ID: "api", Secret: apiSecret},
		},
		Users: []provider.User{
			{Subject: "42", Login: demoLogin, Password: demoPassword, Name: demoName, Email: "ada@example.com", Picture: demoPicture},
			{Subject: "43", Login: "grace", Password: "compiler", Name: "Grace Hopper", Email: "grace@example.com"},
		},
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, d.provider.Close())
	}
	d.apiURL = "http://" + listener.Addr().String()
	d.api = &http.Server{
		Handler:           demoAPI(&login.Client{Provider: &login.Provider{Issuer: d.provider.Issuer()}, ID: "api", Secret: apiSecret}),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() { _ = d.api.Serve(listener) }() // until Close
	return d, nil
}

// configure has the application use the demo.
func (d *demo) configure(conf config) config {
	conf.issuer, conf.clientID, conf.clientSecret = d.provider.Issuer(), "weblogin", d.secret
	if conf.apiURL == "" {
		conf.apiURL = d.apiURL
	}
	return conf
}

// Close ends both.
func (d *demo) Close() error { return errors.Join(d.api.Close(), d.provider.Close()) }

// demoAPI is an API that wants an access token, and asks the provider about each
// one that it gets (RFC 7662).
func demoAPI(client *login.Client) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			refuse(w, "Bearer")
			return
		}
		switch said, err := client.Introspect(r.Context(), token); {
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
