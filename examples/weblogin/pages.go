package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"time"
)

//go:embed templates
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// A view is what a page shows.
type view struct {
	Title  string
	Person *person // who is logged in, nil if nobody is
	Notice string
	Text   string
	Login  string // the link to the login
	Again  bool   // the user was logged in before
	Retry  bool   // the same again may help
	Part   *part

	Choices []choice // of providers
}

// A choice is a provider on the page of the login.
type choice struct{ Name, Login string }

// A part is what the script replaces.
type part struct {
	// User is the same for the same user. A script that finds another one there
	// loads the whole page: somebody else has logged in in this browser.
	User     string
	Asked    time.Time
	OpenOnly bool
	Failed   bool
	Orders   []order
	Open     int // of all, how many are to come
	All      int

	Connections []connection
}

// fill takes the orders that are asked for.
func (p *part) fill(list []order) {
	p.All = len(list)
	for _, o := range list {
		if o.Open() {
			p.Open++
		}
		if o.Open() || !p.OpenOnly {
			p.Orders = append(p.Orders, o)
		}
	}
}

// A problem is an error, in words for the user.
type problem struct {
	title, text string
	login       bool // a new login may help
	retry       bool // the same again may help
}

var (
	notFound = problem{title: "There is no such page", text: "The address may have a mistake in it, or the page has moved."}
	refused  = problem{title: "The login was denied", text: "You or the login service said no. If that was a mistake, log in again.", login: true}
	stale    = problem{
		title: "This login is over", login: true,
		text: "It took too long, was finished before, or was begun in another browser. Nothing has happened; please begin again.",
	}
	unreachable = problem{title: "The login service does not answer", text: "This is not your fault. Please try again in a moment.", retry: true}
	unavailable = problem{title: "That did not work", text: "Something that this page needs does not answer. Please try again in a moment.", retry: true}
	broken      = problem{title: "That did not work", text: "This is a mistake on our side. You can begin again; if it happens once more, please tell us.", login: true}
	crossSite   = problem{title: "That came from another site", text: "For your safety it was not done. Please do it on a page of ours."}
)

// pages are the templates and files.
type pages struct {
	log   *slog.Logger
	byUse map[string]*template.Template
	tags  map[string]string // of the files, by their paths: what a browser asks with whether it has the newest
}

// newPages parses what is in the program; it panics over a mistake in there.
func newPages(log *slog.Logger) *pages {
	p := &pages{log: log, byUse: make(map[string]*template.Template), tags: make(map[string]string)}
	for _, name := range []string{"start", "login", "orders", "account", "ended", "problem"} {
		p.byUse[name] = template.Must(template.ParseFS(templateFiles, "templates/layout.html", "templates/"+name+".html"))
	}
	err := fs.WalkDir(staticFiles, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := staticFiles.ReadFile(path)
		sum := sha256.Sum256(b)
		p.tags["/"+path] = `"` + hex.EncodeToString(sum[:8]) + `"`
		return err
	})
	if err != nil {
		panic(err)
	}
	return p
}

// show writes a page, or a plain one where the template fails.
func (p *pages) show(w http.ResponseWriter, status int, name string, v view) {
	var b bytes.Buffer
	if err := p.byUse[name].ExecuteTemplate(&b, "layout", v); err != nil {
		p.log.Error("a page cannot be made", "page", name, "err", err)
		http.Error(w, broken.title, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // or the browser has gone
}

// problem writes an error page.
func (p *pages) problem(w http.ResponseWriter, r *http.Request, status int, what problem) {
	v := view{Title: what.title, Text: what.text, Retry: what.retry && r.Method == http.MethodGet}
	if what.login {
		v.Login = loginPath("")
	}
	p.show(w, status, "problem", v)
}

// static serves the files.
func (p *pages) static() http.Handler {
	files := http.FileServerFS(staticFiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tag := p.tags[r.URL.Path]
		if tag == "" {
			p.problem(w, r, http.StatusNotFound, notFound)
			return
		}
		w.Header().Set("Cache-Control", "no-cache") // ask each time; the answer is short
		w.Header().Set("ETag", tag)
		files.ServeHTTP(w, r)
	})
}
