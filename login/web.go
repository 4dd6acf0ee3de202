package login

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// IsLocalPath reports whether raw is a path of the application itself. It is safe to send
// a browser there. It reports false for anything that a browser could take for another
// site's address.
func IsLocalPath(raw string) bool {
	const most = 1024
	if raw == "" || len(raw) > most || raw[0] != '/' || strings.HasPrefix(raw, "//") {
		return false
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return false
	}
	u, err := url.Parse(raw)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && !strings.HasPrefix(u.Path, "//")
}

// private keeps what a page of a login says out of caches and of other sites.
func private(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
}

// plain is for a page of this package: it loads nothing and is in no frame.
func plain(w http.ResponseWriter) {
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

func notAllowed(w http.ResponseWriter, methods string) {
	w.Header().Set("Allow", methods)
	http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
}

// StatusCode returns the status with which a web application answers err: 400 for a
// *[CheckError], 403 for an *[AuthorizationError] and for a request of another site, 503 for
// a transient failure, 502 for a server that failed, 500 for anything else.
func StatusCode(err error) int {
	if ae, ok := errors.AsType[*AuthorizationError](err); ok {
		if ae.Temporary() {
			return http.StatusServiceUnavailable
		}
		return http.StatusForbidden
	}
	if ce, ok := errors.AsType[*CheckError](err); ok {
		if strings.HasPrefix(ce.Check, "id_token") || strings.HasPrefix(ce.Check, "metadata") || ce.Check == "token_type" {
			return http.StatusBadGateway
		}
		if ce.Check == checkOrigin {
			return http.StatusForbidden
		}
		return http.StatusBadRequest
	}
	if isServerFault(err) {
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}
