package login

import (
	"reflect"
	"strings"

	"golang.org/x/oauth2"
)

// extraResource is the member of a token's Extra that says for which resources the
// login was, with a space between: a refresh asks for the same. No server sends it.
const extraResource = "authtrip_resource"

// withResources returns tok with a note of its resources.
func withResources(tok *oauth2.Token, resources []string) *oauth2.Token {
	all := extras(tok)
	all[extraResource] = strings.Join(resources, " ")
	return tok.WithExtra(all)
}

// resourcesOf returns those that are noted in tok; ok is false if nothing is.
func resourcesOf(tok *oauth2.Token) (resources []string, ok bool) {
	s, ok := tok.Extra(extraResource).(string)
	return strings.Fields(s), ok
}

// extras returns a copy of all members of tok's Extra, which x/oauth2 hands out by
// name only.
func extras(tok *oauth2.Token) map[string]any {
	all := make(map[string]any)
	raw := reflect.ValueOf(tok).Elem().FieldByName("raw")
	if raw.Kind() != reflect.Interface || raw.Elem().Kind() != reflect.Map {
		return all
	}
	for it := raw.Elem().MapRange(); it.Next(); {
		name := it.Key().String()
		all[name] = tok.Extra(name)
	}
	return all
}
