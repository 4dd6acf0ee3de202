package login

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestRule71NameThatMovesToLoopbackIsNotAsked: a DNS server whose first answer is a public
// address, and whose second is this machine.
func TestRule71NameThatMovesToLoopbackIsNotAsked(t *testing.T) {
	t.Parallel()
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	defer inside.Close()
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	resolver := rebinding(t)
	if first, err := resolver.LookupHost(t.Context(), "rebind.example"); err != nil || first[0] != "93.184.215.14" {
		t.Fatalf("the first look: %v, %v", first, err)
	}
	client := (&Guard{resolver: resolver}).Client()
	defer client.CloseIdleConnections()
	_, err := fetch(t.Context(), client, "resource metadata", "http://rebind.example:"+port+"/")
	if !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("error = %v, want ErrForbiddenAddress", err)
	}
}

// rebinding returns a resolver of a server that ends with the test.
func rebinding(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		ip := []byte{93, 184, 215, 14}
		query := make([]byte, 1024)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			reply, isA := answerDNS(query[:n], ip)
			if isA {
				ip = []byte{127, 0, 0, 1}
			}
			_, _ = conn.WriteTo(reply, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answerDNS answers a query of one question: an A record, and none of any other type (RFC 1035).
func answerDNS(query, ip []byte) (reply []byte, isA bool) {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	isA = binary.BigEndian.Uint16(query[end-4:]) == 1
	reply = append(reply, query[:2]...)
	reply = append(reply, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	reply = append(reply, query[12:end]...)
	if isA {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, ip...)
	}
	return reply, isA
}
