package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
)

// Cause returns the error of an HTTP exchange in words that hold nothing that the server, or a proxy,
// wrote. net/http quotes status lines, header lines, a Location, a Content-Length in its errors,
// and crypto/x509 the names in a certificate; any of these can be an echo of a secret.
//
// An error whose text is known to be of this machine is kept as it is. Of any other one the result
// tells the kind, and [errors.Is] still finds what is in it.
func Cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the query of a URL may hold a secret
	}
	if err == nil || local(err) {
		return err
	}
	return &hidden{kind(err), err}
}

// local reports whether the text of err is certainly of this machine.
func local(err error) bool {
	switch err { //nolint:errorlint // what wraps one of these may add to its text
	case context.Canceled, context.DeadlineExceeded, os.ErrDeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		http.ErrSchemeMismatch, http.ErrBodyReadAfterClose, ErrTooLarge:
		return true
	}
	switch err := err.(type) { //nolint:errorlint // as above
	case syscall.Errno, *net.DNSError, *net.AddrError, net.UnknownNetworkError, tls.AlertError:
		return true
	case *os.SyscallError:
		return local(err.Err)
	case *net.OpError:
		// Op and addresses are what was dialled. TLS alerts come as such an error too, with a
		// number of which the text is Go's.
		return err.Op != "proxyconnect" && (local(err.Err) || err.Timeout() || err.Op == "remote error" || err.Op == "local error")
	}
	return false
}

// kind says what is known of an error whose text is not to be shown.
func kind(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	var op *net.OpError
	switch {
	case errors.As(err, &unknown):
		return "the server's certificate is of an authority that is not known here"
	case errors.As(err, &host):
		return "the server's certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired, or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &cert):
		return "the server's certificate is not valid"
	case errors.As(err, &record):
		return "the server does not speak TLS"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the proxy made no connection"
	case errors.As(err, &op) && op.Op == "dial":
		return "cannot connect"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection ended before the answer did"
	}
	return "the connection broke, or the answer is not HTTP"
}

// hidden is an error with another text.
type hidden struct {
	text string
	err  error
}

func (h *hidden) Error() string { return h.text }

// Is keeps errors.Is as it was. There is no Unwrap: who prints a chain would print the text.
func (h *hidden) Is(target error) bool { return errors.Is(h.err, target) }

// Timeout reports whether the error was a time-out, as that of a [net.Error] does.
func (h *hidden) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(h.err, &t) && t.Timeout()
}
