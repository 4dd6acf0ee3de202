package main

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// guarded is what every request goes through.
func (a *app) guarded(next http.Handler) http.Handler {
	// Requests that change something come from pages of this application. GET
	// changes nothing here, so it is let through.
	forms := http.NewCrossOriginProtection()
	forms.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.pages.problem(w, r, http.StatusForbidden, crossSite)
	}))
	// What hands on a copy of the request is outside: the log wants to know what
	// the mux writes into it.
	next = a.logged(a.safe(forms.Handler(next)))
	limited := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
	return http.MaxBytesHandler(limited, 64<<10)
}

// safe sets the headers by which a browser takes less from others.
func (a *app) safe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy("", ""))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // no-referrer would take the Origin from the forms too
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store") // pages are somebody's; files say otherwise
		if a.conf.https() {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// contentPolicy returns a Content-Security-Policy: scripts, styles and images are
// files of this application. images and forms are one more origin for each, or "".
func contentPolicy(images, forms string) string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"connect-src 'self'",
		strings.TrimSpace("img-src 'self' " + images),
		strings.TrimSpace("form-action 'self' " + forms),
		"base-uri 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// logged writes a line for each request. It has the pattern and not the URL, which
// can have a code in it.
func (a *app) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		a.log.Info("request", "route", r.Pattern, "status", rec.status, "took", time.Since(begin).Round(time.Millisecond))
	})
}

// A recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
