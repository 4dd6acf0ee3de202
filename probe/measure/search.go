package measure

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// searchTime is how long a search may take; a longer GraceLimit adds to it.
const searchTime = 90 * time.Second

// points are the ages, in seconds, at which a used refresh token is sent again: on either side
// of the grace periods that people configure.
var points = []float64{ //nolint:gochecknoglobals // never written to
	2, 4, 6, 9, 11, 14, 16, 19, 22, 28, 32, 38, 43, 47, 53, 58, 62, 65,
	80, 87, 93, 115, 125, 145, 155, 175, 185, 230, 250, 290, 310,
}

// A search narrows down for how long a used refresh token is accepted.
//
// Each session has one used refresh token at a time, whose age grows with the others'. It is
// sent once: some servers count from the last use. A session whose token was accepted rotates
// and is searched with again; one whose token was rejected is lost, where reuse ends sessions.
type search struct {
	*run
	pool     []*session
	lo, hi   time.Duration // accepted and rejected; hi is 0 until something was
	limit    time.Duration
	deadline time.Time
}

// search adds sessions to the pool, and returns all.
func (r *run) search(ctx context.Context, pool []*session) []*session {
	s := &search{run: r, limit: r.GraceLimit, lo: r.report.Refresh.AcceptedAfter.Duration()}
	if s.limit <= 0 {
		s.limit = 65 * time.Second
	}
	s.pool = r.fill(ctx, pool)
	s.deadline = time.Now().Add(searchTime + max(0, s.limit-65*time.Second))
	for {
		next, at := s.next(ctx)
		if next == nil {
			break
		}
		s.say("grace: accepted after %s%s; next try in %s, at most %s more; sessions: %d",
			short(s.lo), s.until(), short(time.Until(at)), short(time.Until(s.deadline)), len(living(s.pool)))
		if !pause(ctx, time.Until(at)) {
			break
		}
		s.try(ctx, next)
	}
	switch f := &r.report.Refresh; {
	case ctx.Err() != nil:
		r.report.missing("grace", "interrupted")
	case s.hi == 0 && s.lo < s.limit:
		r.report.missing("grace", "there was not enough time, or there were not enough sessions, to find its end")
	case s.hi > 0:
		f.RefusedAfter = seconds(s.hi)
	}
	return s.pool
}

// fill logs in until there are as many sessions as a search may use. Where a login ends those
// before, there is one at a time.
func (r *run) fill(ctx context.Context, pool []*session) []*session {
	for len(living(pool)) < r.sessions() {
		if r.report.Refresh.LoginEndsOthers == Yes && len(living(pool)) > 0 {
			break
		}
		s, err := r.signIn(ctx, signIn{})
		if err != nil || s.tok.RefreshToken == "" {
			r.report.missing("grace: sessions", "a further login failed")
			break
		}
		pool = r.join(ctx, pool, s)
	}
	return pool
}

func (r *run) sessions() int {
	if r.Sessions <= 0 {
		return 4
	}
	return r.Sessions
}

func (s *search) until() string {
	if s.hi == 0 {
		return ""
	}
	return ", rejected after " + short(s.hi)
}

// open returns the ages that would still say something.
func (s *search) open() (ages []time.Duration) {
	for _, p := range points {
		age := time.Duration(p * float64(time.Second))
		if age > s.lo && age <= s.limit && (s.hi == 0 || age < s.hi-500*time.Millisecond) {
			ages = append(ages, age)
		}
	}
	return ages
}

// next returns the session whose used refresh token is sent next, and when; nil if there is
// nothing more to find, or nothing to find it with.
//
// The sessions are spread over the open ages. The oldest used token gets the largest age that
// it has not passed; where all have, the youngest begins again.
func (s *search) next(ctx context.Context) (first *session, at time.Time) {
	ages := s.open()
	if len(ages) == 0 {
		return nil, at
	}
	if s.report.Refresh.LoginEndsOthers == Yes && len(living(s.pool)) == 0 && len(s.pool) < s.sessions()+2 && time.Now().Add(ages[0]).Before(s.deadline) {
		s.pool = s.fill(ctx, s.pool) // one more
	}
	s.renew(ctx, ages[len(ages)-1])
	free := living(s.pool)
	slices.SortFunc(free, func(a, b *session) int { return a.got.Compare(b.got) }) // oldest first
	for _, age := range s.spread(ages, len(free)) {
		one := s.assign(ctx, &free, age)
		if one == nil {
			continue
		}
		if due := one.got.Add(age); !due.After(s.deadline) && (first == nil || due.Before(at)) {
			first, at = one, due
		}
	}
	return first, at
}

// spread returns n of the ages, the largest first: those that cut them into equal parts. While
// nothing was rejected, one session waits for the limit, which takes longest.
func (s *search) spread(ages []time.Duration, n int) (some []time.Duration) {
	if s.hi == 0 && n > 1 {
		last := len(ages) - 1
		some, ages, n = append(some, ages[last]), ages[:last], n-1
	}
	n = min(n, len(ages))
	for i := n; i > 0; i-- {
		some = append(some, ages[i*(len(ages)+1)/(n+1)-1])
	}
	return some
}

// renew rotates each session that waits for nothing: it has no used refresh token, or one that
// is older than what is asked for.
func (s *search) renew(ctx context.Context, oldest time.Duration) {
	for _, one := range living(s.pool) {
		if one.parent == nil || time.Since(one.got) > oldest {
			one.dead = s.rotate(ctx, one) != nil
		}
	}
}

// assign takes from free the session for an age.
func (s *search) assign(ctx context.Context, free *[]*session, age time.Duration) *session {
	if len(*free) == 0 {
		return nil
	}
	i := slices.IndexFunc(*free, func(one *session) bool { return time.Since(one.got) <= age })
	again := i < 0
	if again {
		i = len(*free) - 1
	}
	one := (*free)[i]
	*free = slices.Delete(*free, i, i+1)
	if again {
		if one.dead = s.rotate(ctx, one) != nil; one.dead {
			return nil
		}
	}
	return one
}

// try sends the used refresh token of a session, and narrows.
func (s *search) try(ctx context.Context, one *session) {
	accepted, known, least, most := s.present(ctx, one)
	switch {
	case !known:
		one.dead = true // nobody knows what it is worth now
	case accepted:
		s.lo = max(s.lo, least)
	case s.hi == 0 || most < s.hi:
		s.hi = most
	}
}

func short(d time.Duration) string { return fmt.Sprintf("%.1f s", max(0, d.Seconds())) }

// pause waits, and reports whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(0, d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
