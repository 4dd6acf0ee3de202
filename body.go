package authtrip

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// This file is what is kept of the two bodies of a request that may be sent twice: that of the request
// while it is being sent, and that of the 401 while a new token is fetched.

const (
	// maxDrain is how much of a refused response is read for its connection's sake.
	maxDrain = 64 << 10
	// drainTime is how long a retry waits for the rest of the response to the first try, and for Base
	// to be done with that one's body.
	drainTime = 250 * time.Millisecond
)

// keptBody is a request body that cannot be had again. What Base reads of it is remembered; if the
// request has to be sent again, that comes first and then what Base has left. It is read while it is
// sent, and not before: a body can depend on the answer, and a server can answer without it.
type keptBody struct {
	body io.ReadCloser
	ctx  context.Context
	done chan struct{} // closed when Base has closed the body
	stop func() bool   // what ends a Read with the context

	mu       sync.Mutex // guards what follows
	read     []byte     // by Base
	failed   bool       // a Read has
	reading  bool       // Base is inside of Read
	closed   bool       // by Base, or taken from it
	gone     bool       // body was closed, or is the second try's
	released bool       // there is no second try
	next     *keptBody  // that of the second try, if there may be a third
}

// keepBody makes req's body one that can be sent again, if it is small enough and its length is
// known. It returns nil if it is not.
func (t *Transport) keepBody(req *http.Request) *keptBody {
	limit := t.RetryBodyLimit
	if limit == 0 {
		limit = 64 << 10
	}
	if req.Body == http.NoBody || req.ContentLength <= 0 || req.ContentLength > limit {
		return nil
	}
	k := newKeptBody(req.Context(), req.Body)
	req.Body = k
	return k
}

func newKeptBody(ctx context.Context, body io.ReadCloser) *keptBody {
	k := &keptBody{body: body, ctx: ctx, done: make(chan struct{})}
	// net/http over HTTP/1.1 waits for a Read that nobody ends, whatever the context.
	k.stop = context.AfterFunc(ctx, func() { _ = k.Close() })
	return k
}

// Read implements [io.Reader], for Base.
func (k *keptBody) Read(p []byte) (int, error) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	k.reading = true
	k.mu.Unlock()
	n, err := k.body.Read(p)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reading = false
	k.read = append(k.read, p[:n]...)
	k.failed = k.failed || err != nil && err != io.EOF
	return n, err
}

// Close implements [io.Closer], for Base. The body itself stays open while there may be a second
// try, unless that is what ends a Read.
func (k *keptBody) Close() error {
	k.mu.Lock()
	first := !k.closed
	k.closed = true
	end := (k.reading || k.released) && !k.gone
	k.gone = k.gone || end
	k.mu.Unlock()
	if first {
		close(k.done)
	}
	if end {
		return k.body.Close()
	}
	return nil
}

// release says that there is no second try, or that it has the body.
func (k *keptBody) release() {
	k.stop()
	k.mu.Lock()
	k.released = true
	end := k.closed && !k.gone
	k.gone = k.gone || end
	next := k.next
	k.mu.Unlock()
	if end {
		_ = k.body.Close()
	}
	if next != nil {
		next.release()
	}
}

// again returns the body from its start. Base gets nothing more of it. With keep there may
// be a call after this one.
func (k *keptBody) again(ctx context.Context, keep bool) (io.ReadCloser, error) {
	k.mu.Lock()
	last := k.next
	k.mu.Unlock()
	if last != nil {
		return last.again(ctx, keep)
	}
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-k.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reading || k.gone || k.failed {
		return nil, errors.New("authtrip: the request's body was not read to its end, so that it cannot be sent again: set GetBody")
	}
	if !k.closed {
		k.closed = true
		close(k.done)
	}
	k.gone = true
	whole := struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(k.read), k.body), k.body}
	if !keep {
		return whole, nil
	}
	k.next = newKeptBody(k.ctx, whole) //nolint:contextcheck // that of the request, as of the first one
	return k.next, nil
}

// aheadBody is the body of a refused response. It is read in the background up to maxDrain, so that
// its connection is free while a new token is fetched, maybe over the same one; and a body that
// stalls delays nobody. If there is no new token, the caller reads it as if nothing had happened.
type aheadBody struct {
	body io.ReadCloser
	done chan struct{} // closed when nothing more is read ahead

	mu     sync.Mutex // guards what follows
	read   []byte     // ahead, and not handed out
	err    error      // of body
	stop   bool       // the caller reads
	closed bool
}

// readAhead begins to read the body of resp and puts what it returns in its place. It returns nil for
// a response without a body.
func readAhead(resp *http.Response) *aheadBody {
	if resp.Body == nil || resp.Body == http.NoBody {
		return nil
	}
	a := &aheadBody{body: resp.Body, done: make(chan struct{})}
	resp.Body = a
	go a.run()
	return a
}

func (a *aheadBody) run() {
	defer close(a.done)
	chunk := make([]byte, 2<<10)
	for total := 0; total < maxDrain; {
		n, err := a.body.Read(chunk)
		total += n
		a.mu.Lock()
		a.read = append(a.read, chunk[:n]...)
		a.err = err
		over := err != nil || a.stop || a.closed
		a.mu.Unlock()
		if over {
			return
		}
	}
}

// drop ends the response for the sake of a second try.
func (a *aheadBody) drop() {
	if a == nil {
		return
	}
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-a.done:
	case <-timer.C:
	}
	_ = a.Close()
}

// Read implements [io.Reader].
func (a *aheadBody) Read(p []byte) (int, error) {
	for {
		a.mu.Lock()
		a.stop = true
		if a.closed {
			a.mu.Unlock()
			return 0, http.ErrBodyReadAfterClose
		}
		n := copy(p, a.read)
		a.read = a.read[n:]
		a.mu.Unlock()
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		<-a.done
		a.mu.Lock()
		more, err := len(a.read) > 0, a.err
		a.mu.Unlock()
		switch {
		case more:
		case err != nil:
			return 0, err
		default:
			return a.body.Read(p)
		}
	}
}

// Close implements [io.Closer]. It ends a Read that is under way, as far as that of body does.
func (a *aheadBody) Close() error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	return a.body.Close()
}
