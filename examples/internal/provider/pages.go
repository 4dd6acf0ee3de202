package provider

import (
	"crypto/rand"
	"crypto/subtle"
	_ "embed" // of style.css
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	loginPath     = "/login"
	devicePath    = "/device"
	loggedOutPath = "/logged-out"
	stylePath     = "/style.css"
	picturePath   = "/picture/"

	sessionLifetime = 8 * time.Hour
)

// sessionCookie is a name of this provider's own: a browser shares the cookies of a
// host among its ports, where an example's own server may be, and a second provider.
func (p *Provider) sessionCookie() string {
	return "provider_session_" + p.issuer[strings.LastIndexByte(p.issuer, ':')+1:]
}

// A session is a browser in which somebody has logged in.
type session struct {
	subject  string
	authTime time.Time
}

// loginURL returns where an authorization request sends the browser.
func loginURL(id string) string { return loginPath + "?" + url.Values{"id": {id}}.Encode() }

// showLogin shows the form, or goes on at once where the browser has a session.
func (p *Provider) showLogin(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	if c, err := r.Cookie(p.sessionCookie()); err == nil && p.storage.resume(id, c.Value) {
		p.finish(w, r, id)
		return
	}
	p.render(w, http.StatusOK, page{Title: "Log in", Form: true})
}

// login takes the form. It has no action, so it comes back to the URL it was on.
func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	u, ok := p.storage.authenticate(r.FormValue("login"), r.FormValue("password"))
	if !ok {
		p.render(w, http.StatusUnauthorized, page{Title: "Log in", Form: true, Message: "That is not right."})
		return
	}
	id := r.FormValue("id")
	if !p.storage.complete(id, u) {
		p.render(w, http.StatusBadRequest, page{Title: "Log in", Message: "This login is over: begin again."})
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: p.sessionCookie(), Value: p.storage.open(u), Path: "/", HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: int(sessionLifetime / time.Second),
	})
	p.finish(w, r, id)
}

// finish hands the browser back to the server, which sends it to the client.
func (p *Provider) finish(w http.ResponseWriter, r *http.Request, id string) {
	callback := p.op.AuthorizationEndpoint().Absolute(p.issuer) + "/callback?" + url.Values{"id": {id}}.Encode()
	http.Redirect(w, r, callback, http.StatusSeeOther)
}

// showLoggedOut is where a logout ends that names no other place.
func (p *Provider) showLoggedOut(w http.ResponseWriter, _ *http.Request) {
	p.render(w, http.StatusOK, page{Title: "Logged out"})
}

// authenticate returns the user with this login and password.
func (s *storage) authenticate(login, password string) (User, bool) {
	for _, u := range s.users {
		if u.Login == login {
			return u, subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1
		}
	}
	return User{}, false
}

// open begins a session and returns its cookie.
func (s *storage) open(u User) string {
	cookie := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[cookie] = session{subject: u.Subject, authTime: time.Now()}
	return cookie
}

// resume completes a login with a session, if the client takes one so old.
func (s *storage) resume(id, cookie string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess, ok := s.sessions[cookie]
	r := s.logins[id]
	if !ok || !r.open() || time.Since(sess.authTime) >= r.maxAge() {
		return false
	}
	r.done, r.subject, r.authTime = true, sess.subject, sess.authTime
	return true
}

// complete completes a login with the password that was just typed.
func (s *storage) complete(id string, u User) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.logins[id]
	if !r.open() {
		return false
	}
	r.done, r.subject, r.authTime = true, u.Subject, time.Now()
	return true
}

// maxAge is how old a session may be to complete this login. A prompt for a login
// is a max_age of 0 by the time it gets here.
func (r *authRequest) maxAge() time.Duration {
	if r.asked.MaxAge == nil {
		return sessionLifetime
	}
	return min(time.Duration(*r.asked.MaxAge)*time.Second, sessionLifetime)
}

// page is what a page shows.
type page struct {
	Title, Message string
	Form           bool   // ask for login and password
	Device         bool   // and for the code that a device shows
	UserCode       string // if it is known
}

func (p *Provider) render(w http.ResponseWriter, status int, v page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = p.pages.Execute(w, v) // the browser has gone: nothing to be done
}

// showStyle serves what the pages look like.
func showStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, style) // or the browser has gone
}

// showPicture serves a user's picture to whoever has its URL, as providers do.
func (p *Provider) showPicture(w http.ResponseWriter, r *http.Request) {
	for _, u := range p.storage.users {
		if u.Subject != r.PathValue("subject") || u.Picture == "" {
			continue
		}
		h := w.Header()
		h.Set("Content-Type", "image/svg+xml")
		h.Set("Cache-Control", "max-age=3600")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'") // an image has no use for scripts
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, u.Picture) // or the browser has gone
		return
	}
	http.NotFound(w, r)
}

//go:embed style.css
var style string

func parsePages() *template.Template {
	return template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Title}}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<p class="who">Example identity provider</p>
<h1>{{.Title}}</h1>
{{with .Message}}<p class="message" role="alert">{{.}}</p>{{end}}
{{if .Form}}<form method="post">
{{if .Device}}<p><label>Code on the device <input name="user_code" value="{{.UserCode}}" autocomplete="off"></label></p>{{end}}
<p><label>Login <input name="login" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
<p><button>{{.Title}}</button></p>
</form>{{end}}
</main>
</body>
</html>
`))
}
