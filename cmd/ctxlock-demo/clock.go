package main

import "time"

// clocks is one moment on two clocks: that of the stamps, and the one of package time, which nobody can set.
type clocks struct {
	stamp time.Duration
	other time.Time
}

// readClocks reads both within a millisecond, or as closely as it can: on a busy machine much may happen between the two.
func readClocks() clocks {
	var best clocks
	apart := time.Duration(-1)
	for range 100 {
		before := now()
		other := time.Now()
		after := now()
		if apart < 0 || after-before < apart {
			best, apart = clocks{before, other}, after-before
		}
		if apart < time.Millisecond {
			break
		}
	}
	return best
}

// driftSince is how far the clock of the stamps has moved away from the other one.
func (c clocks) driftSince(earlier clocks) time.Duration {
	return c.stamp - earlier.stamp - c.other.Sub(earlier.other)
}
