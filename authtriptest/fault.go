package authtriptest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// Fault is how one request is treated badly. The fields combine; the zero value
// does nothing, which is the way to let a request pass in the middle of others.
//
//	Fault{Status: 503, Header: http.Header{"Retry-After": {"2"}}} // busy
//	Fault{Reset: true}                                            // no answer
//	Fault{Commit: true, Reset: true}                              // done, but the answer is lost
//	Fault{Delay: time.Minute}                                     // slow
//	Fault{Body: "<html>", Header: http.Header{"Content-Type": {"text/html"}}}
//	Fault{JSON: map[string]any{"expires_in": "3600"}}             // odd, but as usual else
//
// Fault{Challenge: InvalidToken} // the token is rejected
//
// The fields are applied in the order in which they are listed. A Fault is not
// modified by the server, so that it can be used many times; its maps and its
// Handler must be left alone from then on.
type Fault struct {
	// Early acts before the body of the request is read. If false, the body
	// has been consumed, as with most servers.
	Early bool

	// Commit does the work of the endpoint at the start, however it is answered then: a
	// refresh token is used up, a token is revoked. If false, the work is done after Delay,
	// and not at all if something else is answered than usual.
	Commit bool

	// Delay waits before anything is answered. If the client leaves, the wait
	// ends and nothing more is done.
	Delay time.Duration

	// Until waits for a value or for the end of the channel, after Delay. If
	// nil, there is nothing to wait for.
	Until <-chan struct{}

	// Handler answers the request. If nil, the fields below do.
	Handler http.Handler

	// Reset ends the connection without an answer. Over HTTP/1.1 that is a
	// reset of the connection, over HTTP/2 of the stream. Note that
	// [http.Transport] by itself repeats a GET that got no answer on a
	// connection that was used before.
	Reset bool

	// Status is the status that is answered instead of the usual answer. If
	// zero, it is 401 for a Challenge, 400 for an Error, else 200.
	Status int

	// Challenge is a WWW-Authenticate header that is answered, such as
	// [InvalidToken].
	Challenge string

	// Error is an OAuth error code that is answered as RFC 6749, section 5.2
	// says, such as "invalid_grant".
	Error string

	// Body is answered instead of the usual body. Its type is text/plain unless
	// Header says otherwise.
	Body string

	// BodySize repeats Body (or a space, if there is none) until that many
	// bytes were sent, without holding them in memory.
	BodySize int64

	// JSON replaces members of the answer, if that is an object. A nil value
	// removes the member.
	JSON map[string]any

	// Header replaces header fields of the answer, whichever it is. An empty
	// list of values removes the field.
	Header http.Header

	// Stall waits after the header and the first half of the body were sent.
	Stall time.Duration

	// Truncate breaks the connection after the first half of the body, and
	// after Stall.
	Truncate bool
}

// Fail makes the next requests to the endpoint fail: the first one with the
// first fault, and so on, after the faults that are still waiting. path is one
// of the constants like [TokenPath].
func (s *Server) Fail(path string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queues == nil {
		s.queues = map[string][]Fault{}
	}
	s.queues[path] = append(s.queues[path], faults...)
}

// FailAlways makes all requests to the endpoint fail that find no fault of
// [Server.Fail] waiting, until [Server.Heal].
func (s *Server) FailAlways(path string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.always == nil {
		s.always = map[string]Fault{}
	}
	s.always[path] = f
}

// Heal forgets all faults of the endpoint. Requests that are being served keep
// theirs.
func (s *Server) Heal(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.queues, path)
	delete(s.always, path)
}

// Waiting returns how many faults of [Server.Fail] no request has met yet.
func (s *Server) Waiting(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queues[path])
}

// nextFault takes the fault for a request; usually there is none.
func (s *Server) nextFault(path string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[path]; len(q) > 0 {
		s.queues[path] = q[1:]
		s.counts.Faults++
		return q[0]
	}
	f, ok := s.always[path]
	if ok {
		s.counts.Faults++
	}
	return f
}

// replaces reports whether something else is answered than usual.
func (f *Fault) replaces() bool {
	return f.Reset || f.Status != 0 || f.Challenge != "" || f.Error != "" ||
		f.Body != "" || f.BodySize > 0
}

// wait waits for Delay and Until; false means that the client left.
func (f *Fault) wait(ctx context.Context) bool {
	if !sleep(ctx, f.Delay) {
		return false
	}
	if f.Until == nil {
		return true
	}
	select {
	case <-f.Until:
		return true
	case <-ctx.Done():
		return false
	}
}

// alter makes the answer that the fault asks for.
func (f *Fault) alter(a *answer) {
	if f.replaces() {
		*a = f.replacement()
	}
	if len(f.JSON) > 0 {
		var members map[string]any
		dec := json.NewDecoder(bytes.NewReader(a.body))
		dec.UseNumber()
		if dec.Decode(&members) == nil && members != nil {
			a.body, _ = json.Marshal(merged(members, f.JSON))
		}
	}
	for k, v := range f.Header {
		k = http.CanonicalHeaderKey(k)
		if len(v) == 0 {
			delete(a.header, k)
			continue
		}
		a.header[k] = v
	}
}

func (f *Fault) replacement() answer {
	var a answer
	switch {
	case f.Error != "":
		a = jsonAnswer(http.StatusBadRequest, map[string]any{"error": f.Error})
	case f.Challenge != "":
		a = *challenge(http.StatusUnauthorized, f.Challenge)
	default:
		a = answer{status: http.StatusOK, header: http.Header{"Content-Type": {"text/plain"}}}
	}
	if f.Challenge != "" {
		a.header.Set("WWW-Authenticate", f.Challenge)
	}
	if f.Status != 0 {
		a.status = f.Status
	}
	if f.Body != "" || f.BodySize > 0 {
		a.body = []byte(f.Body)
		a.header.Set("Content-Type", "text/plain")
	}
	return a
}

// send writes the answer, or what the fault leaves of it.
func (f *Fault) send(w http.ResponseWriter, r *http.Request, a answer) {
	if f.Reset {
		drop(w)
		return
	}
	maps.Copy(w.Header(), a.header)
	if f.BodySize > 0 {
		w.WriteHeader(a.status)
		fill(w, a.body, f.BodySize)
		return
	}
	if f.Stall <= 0 && !f.Truncate {
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	half := len(a.body) / 2
	_, _ = w.Write(a.body[:half])
	_ = http.NewResponseController(w).Flush()
	if !sleep(r.Context(), f.Stall) || f.Truncate {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(a.body[half:])
}

// fill writes body again and again, n bytes in all.
func fill(w io.Writer, body []byte, n int64) {
	if len(body) == 0 {
		body = []byte(" ")
	}
	block := bytes.Repeat(body, 1+(32<<10)/len(body))
	for n > 0 {
		if int64(len(block)) > n {
			block = block[:n]
		}
		if _, err := w.Write(block); err != nil {
			return
		}
		n -= int64(len(block))
	}
}

// drop ends the connection so that the client sees a reset. HTTP/2 cannot be
// hijacked; there net/http resets the stream.
func drop(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if l, ok := raw.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = raw.Close()
}

// sleep waits for d; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// merged returns base with the members of over; nil removes one.
func merged(base, over map[string]any) map[string]any {
	for k, v := range over {
		if v == nil {
			delete(base, k)
			continue
		}
		base[k] = v
	}
	return base
}
