// Package jitter draws the random parts of waiting times, so that those who wait for the same thing do not all come at once.
package jitter

import (
	"math/rand/v2"
	"sync"
	"time"
)

var (
	mu     sync.Mutex
	seeded *rand.Rand // nil: the runtime's own source
)

// Seed makes what follows repeatable, for simulations; zero ends that. Locks in use elsewhere in the process are affected, too.
func Seed(seed uint64) {
	mu.Lock()
	defer mu.Unlock()
	seeded = nil
	if seed != 0 {
		seeded = rand.New(rand.NewPCG(seed, seed))
	}
}

// Between draws a duration from low up to but not including high; low if there is nothing between them.
func Between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	mu.Lock()
	defer mu.Unlock()
	if seeded != nil {
		return low + time.Duration(seeded.Int64N(int64(high-low)))
	}
	return low + rand.N(high-low)
}
