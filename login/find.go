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

// ErrNoMetadata is the error of [Finder.Find] for an API that publishes no metadata.
var ErrNoMetadata = errors.New("login: the API has no resource metadata")

// A Finder finds out what an API says about itself (RFC 9728) after it has rejected a
// request. It keeps nothing, so it notices that an API has moved to another server.
// [Resource] is for an API whose metadata does not change.
//
// Only URL is required. It is safe for concurrent use and must not be modified after
// first use.
type Finder struct {
	// URL is what was requested: the API's identifier.
	URL string
	// AllowParent accepts metadata of a resource that URL is a part of, on the same origin:
	// https://api.example for https://api.example/v1. RFC 9728, section 3.3 asks for URL
	// itself; APIs of the Model Context Protocol often name their origin. Set it only where
	// all of an origin belongs to one owner.
	AllowParent bool
	// HTTPClient sends the requests. If nil, the client of a zero [Guard] does. If URL is on
	// a loopback address, the Guard allows loopback. A redirect is an error, even if the
	// client allows it.
	HTTPClient *http.Client
	// AllowInsecureHTTP permits plain http beyond loopback addresses. Setting this lets
	// whoever is on the way choose the server.
	AllowInsecureHTTP bool
}

// Find returns the API's metadata. It looks where the challenge says, then below
// /.well-known with the path of URL, then without it. Rule 68. all are the challenges of
// the response, and may be nil.
//
// It blocks until there is an answer, half a minute at most, or ctx ends. If the metadata
// is of another resource, the error is a *[CheckError]. If there is none, it is
// [ErrNoMetadata]. Other errors are *[EndpointError], and plain ones that name the field.
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

// A StepUpError means that another login would not help. The API wants scopes that an
// earlier login asked for already, or it has asked for more too often.
type StepUpError struct {
	Scope string // of the challenge, as the API wrote it; show it as text
	Tries int    // how many there were
}

func (e *StepUpError) Error() string {
	return fmt.Sprintf("login: step-up: the API wants more scope after %d tries, and asking again would not help", e.Tries)
}

// Widen returns the scopes to ask for after a challenge: those in asked, which earlier
// logins of the session asked for, and those of the challenge. Rule 67. tries is how many
// step-ups there were for this request. If the scopes are nothing new, or after three
// tries, the error is a *[StepUpError]: the user is not sent to login after login.
func Widen(asked []string, ch authtrip.Challenge, tries int) ([]string, error) {
	const most = 3
	all := union(append([]string{}, asked...), strings.Fields(ch.Scope))
	if tries >= most || len(all) == len(asked) && len(ch.ACRValues) == 0 && ch.MaxAge < 0 && ch.Claims == "" {
		return nil, &StepUpError{Scope: cut(ch.Scope), Tries: tries}
	}
	return all, nil
}
