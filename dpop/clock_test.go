package dpop_test

import (
	"testing"
	"time"

	"example.com/authtrip/dpop"
)

func TestWrongClockCostsOneRequest(t *testing.T) {
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute, 25 * time.Hour} {
		s, keys := newServer(t), new(dpop.Keys)
		s.ahead = ahead
		src := s.source(t, keys, nil)
		src.Key = ""
		s.login(t, src, keys)
		for range 3 {
			want200(t, src, s.URL+"/api")
		}
		s.revoke()
		want200(t, src, s.URL+"/api")
		if n, api := s.tokens.Load(), s.api.Load(); n != 2 || api != 6 {
			t.Errorf("%v: token requests = %d, API requests = %d; want 2 and 6", ahead, n, api)
		}
	}
}

// TestWrongClockAndANonceCostOneRequest holds that the answer that has a nonce tells the
// time as well, whichever of the two the server looks at first.
func TestWrongClockAndANonceCostOneRequest(t *testing.T) {
	for _, first := range []bool{true, false} {
		for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
			s, keys := newServer(t), new(dpop.Keys)
			s.ahead, s.first = ahead, first
			s.demand("api", "a")
			s.demand("token", "t")
			src := s.source(t, keys, nil)
			src.Key = ""
			s.login(t, src, keys)
			for range 3 {
				want200(t, src, s.URL+"/api")
			}
			s.revoke()
			want200(t, src, s.URL+"/api")
			if n, api := s.tokens.Load(), s.api.Load(); n != 2 || api != 6 {
				t.Errorf("%v, nonce first %v: token requests = %d, API requests = %d; want 2 and 6", ahead, first, n, api)
			}
		}
	}
}

// TestClockThatIsSetCostsOneRequest holds that the difference is no fact for ever: one of
// the clocks is set, and set again.
func TestClockThatIsSetCostsOneRequest(t *testing.T) {
	s, keys := newServer(t), new(dpop.Keys)
	src := s.source(t, keys, nil)
	src.Key = ""
	s.login(t, src, keys)
	want := int32(0)
	for _, ahead := range []time.Duration{10 * time.Minute, 0, -10 * time.Minute, 10 * time.Minute} {
		s.mu.Lock()
		s.ahead = ahead
		s.mu.Unlock()
		for range 3 {
			want200(t, src, s.URL+"/api")
		}
		want += 4
	}
	if n, api := s.tokens.Load(), s.api.Load(); n != 1 || api != want {
		t.Errorf("token requests = %d, API requests = %d; want 1 and %d", n, api, want)
	}
}
