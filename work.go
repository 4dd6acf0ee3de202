package authtrip

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"example.com/authtrip/internal/backoff"
	"example.com/authtrip/internal/lifecycle"
)

// work is what a session remembers from round to round, beside the token that is
// handed out. It is made when a round begins, and dropped when there is nothing left
// to remember. The session's mu guards it.
type work struct {
	memory lifecycle.Memory
	held   *record // the newest record, while it is not in the Store for certain

	// answered says that held came from here, and first that there was none before. told says
	// that OnEvent knows that it is not saved.
	answered, first, told bool

	end    *ended // what the server said, once it has refused the refresh token
	endErr error
	sends  sends
	seen   sighting
	asking chan struct{} // closed when the answer to the request that is on its way is taken; nil if there is none
	timer  *time.Timer   // of the next look; nil if there is none

	// owesLook says that the Store has not answered a look, or not saved what was found to be
	// missing. It stays through rounds that do not ask the Store.
	owesLook bool
}

// sends are those of the newest refresh token with unknown outcome.
type sends struct {
	first time.Time // of the first, from this process
	took  time.Duration
	count int
	// inherited says that another process's send came before, at a time that nobody here
	// knows: the grace period may be over.
	inherited bool
	open      time.Time // until then the answer to the last may still come; zero: it cannot
}

// lost counts a send that began then and whose outcome is unknown.
func (s *sends) lost(began time.Time) {
	if s.count++; s.count == 1 {
		s.first = began
	}
	s.took = time.Since(began)
}

// within reports whether the grace period, counted from the first send, is certainly
// running still, and its resends are not used up.
func (s *sends) within(grace time.Duration) bool {
	if s.count == 0 || s.count >= maxSends || s.inherited {
		return false
	}
	return time.Since(s.first)+s.took < grace
}

// sighting is since when the Store has had a version, as far as this process has seen.
type sighting struct {
	version string
	since   time.Time
	doubt   bool // there is a doubt without a marker that binds
}

// read takes what is in the Store: only a marker that binds has to be watched.
func (g *sighting) read(rec *record, version string) {
	if rec == nil || !rec.Marker.binds() {
		*g = sighting{doubt: rec != nil && rec.Marker != nil}
		return
	}
	g.see(version)
}

func (g *sighting) see(version string) {
	if g.version != version {
		*g = sighting{version: version, since: time.Now()}
	}
}

// read takes what the Store said. known is the newest record that is known here.
func (w *work) read(there reading, known *record) {
	var found lifecycle.Record
	twin := false
	if there.rec != nil {
		found, twin = there.rec.facts(), there.rec.isTwin(known)
		if there.rec.Ended != nil && !twin && found.Position == w.memory.Known {
			w.end = there.rec.Ended // if the Store loses it, it is put back
		}
	}
	w.memory.Loaded(there.said, found, twin)
	if there.said != lifecycle.NoAnswer { // what was seen may be there still: its version tells
		w.seen.read(there.rec, there.version)
	}
}

// came takes the record of a token that came, the first one or another.
func (w *work) came(rec *record, first bool) {
	w.held, w.sends = rec, sends{}
	w.answered, w.first, w.told = true, first, false
}

// taken says that the answer to a request was taken.
func (w *work) taken(asking chan struct{}) {
	close(asking)
	if w.asking == asking {
		w.asking = nil
	}
}

// settle forgets what belongs to a record that is not the newest any more.
func (w *work) settle() {
	w.held, w.end, w.endErr = nil, nil, nil
	w.answered, w.first, w.told = false, false, false
	w.sends = sends{}
}

// settled reports whether a session can do without w.
func (w *work) settled() bool {
	m := &w.memory
	return m.Newest == lifecycle.Settled && (m.End == lifecycle.Alive || m.End == lifecycle.LoggedOut) && !m.Doubt &&
		w.sends.open.IsZero() && w.seen.version == "" && w.timer == nil
}

// A failure is why the last round had no new token, and when the next may try.
type failure struct {
	of    *snapshot // the token that was to be replaced
	err   error
	first time.Time // of all in succession
	at    time.Time
	wait  time.Duration
	row   int // how many in succession
	// until is the end of the waits before, where one is not over: what failed meanwhile was
	// something else, such as a look at the Store.
	until time.Time
	// Of an attempt that was not made, as the token endpoint is down for all sessions:
	postponed bool
	// Of a load of the Store: it is over when the next one is answered, and what it came over
	// counts again.
	load   bool
	before *failure
	// Of a round that could do nothing while the token is usable: it holds up no other
	// once that is over.
	idle bool
}

// gateLook is how long a session whose attempt was postponed does not look at the Store
// again, while the outage lasts.
const gateLook = 10 * time.Second

// due reports whether the next attempt may be made. Where it was postponed, that is when
// the gate is open.
func (s *session) due(f *failure) bool {
	if f != nil && f.idle && !f.of.usable() {
		return true
	}
	if f != nil && f.postponed && time.Since(f.at) < gateLook {
		return s.set.gate.mayEnter()
	}
	return f.due()
}

// failure returns the last failure to replace cur. One of an older token does not
// count any more.
func (s *session) failure(cur *snapshot) *failure {
	if f := s.failing.Load(); f != nil && f.of == cur {
		return f
	}
	return nil
}

func (f *failure) due() bool {
	return f == nil || time.Since(f.at) >= f.wait && !time.Now().Before(f.until)
}

// next is when the next attempt is due.
func (f *failure) next() time.Time { return later(f.at.Add(f.wait), f.until) }

// after returns the failure that follows f, and that asks for a wait of least. Failures in
// succession are one outage, unless nobody has tried for a while between two.
func (f *failure) after(of *snapshot, err error, least time.Duration) *failure {
	next := &failure{of: of, err: err, at: time.Now(), row: 1}
	next.first = next.at
	if f != nil && next.at.Sub(f.next()) < quietTime {
		next.first, next.row = f.first, f.row+1
		if !f.idle && !f.postponed && !f.due() {
			next.until = f.next()
		}
	}
	next.wait = max(least, outagePause(next.row, next.at.Sub(next.first)))
	if re, ok := errors.AsType[*RefreshError](err); ok {
		next.wait = max(next.wait, re.RetryAfter)
	}
	return next
}

// outagePause is the wait after so many failures in succession, since the first: a
// twentieth of the outage, so that its end is noticed soon, and between a quarter of a
// second and half a minute, less a random share.
func outagePause(row int, outage time.Duration) time.Duration {
	least := min(250*time.Millisecond<<min(max(row-1, 0), 2), time.Second)
	return shortened(min(max(least, outage/20), longestPause))
}

// quietTime is how long nobody tries, after which a failure begins an outage of its own.
const quietTime = time.Minute

// longestPause is that between attempts, unless a server asks for a longer one.
const longestPause = 30 * time.Second

// pauseAfter is the wait after n rejections in succession: a quarter of a second,
// doubling, up to half a minute, less a random share.
func pauseAfter(n int) time.Duration {
	return shortened(backoff.Doubled(n, 250*time.Millisecond, 30*time.Second))
}

// random returns a number below n. The simulation has another, by which a seed repeats
// its run.
var random = rand.Int64N //nolint:gochecknoglobals // see above

// shortened is d less a random share of at most a fifth.
func shortened(d time.Duration) time.Duration {
	return d - time.Duration(random(max(int64(d)/5, 1)))
}

// sleep waits for d, and reports whether ctx is still good.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
