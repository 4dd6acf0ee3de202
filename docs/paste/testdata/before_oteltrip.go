// What a reader of oteltrip/README.md has before a snippet.

package main

import (
	"golang.org/x/oauth2"

	"example.com/authtrip"
)

var (
	grant = authtrip.RefreshToken(&oauth2.Config{})
	token *oauth2.Token
)

func main() { use(grant, token, snippet) }

func use(...any) error { return nil }
