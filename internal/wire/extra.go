package wire

import (
	"reflect"

	"golang.org/x/oauth2"
)

// ExtraNames returns the names of what is in a token's Extra. x/oauth2 has no way to
// list them: only the names are read past it, and none if it keeps them otherwise.
func ExtraNames(tok *oauth2.Token) []string {
	raw := reflect.ValueOf(tok).Elem().FieldByName("raw")
	if raw.Kind() == reflect.Interface {
		raw = raw.Elem()
	}
	if raw.Kind() != reflect.Map || raw.Type().Key().Kind() != reflect.String {
		return nil
	}
	names := make([]string, 0, raw.Len())
	for _, k := range raw.MapKeys() {
		names = append(names, k.String())
	}
	return names
}

// Extras returns a copy of all members of a token's Extra.
func Extras(tok *oauth2.Token) map[string]any {
	all := make(map[string]any)
	for _, name := range ExtraNames(tok) {
		all[name] = tok.Extra(name)
	}
	return all
}

// Without returns tok without one member of its Extra.
func Without(tok *oauth2.Token, name string) *oauth2.Token {
	all := Extras(tok)
	delete(all, name)
	return tok.WithExtra(all)
}
