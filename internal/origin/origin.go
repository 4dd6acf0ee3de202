// Package origin says which server a URL leads to, and whether two URLs lead to the same one. The
// Transport asks it before it hands out a token (RFC 6750, sections 5.2 and 5.3; RFC 9700, sections
// 4.9 and 4.10; rule 34).
//
// Two mistakes are possible and they do not weigh the same: two spellings of one server taken for
// two cost a request its token, two servers taken for one leak it. So only what is certainly
// the same is treated as such: the case of ASCII letters in scheme and host, and the default
// port. Everything else is compared as it was written.
package origin

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxHops bounds the walk of [Hops]. http.Client stops after ten redirects on its own; the
// bound ends the walk where a hand-made chain bites its tail.
const maxHops = 1000

// An Origin is where a URL leads to: scheme, host and port (RFC 6454, section 4; RFC 9110, section
// 4.3.1).
//
// Origins that [Of] and [Parse] returned are compared with ==. The zero value is the origin of
// no URL. An Origin without a Host is nowhere: [Parse] never returns one, so it is in no list of
// allowed origins. An Origin is a value, to be copied and used concurrently at will.
type Origin struct {
	Scheme string // lower case
	Host   string // ASCII letters in lower case; an IPv6 address in brackets with its zone as it was
	Port   string // never empty for http and https with a Host
}

// Of returns the origin of u. It allocates only if scheme or host have upper-case letters.
//
// Internationalised names are not mapped, IPv6 addresses are not brought into one form, and a
// trailing dot stays: "api.internal" goes through the resolver's search list and "api.internal."
// does not, so that they can be two hosts.
//
// It is meant for the URL of a client's request; user information, path and query do not matter.
func Of(u *url.URL) Origin {
	if u == nil {
		return Origin{}
	}
	o := Origin{Scheme: lower(u.Scheme), Host: authority(u)}
	if o.Host == "" {
		return o
	}
	o.Host, o.Port = splitPort(o.Host)
	// A zone names a network interface, and those differ in case.
	if i := strings.IndexByte(o.Host, '%'); i < 0 {
		o.Host = lower(o.Host)
	} else if name := lower(o.Host[:i]); name != o.Host[:i] {
		o.Host = name + o.Host[i:]
	}
	if o.Port == "" {
		o.Port = defaultPort(o.Scheme)
	}
	return o
}

// Parse returns the origin that s names: "https://api.example.com" or "https://api.example.com:8443",
// the scheme being http or https. Anything more is an error that says what is wrong with it, rather
// than something ignored: who writes a path believes that it restricts. Parse("https://a/") is
// such an error too, so that there is one way to write an origin.
//
// The error repeats s only as far as it can hold no password and no query.
func Parse(s string) (Origin, error) {
	if s == "" {
		return Origin{}, errors.New("origin is empty")
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if s == "*" || ok && scheme == "*" {
		return Origin{}, errors.New("origin has a wildcard: name each origin")
	}
	if !ok || strings.ContainsAny(scheme, "/?#@") { // those are of something else that has a "://"
		return Origin{}, errors.New("origin has no scheme: want https://host[:port]")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, tail := rest[:end], rest[end:]
	if strings.Contains(host, "@") {
		return Origin{}, errors.New("origin has user information: want https://host[:port]")
	}
	switch {
	case strings.HasPrefix(tail, "/"):
		return Origin{}, errors.New(`origin has a path: it ends after host and port, without a "/"`)
	case strings.HasPrefix(tail, "?"):
		return Origin{}, errors.New("origin has a query: it ends after host and port")
	case strings.HasPrefix(tail, "#"):
		return Origin{}, errors.New("origin has a fragment: it ends after host and port")
	case strings.Contains(host, "*"):
		return Origin{}, fmt.Errorf("origin %.200q has a wildcard: name each origin", s)
	case host == "":
		return Origin{}, fmt.Errorf("origin %.200q has no host", s)
	}
	u, err := url.Parse(s)
	if err != nil {
		// Of the *url.Error only the cause is kept: it would repeat s once more.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return Origin{}, fmt.Errorf("origin %.200q: %w", s, err)
	}
	o := Of(u)
	if o.Scheme != "http" && o.Scheme != "https" {
		return Origin{}, fmt.Errorf("origin %.200q: scheme is not http or https", s)
	}
	if err := check(o); err != nil {
		return Origin{}, fmt.Errorf("origin %.200q: %w", s, err)
	}
	return o, nil
}

// String returns o in the form that [Parse] reads, without a port that is the default one.
func (o Origin) String() string {
	s := o.Scheme + "://" + strings.Replace(o.Host, "%", "%25", 1) // RFC 6874, section 2
	if o.Port != "" && o.Port != defaultPort(o.Scheme) {
		s += ":" + o.Port
	}
	return s
}

// Same reports whether a and b have the same origin: whether [Of] is equal for both. It does not
// allocate for URLs in lower case.
func Same(a, b *url.URL) bool {
	return Of(a) == Of(b)
}

// Stayed reports whether every hop of the redirects that led to req had the origin of req. It is
// true for a request that was not redirected, at the cost of a nil check.
//
// A chain that went elsewhere and came back did not stay: the server in between chose where the
// last request goes. A chain with a response that does not tell its request is not known
// to have stayed, and reported so. [http.Client] keeps the chain in req.Response, which survives
// [http.Request.Clone].
func Stayed(req *http.Request) bool {
	if req.Response == nil {
		return true
	}
	here := Of(req.URL)
	return Hops(req, func(hop *http.Request) bool { return Of(hop.URL) == here })
}

// Hops reports whether each of the requests whose redirects led to req is known, has a URL, and is
// ok. A chain that does not end is not known.
func Hops(req *http.Request, ok func(hop *http.Request) bool) bool {
	for hop, n := req, 0; hop.Response != nil; n++ {
		hop = hop.Response.Request
		if n == maxHops || hop == nil || hop.URL == nil || !ok(hop) {
			return false
		}
	}
	return true
}

// Loopback reports whether host is this machine and nothing else, so that plain HTTP to it leaves
// no wire: "localhost", an address in 127.0.0.0/8 or ::1, the latter with or without
// brackets. Give it the host as the URL has it, from [url.URL.Hostname], without a port. It does
// not allocate for a name.
//
// Names below localhost are not loopback here, although RFC 6761, section 6.3, reserves them: Go's
// resolver asks the network for them, and [http.ProxyFromEnvironment] sends them to a proxy. The
// latter is true of "LOCALHOST" and "localhost." as well.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(host, ":") {
			return false
		}
	}
	// The address parser allocates its errors, so it does not get to see names.
	if !strings.HasPrefix(host, "127.") && !strings.Contains(host, ":") {
		return false
	}
	addr, err := netip.ParseAddr(host)
	// With a zone the system decides by the interface.
	return err == nil && addr.Zone() == "" && addr.IsLoopback()
}

// authority returns the host and port that a request for u is for, or "" if that is not certain.
func authority(u *url.URL) string {
	if u.Opaque == "" {
		return u.Host
	}
	// net/http dials u.Host and makes of Opaque the request target. If that is an absolute one,
	// a proxy or gateway follows it without regard for the Host field (RFC 9112, section 3.2.2).
	opaque, ok := strings.CutPrefix(u.Opaque, "//")
	if !ok {
		if strings.HasPrefix(u.Opaque, "/") {
			return u.Host
		}
		return ""
	}
	if end := strings.IndexAny(opaque, "/?#"); end >= 0 {
		opaque = opaque[:end]
	}
	if opaque != u.Host {
		return ""
	}
	return u.Host
}

// splitPort splits hostport where [url.URL.Port] does, which is what net/http dials, but leaves the
// brackets where they are.
func splitPort(hostport string) (host, port string) {
	i := strings.LastIndexByte(hostport, ':')
	if i < 0 {
		return hostport, ""
	}
	for _, c := range []byte(hostport[i+1:]) {
		if c < '0' || c > '9' {
			return hostport, ""
		}
	}
	return hostport[:i], hostport[i+1:]
}

// defaultPort returns the port of a URL that has none (RFC 9110, sections 4.2.1 and 4.2.2).
func defaultPort(scheme string) string {
	switch scheme {
	case "https":
		return "443"
	case "http":
		return "80"
	}
	return ""
}

// check finds what net/url lets pass although no server can have such a host or port, above all two
// origins in one string.
func check(o Origin) error {
	if n, err := strconv.ParseUint(o.Port, 10, 16); err != nil || n == 0 || o.Port[0] == '0' {
		return fmt.Errorf("port %q is not in 1 to 65535", o.Port)
	}
	if o.Host == "" {
		return errors.New("host is empty")
	}
	if strings.HasPrefix(o.Host, "[") {
		addr, err := netip.ParseAddr(strings.Trim(o.Host, "[]"))
		if err != nil || !addr.Is6() {
			return errors.New("host in brackets is not an IPv6 address")
		}
		return nil
	}
	if i := strings.IndexFunc(o.Host, func(r rune) bool {
		return r < 0x80 && r != '-' && r != '.' && r != '_' &&
			(r < '0' || r > '9') && (r < 'a' || r > 'z')
	}); i >= 0 {
		return fmt.Errorf("host has a %q", o.Host[i])
	}
	return nil
}

// lower returns s with its ASCII letters in lower case. strings.ToLower would go further: it turns
// the Kelvin sign into a k.
func lower(s string) string {
	var b []byte
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			if b == nil {
				b = []byte(s)
			}
			b[i] = c + ('a' - 'A')
		}
	}
	if b == nil {
		return s
	}
	return string(b)
}
