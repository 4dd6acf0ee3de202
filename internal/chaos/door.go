package chaos

import (
	"net"
	"sync"
	"time"
)

// Swallow lets connections to the server vanish, as a firewall does that drops
// packets, until Answer.
func (r *Run) Swallow() {
	r.door.mu.Lock()
	r.door.shut = make(chan struct{})
	r.door.mu.Unlock()
	r.door.backlog(0)
	r.http.SetKeepAlivesEnabled(false) // closes those that are idle
}

// Answer ends what Swallow began.
func (r *Run) Answer() {
	r.http.SetKeepAlivesEnabled(true)
	r.door.drain()
	r.door.backlog(backlog)
	r.door.mu.Lock()
	defer r.door.mu.Unlock()
	close(r.door.shut)
	r.door.shut = nil
}

// backlog is how many connections usually wait to be accepted.
const backlog = 1024

// A door is a listener that can be shut: then nobody accepts connections, and the
// system answers none once its queue is full.
type door struct {
	*net.TCPListener
	mu   sync.Mutex    // guards shut
	shut chan struct{} // closed when the door is opened again; nil while it is open
}

// Accept implements [net.Listener].
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.TCPListener.Accept()
		d.mu.Lock()
		shut := d.shut
		d.mu.Unlock()
		switch {
		case shut == nil:
			return conn, err
		case err == nil: // what was sent on it is lost
			<-shut
			_ = conn.Close()
		default:
			<-shut
		}
	}
}

// drain drops the connections that were not accepted.
func (d *door) drain() {
	_ = d.SetDeadline(time.Now().Add(50 * time.Millisecond))
	defer func() { _ = d.SetDeadline(time.Time{}) }()
	for {
		conn, err := d.TCPListener.Accept()
		if err != nil {
			return
		}
		_ = conn.Close()
	}
}
