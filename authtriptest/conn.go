package authtriptest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeSize is how much one direction of a connection holds before a writer
// waits: enough that an early answer and a long request do not block each other.
const pipeSize = 64 << 10

// addr is the address of one end of a connection: host and port.
type addr string

func (addr) Network() string  { return "memory" }
func (a addr) String() string { return string(a) }

// conn is one end of a connection in memory.
type conn struct {
	local, remote addr
	in, out       *pipe

	mu    sync.Mutex // guards reset
	reset bool
}

// newConns returns both ends of a connection.
func newConns(a, b addr) (*conn, *conn) {
	x, y := newPipe(), newPipe()
	return &conn{local: a, remote: b, in: x, out: y}, &conn{local: b, remote: a, in: y, out: x}
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

func (c *conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.reading, t)
	c.out.setDeadline(&c.out.writing, t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.reading, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writing, t)
	return nil
}

// SetLinger is that of [net.TCPConn]: with zero, Close resets the connection.
func (c *conn) SetLinger(sec int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset = sec == 0
	return nil
}

func (c *conn) Close() error {
	c.mu.Lock()
	reset := c.reset
	c.mu.Unlock()
	c.out.closeWriter(reset)
	c.in.closeReader()
	return nil
}

// wrap makes the errors look like those of a socket.
func (c *conn) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}

// pipe is one direction of a connection. Its waits are on a condition variable,
// so that they block durably in a synctest bubble.
type pipe struct {
	mu       sync.Mutex // guards everything below
	change   *sync.Cond
	data     bytes.Buffer
	readErr  error // what the reader gets when data is used up
	writeErr error // what the writer gets
	reading  deadline
	writing  deadline
}

// deadline is the end of the reader's or of the writer's patience.
type deadline struct {
	timer  *time.Timer
	passed bool
}

func newPipe() *pipe {
	p := &pipe{}
	p.change = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.reading.passed:
			return 0, os.ErrDeadlineExceeded
		case p.data.Len() > 0:
			n, _ := p.data.Read(b)
			p.change.Broadcast()
			return n, nil
		case p.readErr != nil:
			return 0, p.readErr
		case len(b) == 0:
			return 0, nil
		}
		p.change.Wait()
	}
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := 0
	for {
		switch {
		case p.writing.passed:
			return sent, os.ErrDeadlineExceeded
		case p.writeErr != nil:
			return sent, p.writeErr
		case sent == len(b):
			return sent, nil
		}
		room := min(pipeSize-p.data.Len(), len(b)-sent)
		if room == 0 {
			p.change.Wait()
			continue
		}
		p.data.Write(b[sent : sent+room])
		sent += room
		p.change.Broadcast()
	}
}

// closeWriter ends the stream after what was written, or at once with a reset.
func (p *pipe) closeWriter(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeErr = net.ErrClosed
	if p.readErr == nil {
		p.readErr = io.EOF
		if reset {
			p.readErr = syscall.ECONNRESET
			p.data.Reset()
		}
	}
	p.writing.stop()
	p.change.Broadcast()
}

// closeReader makes further writes fail.
func (p *pipe) closeReader() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readErr = net.ErrClosed
	if p.writeErr == nil {
		p.writeErr = syscall.EPIPE
	}
	p.data.Reset()
	p.reading.stop()
	p.change.Broadcast()
}

func (p *pipe) setDeadline(d *deadline, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.stop()
	wait := time.Until(t)
	d.passed = !t.IsZero() && wait <= 0
	if !t.IsZero() && wait > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if d.timer == timer { // else a newer deadline replaced this one
				d.passed = true
				p.change.Broadcast()
			}
		})
		d.timer = timer
	}
	p.change.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
