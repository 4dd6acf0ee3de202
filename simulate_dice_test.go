package authtrip_test

import (
	"time"
)

// dice are thrown for everything that is left to chance in a simulation. Those for one
// purpose depend on the seed and the purpose only, not on what was thrown before: so a
// run repeats, whatever order the scheduler chooses within an instant.
type dice uint64

// purposes of dice.
const (
	forPlan uint64 = iota
	forOutages
	forStore
	forServer
	forCalls
	forOps
	forLife
	forLosses
	forBinding
	forKeys
	forNonces
	forAPI
)

func newDice(seed uint64, purpose ...uint64) dice {
	d := dice(seed*0x9e3779b97f4a7c15 + 1)
	for _, p := range purpose {
		d ^= dice(p + 0x632be59bd9b4e019)
		d.roll()
	}
	return d
}

// roll is splitmix64.
func (d *dice) roll() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	*d ^= dice(z)
	return z
}

func (d *dice) below(n int) int { return int(d.roll() % uint64(n)) }

// chance is true in so many of a thousand cases.
func (d *dice) chance(perMille int) bool { return d.below(1000) < perMille }

// between is a time to the nanosecond, so that two things hardly ever happen at once.
func (d *dice) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.roll()%uint64(most-least))
}

func oneOf[T any](d *dice, all ...T) T { return all[d.below(len(all))] }

// timeDice is the random of a Source in a bubble: the same time, the same number.
func timeDice(n int64) int64 {
	d := newDice(uint64(time.Now().UnixNano()), uint64(n))
	return int64(d.roll() % uint64(n))
}
