package main

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
)

// A config is what the application is told from outside.
type config struct {
	addr    string // where it listens
	baseURL string // where browsers find it; never made from a request
	// providers are where users can log in; none are two in this process
	providers []providerConfig

	apiURL   string // "" is one in this process
	redisURL string // "" is this process's memory
	key      []byte // seals what is kept; 32 bytes
}

// A providerConfig is a provider, and what this application is to it.
type providerConfig struct {
	name                           string // for users; "" is the issuer's host
	issuer, clientID, clientSecret string
	callback                       string // the path of its redirect URI
}

// callbacks are the paths of the redirect URIs: each provider has one of its own, so
// that none can pass off its response as another one's (RFC 9700, section 4.4).
func callbacks() []string { return []string{"/callback", "/callback/2"} }

// readConfig reads the environment. Its errors name the variable.
func readConfig(getenv func(string) string, log *slog.Logger) (config, error) {
	conf := config{
		addr:     cmp.Or(getenv("ADDR"), "127.0.0.1:8080"),
		apiURL:   strings.TrimSuffix(getenv("API_URL"), "/"),
		redisURL: getenv("REDIS_URL"),
	}
	// The provider of the demo is at 127.0.0.1. To a browser, localhost is another
	// site, as a provider's host is in real life.
	conf.baseURL = strings.TrimSuffix(cmp.Or(getenv("BASE_URL"), "http://"+strings.Replace(conf.addr, "127.0.0.1", "localhost", 1)), "/")
	if u, err := url.Parse(conf.baseURL); err != nil || u.Hostname() == "" || u.Path != "" || u.Scheme != "http" && u.Scheme != "https" {
		return config{}, errors.New("BASE_URL has to be http://host or https://host, where browsers find the application")
	}
	for i, n := range []string{"", "_2"} {
		p := providerConfig{getenv("PROVIDER_NAME" + n), getenv("ISSUER" + n), getenv("CLIENT_ID" + n), getenv("CLIENT_SECRET" + n), callbacks()[i]}
		if p.issuer == "" {
			continue
		}
		if p.clientID == "" || p.clientSecret == "" {
			return config{}, fmt.Errorf("ISSUER%s needs CLIENT_ID%s and CLIENT_SECRET%s beside it", n, n, n)
		}
		conf.providers = append(conf.providers, p)
	}
	var err error
	conf.key, err = sessionKey(getenv("SESSION_KEY"), conf.redisURL != "", log)
	return conf, err
}

// sessionKey returns the key that encoded says, or a new one.
func sessionKey(encoded string, required bool, log *slog.Logger) ([]byte, error) {
	const size = 32
	switch {
	case encoded != "":
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(key) != size {
			return nil, fmt.Errorf("SESSION_KEY is not base64 of %d bytes: make one with `openssl rand -base64 %d`", size, size)
		}
		return key, nil
	case required:
		// With a random one, the next process could not open what is in Redis.
		return nil, fmt.Errorf("REDIS_URL needs SESSION_KEY beside it: make one with `openssl rand -base64 %d`", size)
	}
	log.Warn("SESSION_KEY is not set: a random key is used, and sessions end with this process")
	key := make([]byte, size)
	_, _ = rand.Read(key) // never fails
	return key, nil
}

// https reports whether browsers come by TLS, here or at a proxy before this.
func (c config) https() bool { return strings.HasPrefix(c.baseURL, "https://") }
