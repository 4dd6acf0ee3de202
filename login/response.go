package login

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"example.com/authtrip/internal/wire"
)

// maxResponse is the largest redirect response that is read, in bytes.
const maxResponse = 64 << 10

// A redirect is an authorization response (RFC 6749, section 4.1.2).
type redirect struct {
	state, code, iss, errorCode, description string

	implicit string // the parameter of a token that came along, "" if none did
	posted   bool
	signed   string // the whole as a JWT (JARM): state is what it says, not verified yet
}

// parseResponse reads a redirect: the URL as a string or a *url.URL, or the
// request of the callback. A URL must be the one that redirectURL says, with the
// response added; if that is "", it may be any. stripped is what a proxy took from
// the beginning of a request's path.
func parseResponse(response any, redirectURL, stripped string) (*redirect, error) {
	switch response := response.(type) {
	case string:
		if len(response) > maxResponse {
			return nil, malformed("is too long")
		}
		u, err := url.Parse(strings.TrimSpace(response))
		if err != nil {
			return nil, malformed("is not a URL")
		}
		return parseURL(u, redirectURL, true)
	case *url.URL:
		if response == nil {
			return nil, errors.New("login: the response is nil")
		}
		return parseURL(response, redirectURL, false)
	case *http.Request:
		if response == nil || response.URL == nil {
			return nil, errors.New("login: the response is nil")
		}
		return parseRequest(response, redirectURL, stripped)
	}
	return nil, fmt.Errorf("login: the response is a %T, want a string, a *url.URL or an *http.Request", response)
}

func malformed(reason string) error {
	return &CheckError{Check: "redirect", Reason: "the response " + reason}
}

// parseURL reads the response in a URL. One without a host, as a server sees it,
// is compared by its path only.
func parseURL(u *url.URL, redirectURL string, whole bool) (*redirect, error) {
	if err := matchRedirect(u, redirectURL, whole); err != nil {
		return nil, err
	}
	if len(u.RawQuery) > maxResponse || len(u.Fragment) > maxResponse {
		return nil, malformed("is too long")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, malformed("has a query that cannot be read")
	}
	r, err := readParams(query)
	if err != nil {
		return nil, err
	}
	if fragment, err := url.ParseQuery(u.Fragment); err == nil && r.implicit == "" {
		r.implicit = tokenIn(fragment)
	}
	return r, nil
}

// parseRequest reads the response in the request of a callback.
func parseRequest(req *http.Request, redirectURL, stripped string) (*redirect, error) {
	at := requested(req, stripped)
	switch req.Method {
	case http.MethodGet, "":
		return parseURL(at, redirectURL, false)
	case http.MethodPost:
	default:
		return nil, malformed("is neither a GET nor a POST")
	}
	if err := matchRedirect(at, redirectURL, false); err != nil {
		return nil, err
	}
	form, err := postForm(req)
	if err != nil {
		return nil, err
	}
	for name := range req.URL.Query() {
		if responseParam(name) {
			return nil, malformed("is a form and has a response in its URL too")
		}
	}
	r, err := readParams(form)
	if err == nil {
		r.posted = true
	}
	return r, err
}

// requested is the place to which the browser came, without its host: the path as
// it was sent, which http.StripPrefix leaves alone.
func requested(req *http.Request, stripped string) *url.URL {
	at := &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery}
	if sent, err := url.ParseRequestURI(req.RequestURI); err == nil {
		at.Path, at.RawPath = sent.Path, sent.RawPath
	}
	if stripped != "" {
		at.Path = stripped + at.Path
		if at.RawPath != "" {
			at.RawPath = stripped + at.RawPath
		}
	}
	return at
}

// postForm reads the form, which somebody before may have done.
func postForm(req *http.Request) (url.Values, error) {
	if req.PostForm != nil {
		return req.PostForm, nil
	}
	if mt, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || mt != "application/x-www-form-urlencoded" {
		return nil, malformed("is a POST without a form")
	}
	if req.Body == nil {
		return nil, malformed("is a POST without a body")
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxResponse+1))
	if err != nil {
		return nil, &CheckError{Check: "redirect", Reason: "the form cannot be read", Err: err}
	}
	if len(body) > maxResponse {
		return nil, malformed("is too long")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, malformed("has a form that cannot be read")
	}
	req.PostForm = form // the body can be read once
	return form, nil
}

func responseParam(name string) bool {
	switch name {
	case "state", "code", "iss", "error", "error_description", "error_uri", "access_token", "id_token", "response":
		return true
	}
	return false
}

// readParams reads the parameters that are known; others are ignored (Rule 8),
// but none of the known ones may come twice (Rule 7).
func readParams(q url.Values) (*redirect, error) {
	for name, values := range q {
		if responseParam(name) && len(values) > 1 {
			return nil, &CheckError{Check: "redirect", Reason: name + " is there twice"}
		}
	}
	if q.Get("state") == "" && q.Get("response") != "" {
		return peek(q.Get("response")), nil
	}
	return &redirect{
		state:       q.Get("state"),
		code:        q.Get("code"),
		iss:         q.Get("iss"),
		errorCode:   q.Get("error"),
		description: wire.Clean(q.Get("error_description")),
		implicit:    tokenIn(q),
	}, nil
}

// tokenIn returns the name of a parameter that only the implicit grant has.
func tokenIn(q url.Values) string {
	for _, name := range []string{"access_token", "id_token"} {
		if q.Has(name) {
			return name
		}
	}
	return ""
}

// matchRedirect compares where the response came to with where it was to go, path
// and query whole. Rules 6 and 64. The host of a request is whatever a client says,
// and is not compared.
func matchRedirect(u *url.URL, redirectURL string, whole bool) error {
	if redirectURL == "" {
		return nil
	}
	want, err := url.Parse(redirectURL)
	if err != nil {
		return errors.New("login: the transaction's RedirectURL is not a URL")
	}
	same := place(u) == place(want)
	if u.Host == "" && u.Scheme == "" && !whole {
		same = slashed(u.EscapedPath()) == slashed(want.EscapedPath())
	}
	// What was in the redirect URL's own query is still there, as it was.
	got := u.Query()
	for name, values := range want.Query() {
		same = same && slices.Equal(got[name], values)
	}
	if !same {
		reason := "the response came to another place"
		if path := u.EscapedPath(); u.Host == "" && path != "" && strings.HasSuffix(want.EscapedPath(), path) {
			reason += ": if a proxy takes away the beginning of the path, set Client.StrippedPrefix"
		}
		return &CheckError{Check: "redirect_uri", Reason: reason, Want: redirectURL, Got: cut(place(u))}
	}
	return nil
}

func slashed(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

// place is a URL without query and fragment.
func place(u *url.URL) string {
	if u.Opaque != "" {
		return u.Scheme + ":" + u.Opaque
	}
	return strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Host) + slashed(u.EscapedPath())
}

func contains(values []string, v string) bool {
	for _, have := range values {
		if have == v {
			return true
		}
	}
	return false
}

// check holds the response against the transaction, and spends the transaction
// when it is the one that the response belongs to. The code is not touched.
func (r *redirect) check(tx *Transaction, m *Metadata) error {
	// Rule 2: the state before everything else, as all else may be made up.
	switch {
	case r.state == "":
		return &CheckError{Check: "state", Reason: "is missing in the response"}
	case !equal(r.state, tx.State):
		return &CheckError{Check: "state", Reason: "is not that of this login"}
	}
	if err := tx.spend(); err != nil {
		return err
	}
	// Rule 5: an error of another server is no more welcome than its code.
	switch {
	case r.iss != "" && r.iss != tx.Issuer:
		return refuse("iss", "the response is another server's", tx.Issuer, r.iss)
	case r.iss == "" && m.AuthorizationResponseIssParameterSupported:
		return refuse("iss", "is missing in the response, and the server always sends it", tx.Issuer, "")
	case r.posted && !tx.FormPost:
		return malformed("is a form, which was not asked for")
	case r.implicit != "":
		// Rule 11.
		return &CheckError{Check: "redirect", Reason: "the response has an " + r.implicit + ", which nobody asked for"}
	case r.errorCode != "":
		// Rule 4.
		return &AuthorizationError{Code: wire.Code(r.errorCode), Description: r.description}
	case r.code == "":
		return &CheckError{Check: "code", Reason: "is missing in the response"}
	}
	return nil
}
