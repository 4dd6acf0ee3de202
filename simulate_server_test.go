package authtrip_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// A family is what descends from one login, as the server knows it.
type family struct {
	id      int
	key     string // of the session
	user    string
	revoked bool
	leaves  []*refreshToken // that the server would take
	access  int
}

type refreshToken struct {
	name    string
	family  *family
	gen     int
	spent   time.Time // zero: it is live
	next    *refreshToken
	sending int      // requests that carry it, and are on their way
	answers int      // that carry it, and are on their way to somebody who lives
	excused string   // why nobody is to blame if its next send ends the session
	again   *process // that is to send it once more, with another nonce
	bare    bool     // the Store has lost its marker while it was sent, and there are no leases
}

type accessToken struct {
	name     string
	family   *family
	gen      int
	variant  string
	expires  time.Time
	rejected bool
	saved    bool     // it was in the Store
	position position // among those of its key, by the server's count
}

// login makes a family. The world's mu is held.
func (w *world) login(key, user string) (*refreshToken, *accessToken) {
	f := &family{id: len(w.families) + 1, key: key, user: user}
	w.families = append(w.families, f)
	return w.grant(f, 0), w.issue(f, 0, "")
}

func (w *world) grant(f *family, gen int) *refreshToken {
	twin := ""
	for _, leaf := range f.leaves {
		if leaf.gen == gen {
			twin += "+"
		}
	}
	rt := &refreshToken{name: fmt.Sprintf("R%d.%d%s", f.id, gen, twin), family: f, gen: gen}
	f.leaves = append(f.leaves, rt)
	w.refresh[rt.name] = rt
	return rt
}

func (w *world) issue(f *family, gen int, variant string) *accessToken {
	f.access++
	at := &accessToken{name: fmt.Sprintf("A%d.%d-%d%s", f.id, gen, f.access, variant), family: f, gen: gen, variant: variant, expires: time.Now().Add(w.lifetime)}
	w.access[at.name] = at
	return at
}

func (w *world) accepts(at *accessToken) bool { return !at.rejected && time.Now().Before(at.expires) }

// spend is what the server does with a refresh token. It returns nil for a no.
func (w *world) spend(p *process, rt *refreshToken, variant string) (*refreshToken, *accessToken) {
	f := rt.family
	switch now := time.Now(); {
	case f.revoked:
		return nil, nil
	case w.reusable:
		w.refreshes++
		return rt, w.issue(f, rt.gen, variant)
	case rt.spent.IsZero():
		rt.spent = now
		f.drop(rt)
		rt.next = w.grant(f, rt.gen+1)
	case now.Sub(rt.spent) >= w.grace || !rt.next.spent.IsZero():
		w.judgeLoss(p, rt)
		f.revoked = true
		return nil, nil
	case w.second:
		rt.next = w.grant(f, rt.gen+1)
	}
	w.refreshes++
	return rt.next, w.issue(f, rt.gen+1, variant)
}

func (f *family) drop(rt *refreshToken) {
	for i, leaf := range f.leaves {
		if leaf == rt {
			f.leaves = append(f.leaves[:i:i], f.leaves[i+1:]...)
			return
		}
	}
}

// What becomes of a request.
const (
	fine            = iota
	refusedConn     // nothing arrives
	busy            // 429 or 503 with Retry-After
	gateway         // 500, 502, 503: processed or not
	page            // 200 with HTML: processed or not
	reset           // no answer: processed or not
	hanging         // no answer for ever: processed or not
	late            // an answer after RefreshTimeout
	slow            // an answer within it
	slowlyProcessed // and it is processed only then
)

func (w *world) netFault(d *dice) int {
	switch kind, down := w.outageOf(false); {
	case w.faultsAreOff():
		return fine
	case down && kind < 200:
		return refusedConn
	case down && kind < 350:
		return busy
	case down && kind < 600:
		return gateway
	case down && kind < 700:
		return page
	case down && kind < 850:
		return hanging
	case down:
		return oneOf(d, reset, late, slow)
	case d.chance(w.netFaults):
		return oneOf(d, refusedConn, busy, gateway, page, reset, hanging, late, late, slow, slowlyProcessed)
	}
	return fine
}

// networkOf is the way of one process to the server.
type networkOf struct{ p *process }

func (n networkOf) RoundTrip(r *http.Request) (*http.Response, error) {
	p, w := n.p, n.p.w
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	select {
	case <-p.dead:
		return nil, p.stone()
	default:
	}
	d := p.dice(forServer)
	fault, doom := w.netFault(&d), p.doom(&d)
	w.count(p, fault, "send")
	if doom == doomedBefore && p.die("before it sends") {
		return nil, p.stone()
	}
	if fault == refusedConn {
		if err := p.pass(r.Context(), d.between(time.Millisecond, 50*time.Millisecond)); errors.Is(err, errStone) {
			return nil, p.stone()
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	x := &exchange{p: p, w: w, req: r, d: d, fault: fault, doom: doom, variant: form.Get("resource")}
	w.mu.Lock()
	x.rt = w.refresh[form.Get("refresh_token")]
	x.begin()
	w.mu.Unlock()
	resp, err := x.run(r.Context())
	w.mu.Lock()
	x.finish()
	w.mu.Unlock()
	if errors.Is(err, errStone) {
		return nil, p.stone()
	}
	return resp, err
}

// An exchange is one request that the server gets.
type exchange struct {
	p       *process
	w       *world
	d       dice
	fault   int
	doom    int
	variant string
	rt      *refreshToken
	next    *refreshToken // it carries, if the server has said yes
	status  int
	body    string
	retry   string
	req     *http.Request
	nonce   string // of the answer
	orphan  bool   // the server goes on by itself
}

// begin lets it leave. The world's mu is held, as it is for all that follow.
func (x *exchange) begin() {
	x.w.note(x.p, "sends %s", x.rt.name)
	x.w.checkSend(x.p, x.rt)
	x.rt.sending++
}

// finish ends it, for better or worse.
func (x *exchange) finish() {
	if x.orphan {
		return
	}
	x.rt.sending--
	if x.next != nil {
		x.next.answers--
	}
}

// process is the server's work.
func (x *exchange) process() {
	if !x.proven() {
		return
	}
	next, at := x.w.spend(x.p, x.rt, x.variant)
	if at == nil {
		x.w.note(x.p, "the server says no to %s", x.rt.name)
		x.status, x.body = http.StatusBadRequest, `{"error":"invalid_grant"}`
		return
	}
	x.w.note(x.p, "the server makes %s and %s of %s", next.name, at.name, x.rt.name)
	next.answers++
	x.next, x.status = next, http.StatusOK
	x.body = fmt.Sprintf(`{"access_token":%q,"token_type":%q,"expires_in":%d`, at.name, x.w.tokenType(), int(x.w.lifetime/time.Second))
	if x.next != x.rt {
		x.body += fmt.Sprintf(`,"refresh_token":%q`, next.name)
	}
	x.body += "}"
}

func (x *exchange) locked(f func()) {
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	f()
}

// run is the way there and back.
func (x *exchange) run(ctx context.Context) (*http.Response, error) {
	there := x.d.between(2*time.Millisecond, 80*time.Millisecond)
	if x.fault == slowlyProcessed {
		there = x.d.between(100*time.Millisecond, 9*time.Second)
	}
	if err := x.p.pass(ctx, there); err != nil {
		if errors.Is(err, errStone) && x.fault != busy && x.d.chance(500) {
			x.alone(x.d.between(0, 3*time.Second))
		}
		return nil, err
	}
	if x.fault == busy {
		return x.answerBusy(), nil
	}
	processed := x.fault == fine || x.fault >= late || x.d.chance(500)
	if processed {
		x.locked(x.process)
	}
	if x.doom == doomedAfter && x.p.die("before the answer comes") {
		return nil, errStone
	}
	return x.back(ctx)
}

// alone lets the server process a request whose sender is dead.
func (x *exchange) alone(after time.Duration) {
	x.orphan = true
	time.AfterFunc(after, func() {
		x.locked(func() {
			x.process()
			x.orphan = false
			x.finish()
		})
	})
}

func (x *exchange) answerBusy() *http.Response {
	x.status, x.body = oneOf(&x.d, http.StatusTooManyRequests, http.StatusServiceUnavailable), `{"error":"temporarily_unavailable"}`
	x.retry = oneOf(&x.d, "1", "5", "20")
	return x.response()
}

func (x *exchange) back(ctx context.Context) (*http.Response, error) {
	back := x.d.between(2*time.Millisecond, 80*time.Millisecond)
	switch x.fault {
	case gateway:
		x.lose()
		x.status, x.body = oneOf(&x.d, 500, 502, 503), "<html>bad gateway</html>"
	case page:
		x.lose()
		x.status, x.body = http.StatusOK, "<html>be right back</html>"
	case reset:
		x.lose()
	case hanging:
		x.lose()
		back = time.Hour
	case late:
		back = x.d.between(10*time.Second, 14800*time.Millisecond)
	case slow:
		back = x.d.between(100*time.Millisecond, 9*time.Second)
	}
	if err := x.p.pass(ctx, back); err != nil {
		return nil, err
	}
	if x.fault == reset {
		return nil, errors.New("connection reset by peer")
	}
	x.locked(func() {
		if x.next != nil {
			x.w.note(x.p, "has %s", x.next.name)
			x.p.has[x.next.name] = true
			x.p.since[x.next.name] = time.Now()
			x.p.failed[x.rt.family.key] = 0
		}
	})
	return x.response(), nil
}

// lose says that the answer will not come.
func (x *exchange) lose() {
	x.locked(func() {
		if x.next != nil {
			x.w.note(x.p, "the answer is lost")
			x.next.answers--
			x.next = nil
		}
	})
}

func (x *exchange) response() *http.Response {
	kind := "application/json"
	if strings.HasPrefix(x.body, "<") {
		kind = "text/html"
	}
	h := http.Header{"Content-Type": {kind}}
	if x.retry != "" {
		h.Set("Retry-After", x.retry)
	}
	if x.nonce != "" && x.status < 500 {
		h.Set("DPoP-Nonce", x.nonce)
	}
	return &http.Response{StatusCode: x.status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: io.NopCloser(strings.NewReader(x.body))}
}
