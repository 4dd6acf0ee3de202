package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// ErrForbiddenAddress is the error of a request that a [Guard] has not sent.
var ErrForbiddenAddress = errors.New("login: the address is on a network that the program has not allowed")

// A Guard makes clients for URLs that somebody else has named: an API its metadata, the
// metadata its authorization server. They connect to public addresses only. Each address
// is checked when the client connects to it, after its name was resolved. What the name
// resolved to before does not matter.
//
// The zero value allows no special network. It must not be modified after first use.
type Guard struct {
	// Loopback allows loopback addresses, as for an API on the same host.
	Loopback bool
	// Networks are allowed as well, such as 10.0.0.0/8 for servers of a company.
	Networks []netip.Prefix
	// Base has the settings of the client's Transport, such as its TLS. Its dial functions
	// and its Proxy are not used: a proxy resolves names itself, and the address could not
	// be checked. If nil, it is [http.DefaultTransport].
	Base *http.Transport

	resolver *net.Resolver // of tests; nil is the system's
}

// Client returns a new client. It follows no redirects, and waits a minute at most for
// the end of an answer. It keeps its own connections, so make one for the whole program.
// Its requests to addresses that are not allowed fail with [ErrForbiddenAddress].
func (g *Guard) Client() *http.Client {
	base := g.Base
	if base == nil {
		base, _ = http.DefaultTransport.(*http.Transport)
	}
	t := &http.Transport{ForceAttemptHTTP2: true}
	if base != nil {
		t = base.Clone()
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, ControlContext: g.control, Resolver: g.resolver}
	t.Proxy, t.Dial, t.DialTLS, t.DialTLSContext = nil, nil, nil, nil //nolint:staticcheck // a base may have set them
	t.DialContext = dialer.DialContext
	t.ResponseHeaderTimeout = 20 * time.Second
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: t, Timeout: time.Minute, CheckRedirect: stay}
}

// control is called between the resolution of a name and the connection. Rule 71.
func (g *Guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: it is none of IP", ErrForbiddenAddress)
	}
	if !g.Allows(at.Addr()) {
		return ErrForbiddenAddress
	}
	return nil
}

// Allows reports whether a client may connect to an address.
func (g *Guard) Allows(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, n := range g.Networks {
		if n.Contains(ip) {
			return true
		}
	}
	if ip.IsLoopback() {
		return g.Loopback
	}
	if translated.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !special(ip)
}

// translated are the IPv4 addresses of a network that has IPv6 alone (NAT64): RFC 6052,
// section 2.1. One is as public as the address in it.
var translated = netip.MustParsePrefix("64:ff9b::/96") //nolint:gochecknoglobals // it never changes

// assigned are the public IPv6 addresses: those that IANA gives out (RFC 4291, section 2.4).
var assigned = netip.MustParsePrefix("2000::/3") //nolint:gochecknoglobals // it never changes

// special reports whether an address is of a registry of special purposes (RFC 6890) that
// netip does not know as private, or holds an IPv4 address in which one can hide.
func special(ip netip.Addr) bool {
	if ip.Is6() && !assigned.Contains(ip) {
		return true
	}
	for _, n := range [...]string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		if netip.MustParsePrefix(n).Contains(ip) {
			return true
		}
	}
	return false
}
