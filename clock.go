package ctxlock

import (
	"fmt"
	"sync"
	"time"
)

// serverClock is what is known of one server's wall clock. Nothing rests on that clock being right, only on noticing when
// it jumps.
//
// It has two uses. Keys can be given an expiry in the server's own time (PXAT), so that a claim which is held up on its way,
// perhaps until after its sender has died, cannot plant a key that nobody owns. And when the clock has jumped ahead, keys have run
// out before their time while their holders may still trust them: then no claim is believed until that trust must be over.
type serverClock struct {
	drift drift
	usual time.Duration // the validity of most keys

	mu       sync.Mutex
	shortest time.Duration // of the validities that keys were given that may still live
	fades    time.Duration // when the key that has it has run out
	covered  time.Duration // when all have run out
	known    bool          // what follows is known
	doubtful bool          // since then, another server may have taken the place of that one
	ahead    time.Duration // server's time less ours, at the most
	spread   time.Duration // and at the least this much less than that
	seen     time.Duration // when that was learned
	jumped   time.Duration // when it was found to have jumped ahead last; zero if it has not
}

const (
	// freshFor is how long what is known is good enough to set an expiry by: drift is then below 30 ms.
	freshFor = time.Minute
	// askAfter is how old it may be for a claim not to ask for the time as well. Claims that succeed tell of the clock by themselves,
	// so this is for those that fail: a jump to and fro between two looks at the clock cannot be noticed.
	askAfter = 200 * time.Millisecond
	// askQueuedAfter is the same for a claim that stands in the queue: where those come often, hundreds of lockers ask one server.
	askQueuedAfter = time.Second
	// driftPart is how much clocks may drift apart: one part in 2000 is the most by which NTP slews.
	driftPart = 2000
)

type clockStep int

const (
	steady clockStep = iota
	jumpedBack
	jumpedAhead // the one that matters more
)

// deadline gives the server's time at which a key runs out that is to live for validity from now, in milliseconds. It errs
// on the late side. ok is false if the clock is not known well enough.
func (c *serverClock) deadline(now, validity time.Duration) (ms int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if validity <= c.shortest || now > c.fades {
		c.shortest, c.fades = validity, now+validity
	}
	c.covered = max(c.covered, now+validity)
	if !c.known || c.doubtful || now-c.seen > freshFor {
		return 0, false
	}
	return (now + c.ahead + validity).Milliseconds() + 1, true
}

// stale tells whether the clock should be asked for by a claim, that is, if nothing was heard of it for so long.
func (c *serverClock) stale(now, silence time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.known || c.doubtful || now-c.seen > silence
}

// tolerance is how far the clock may be from where it is expected, besides drift: half of the least margin. Under c.mu.
func (c *serverClock) tolerance() time.Duration {
	return max(c.drift.marginOf(c.shortest)/2, 10*time.Millisecond)
}

// observe learns from a server's time that was read at some moment between sent and now. If the clock has jumped ahead, claims are not
// believed for a while: see distrusted.
func (c *serverClock) observe(server, sent, now time.Duration) clockStep {
	c.mu.Lock()
	defer c.mu.Unlock()
	step := steady
	if c.known {
		tolerance := c.tolerance() + (now-c.seen)/driftPart
		switch {
		case server-now > c.ahead+tolerance:
			step = jumpedAhead
			c.jumped = now
		case server-sent < c.ahead-c.spread-tolerance:
			step = jumpedBack
		}
	}
	c.known, c.doubtful, c.ahead, c.spread, c.seen = true, false, server-sent, now-sent, now
	return step
}

// doubt is for when another server may answer from now on. No expiry is set by what is known until that has told its time. If its clock is
// ahead of the other's, that is as good as a jump: keys that it has from there run out before their time.
func (c *serverClock) doubt() {
	c.mu.Lock()
	c.doubtful = true
	c.mu.Unlock()
}

// distrusted gives an error while a claim for some validity is not to be believed: whoever held the name before the clock jumped ahead has
// held it for that, or for the usual one.
func (c *serverClock) distrusted(now, validity time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := c.jumped + max(validity, c.usual)
	if c.jumped == 0 || now >= until {
		return nil
	}
	return fmt.Errorf("the server's clock jumped ahead, so keys ran out before their time: not claimed for another %v", until-now)
}
