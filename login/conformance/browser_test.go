package conformance

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// A browser is a user who logs in: it follows redirects, types a name and a
// password where it is asked to, and says yes to everything else.
type browser struct {
	t              testing.TB
	client         *http.Client
	name, password string
}

func newBrowser(t testing.TB, name, password string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{
		Jar:           trusting{jar},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, name, password}
}

// trusting is a cookie jar that, as browsers do, takes this machine for a safe
// place without https.
type trusting struct{ http.CookieJar }

func (j trusting) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		c.Secure = false
	}
	j.CookieJar.SetCookies(u, cookies)
}

// visit goes to a page, and on from there until it is sent to a place that begins
// with until, which it returns without going there. A form that is to be posted
// there comes back as the URL with the form as query. If there is nowhere to go
// on to, it returns the text of the last page.
func (b *browser) visit(at, until string) (where, page string) {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodGet, at, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for range 30 {
		if strings.HasPrefix(req.URL.String(), until) {
			return req.URL.String(), ""
		}
		resp, err := b.client.Do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			b.t.Fatal(err)
		}
		if to, err := resp.Location(); err == nil {
			req, _ = http.NewRequest(http.MethodGet, to.String(), nil)
			continue
		}
		if resp.StatusCode >= 400 {
			b.t.Fatalf("%s: status %d: %.500s", req.URL.Path, resp.StatusCode, body)
		}
		next := b.fill(resp.Request.URL, string(body))
		if next == nil {
			return "", string(body)
		}
		req = next
	}
	b.t.Fatal("the pages do not end")
	return "", ""
}

// status is that of a page, without going on from there.
func (b *browser) status(at string) int {
	b.t.Helper()
	resp, err := b.client.Get(at)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// fill returns the request of the first form in a page, filled in, or nil.
func (b *browser) fill(base *url.URL, page string) *http.Request {
	b.t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		b.t.Fatal(err)
	}
	form := find(doc, "form")
	if form == nil {
		return nil
	}
	action, err := base.Parse(attr(form, "action"))
	if err != nil {
		b.t.Fatal(err)
	}
	values := url.Values{}
	b.inputs(form, values)
	b.outside(doc, attr(form, "id"), values)
	if !strings.EqualFold(attr(form, "method"), "post") {
		action.RawQuery = values.Encode()
		req, _ := http.NewRequest(http.MethodGet, action.String(), nil)
		return req
	}
	req, err := http.NewRequest(http.MethodPost, action.String(), strings.NewReader(values.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", base.Scheme+"://"+base.Host)
	return req
}

func (b *browser) inputs(n *html.Node, values url.Values) {
	if n.Type == html.ElementNode && (n.Data == "input" || n.Data == "button") && attr(n, "name") != "" {
		name, value := attr(n, "name"), attr(n, "value")
		switch name {
		case "username", "login":
			value = b.name
		case "password":
			value = b.password
		}
		// Of several buttons it takes the first: the one that says yes.
		if attr(n, "type") != "submit" && n.Data != "button" || !values.Has(name) {
			values.Set(name, value)
		}
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		b.inputs(c, values)
	}
}

// outside presses the button of a logout, which need not be inside its form.
func (b *browser) outside(n *html.Node, form string, values url.Values) {
	name := attr(n, "name")
	if form != "" && n.Type == html.ElementNode && n.Data == "button" && attr(n, "form") == form && name == "logout" {
		values.Set(name, attr(n, "value"))
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		b.outside(c, form, values)
	}
}

func find(n *html.Node, name string) *html.Node {
	if n.Type == html.ElementNode && n.Data == name {
		return n
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if found := find(c, name); found != nil {
			return found
		}
	}
	return nil
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
