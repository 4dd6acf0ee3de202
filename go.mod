module example.com/authtrip

go 1.26.0

require (
	github.com/hashicorp/go-retryablehttp v0.7.8
	github.com/patrickmn/go-cache v2.1.0+incompatible
	golang.org/x/oauth2 v0.37.0
	golang.org/x/sync v0.24.0
)

require github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
