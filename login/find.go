package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"example.com/authtrip"
	"example.com/authtrip/internal/origin"
)

// ErrNoMetadata is the error of [Finder.Find] for an API that says nothing about itself.
var ErrNoMetadata = errors.New("login: the API has no resource metadata")

// A Finder finds out what an API says about itself (RFC 9728) after it has rejected a
// request. It keeps nothing, so that an API which has moved to another server is noticed;
// [Resource] is for an API whose metadata is known to stay.
//
// Only URL is required. It is safe for concurrent use and must not be modified after
// first use.
type Finder struct {
	// URL is what was requested: the API's identifier.
	URL string
	// AllowParent takes metadata of a resource that URL is a part of, on the same
	// origin: https://api.example for https://api.example/v1. RFC 9728, section 3.3 asks
	// for URL itself; APIs of the Model Context Protocol often name their origin. Set
	// it only where all of an origin belongs to one owner.
	AllowParent bool
	// HTTPClient sends the requests. If nil, one of the zero [Guard] does, and one that
	// allows loopback if URL is there. Redirects are errors whatever it says.
	HTTPClient *http.Client
	// AllowInsecureHTTP permits plain http beyond loopback addresses. Setting this lets
	// whoever is on the way choose the server.
	AllowInsecureHTTP bool
}

// Find returns the API's metadata. It looks where the challenge says, then below
// /.well-known with the path of URL, then without it. Rule 68. all are the challenges of
// the response, and may be nil.
//
// It blocks until there is an answer, half a minute at most, or ctx ends. Metadata of another resource is a
// *[CheckError], and none at all is [ErrNoMetadata]; else its errors are *[EndpointError], and plain ones that
// name the field.
func (f *Finder) Find(ctx context.Context, all []authtrip.Challenge) (*ResourceMetadata, error) {
	id, err := checkURL("Finder.URL", f.URL, true, f.AllowInsecureHTTP)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
	defer cancel()
	client := f.HTTPClient
	if client == nil {
		client = (&Guard{Loopback: origin.Loopback(id.Hostname())}).Client()
		defer client.CloseIdleConnections()
	}
	none := ErrNoMetadata
	for _, at := range metadataPlaces(id, all) {
		m, err := f.read(ctx, client, id, at)
		if err == nil {
			return m, nil
		}
		ee, ok := errors.AsType[*EndpointError](err)
		if !ok || ee.StatusCode == 0 || ee.StatusCode == http.StatusTooManyRequests {
			return nil, err
		}
		if ee.StatusCode >= http.StatusInternalServerError {
			none = err // it may be there
		}
	}
	return nil, none
}

func (f *Finder) read(ctx context.Context, client *http.Client, id *url.URL, at string) (*ResourceMetadata, error) {
	if _, err := checkURL("the place of the resource metadata", at, origin.Loopback(id.Hostname()), f.AllowInsecureHTTP); err != nil {
		return nil, err
	}
	body, err := fetch(ctx, client, "resource metadata", at)
	if err != nil {
		return nil, err
	}
	m, err := parseAnyResource(body)
	if err == nil && m.Resource != f.URL && (!f.AllowParent || !partOf(m.Resource, id)) {
		return nil, refuse("metadata resource", "is not the one that was asked for", f.URL, m.Resource)
	}
	return m, asEndpointError("resource metadata", err)
}

// metadataPlaces returns where to look, each place once.
func metadataPlaces(id *url.URL, all []authtrip.Challenge) []string {
	var places []string
	for _, ch := range all {
		if ch.ResourceMetadata != "" {
			places = append(places, ch.ResourceMetadata)
			break
		}
	}
	root := &url.URL{Scheme: id.Scheme, Host: id.Host}
	return union(places, []string{resourceWellKnown(id), resourceWellKnown(root)})
}

// partOf reports whether id is resource or a part of it: the same origin, and a path that
// begins with whole segments of its path.
func partOf(resource string, id *url.URL) bool {
	u, err := url.Parse(resource)
	if err != nil || u.Host == "" || u.User != nil || strings.Contains(resource, "#") || u.RawQuery != "" || u.ForceQuery {
		return false
	}
	if origin.Of(u) != origin.Of(id) {
		return false
	}
	parent := strings.TrimSuffix(u.EscapedPath(), "/") + "/"
	path := strings.TrimSuffix(id.EscapedPath(), "/") + "/"
	return strings.HasPrefix(path, parent) && !strings.Contains(path, "/../") && !strings.Contains(path, "/./")
}

// A StepUpError says that another login would not help: the API wants scopes that the
// session was asked for already, or has wanted more too often.
type StepUpError struct {
	Scope string // of the challenge, as the API wrote it; show it as text
	Tries int    // how many there were
}

func (e *StepUpError) Error() string {
	return fmt.Sprintf("login: step-up: the API wants more scope after %d tries, and asking again would not help", e.Tries)
}

// Widen returns the scopes to ask for after a challenge: asked, those that the session was
// asked for before, with those of the challenge. Rule 67. It is a *[StepUpError] if that
// is nothing new, or after three tries, so that an API which is never content does not keep a user busy. tries
// is how many there were for one request.
func Widen(asked []string, ch authtrip.Challenge, tries int) ([]string, error) {
	const most = 3
	all := union(append([]string{}, asked...), strings.Fields(ch.Scope))
	if tries >= most || len(all) == len(asked) && len(ch.ACRValues) == 0 && ch.MaxAge < 0 && ch.Claims == "" {
		return nil, &StepUpError{Scope: cut(ch.Scope), Tries: tries}
	}
	return all, nil
}
