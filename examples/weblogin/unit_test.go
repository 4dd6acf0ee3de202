package main

import (
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"
)

func TestReadConfig(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, test := range []struct {
		name string
		env  map[string]string
		want string // of the error; "" is none
	}{
		{"nothing", nil, ""},
		{"a provider", map[string]string{"ISSUER": "https://login.example", "CLIENT_ID": "app", "CLIENT_SECRET": "s"}, ""},
		{"a provider alone", map[string]string{"ISSUER": "https://login.example"}, "CLIENT_ID"},
		{"another provider alone", map[string]string{"ISSUER_2": "https://login.example", "CLIENT_ID": "app", "CLIENT_SECRET": "s"}, "CLIENT_ID_2"},
		{"Redis", map[string]string{"REDIS_URL": "redis://127.0.0.1", "SESSION_KEY": key}, ""},
		{"Redis without a key", map[string]string{"REDIS_URL": "redis://127.0.0.1"}, "SESSION_KEY"},
		{"a short key", map[string]string{"SESSION_KEY": "c2hvcnQ="}, "SESSION_KEY"},
		{"a key that is none", map[string]string{"SESSION_KEY": "~"}, "SESSION_KEY"},
		{"a base URL with a path", map[string]string{"BASE_URL": "https://app.example/x"}, "BASE_URL"},
		{"an address that is no URL", map[string]string{"ADDR": ":8080"}, "BASE_URL"},
		{"a base URL that is none", map[string]string{"BASE_URL": "app.example"}, "BASE_URL"},
	} {
		conf, err := readConfig(func(name string) string { return test.env[name] }, slog.New(slog.DiscardHandler))
		switch {
		case test.want == "" && (err != nil || len(conf.key) != 32):
			t.Errorf("%s: error %v, %d bytes of key", test.name, err, len(conf.key))
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v, want one about %s", test.name, err, test.want)
		}
	}
	if _, err := openStorage(config{key: make([]byte, 32), redisURL: "redis://user:hunter2@[bad"}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a REDIS_URL that is none: %v", err)
	}
}

func TestNewPerson(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, login, picture string
		want                 person
	}{
		{"Ada Lovelace", "ada", "", person{Name: "Ada Lovelace", Initials: "AL"}},
		{"Augusta Ada King-Noel", "", "", person{Name: "Augusta Ada King-Noel", Initials: "AN"}},
		{"Åsa", "", "", person{Name: "Åsa", Initials: "Å"}},
		{"李 明", "", "", person{Name: "李 明", Initials: "李明"}},
		{"", "ada", "", person{Name: "ada", Initials: "A"}},
		{"", "", "", person{Name: "Your account"}},
		{"7", "", "", person{Name: "7"}},
		{"A", "", "https://pictures.example/a?s=96", person{"A", "A", "https://pictures.example/a?s=96", "https://pictures.example"}},
		{"A", "", "http://127.0.0.1:8080/a", person{"A", "A", "http://127.0.0.1:8080/a", "http://127.0.0.1:8080"}},
		{"A", "", "http://pictures.example/a", person{Name: "A", Initials: "A"}},
		{"A", "", "https://a;script-src *;/", person{Name: "A", Initials: "A"}},
		{"A", "", "https://a;script-src/", person{Name: "A", Initials: "A"}},
		{"A", "", "https://user@pictures.example/", person{Name: "A", Initials: "A"}},
		{"A", "", "javascript:alert(1)", person{Name: "A", Initials: "A"}},
		{"A", "", "data:image/png;base64,AA", person{Name: "A", Initials: "A"}},
		{"A", "", "/picture", person{Name: "A", Initials: "A"}},
	} {
		if got := newPerson(test.name, test.login, test.picture); got != test.want {
			t.Errorf("newPerson(%q, %q, %q) = %+v, want %+v", test.name, test.login, test.picture, got, test.want)
		}
	}
}
