package authtrip_test

import (
	"io"
	"net"
	"testing"
)

// serveRaw answers each connection with text, whatever was asked, and returns its URL.
func serveRaw(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 4096)
				_, _ = c.Read(buf)
				_, _ = io.WriteString(c, text)
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/token"
}
