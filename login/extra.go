package login

import (
	"strings"

	"golang.org/x/oauth2"

	"example.com/authtrip/internal/wire"
)

// extraResource is the member of a token's Extra that says for which resources the
// login was, with a space between: a refresh asks for the same. No server sends it.
const extraResource = "authtrip_resource"

// withResources returns tok with a note of its resources.
func withResources(tok *oauth2.Token, resources []string) *oauth2.Token {
	all := wire.Extras(tok)
	all[extraResource] = strings.Join(resources, " ")
	return tok.WithExtra(all)
}

// resourcesOf returns those that are noted in tok; ok is false if nothing is.
func resourcesOf(tok *oauth2.Token) (resources []string, ok bool) {
	s, ok := tok.Extra(extraResource).(string)
	return strings.Fields(s), ok
}
