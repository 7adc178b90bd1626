package ctxlock

import (
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// circle is processes that pass a lock round among each other, each pass taking a while, as far as turns go.
type circle struct {
	at       int // who has it
	turns    []turns
	now      time.Duration
	pass     time.Duration
	pause    time.Duration
	interval time.Duration
}

func newCircle(n int) *circle {
	c := &circle{turns: make([]turns, n), now: time.Hour, pass: 100 * time.Microsecond, pause: 2 * time.Millisecond, interval: leastPassed}
	for i := range c.turns {
		c.turns[i].others(c.now, c.interval)
	}
	return c
}

// round has the lock go round until it is left free, and gives how often it was had, and for how long it went round.
func (c *circle) round() (had int, took time.Duration) {
	began := c.now
	for had = 1; !c.turns[c.at].over(c.now); had++ {
		from := &c.turns[c.at]
		p := new(store.Passed)
		p.Passes, p.Remaining, p.Alone = from.passing(c.now)
		c.now += c.pass
		c.at = (c.at + 1) % len(c.turns)
		c.turns[c.at].passed(p, c.now-c.pass)
	}
	c.turns[c.at].others(c.now, c.interval)
	c.at = (c.at + 1) % len(c.turns)
	c.turns[c.at].others(c.now, c.interval) // it is told to look
	return had, c.now - began
}

// left is for a pause in which some peers have the lock, one after the other; the next of the circle sees each.
func (c *circle) left(peers int) {
	for range peers {
		c.now += c.pause
		c.turns[c.at].meet(c.now)
		c.turns[c.at].others(c.now, c.interval)
	}
	c.now += c.pause
	c.turns[c.at].took(c.now, c.interval)
}

func TestWithoutPeersALockIsLeftFreeOncePerInterval(t *testing.T) {
	c := newCircle(8)
	for range 20 {
		if _, took := c.round(); took < leastPassed-c.pause-c.pass || took > leastPassed+c.pass {
			t.Fatalf("it went round for %v", took)
		}
		c.left(0)
	}
}

func TestALockThatGoesRoundSlowlyIsPassedOnSixteenTimes(t *testing.T) {
	c := newCircle(8)
	c.pass = time.Second
	for range 5 {
		if had, _ := c.round(); had < mostPasses || had > mostPasses+1 {
			t.Fatalf("%d had it", had)
		}
		c.left(0)
	}
}

func TestTheQueueHasALockAsOftenAsItHasSeenPeersHaveIt(t *testing.T) {
	for _, n := range []int{1, 2, 8} {
		c := newCircle(n)
		c.round()
		for _, peers := range []int{1, 1, 3, 1, 7, 2, mostPasses, 1} {
			c.left(peers)
			if had, _ := c.round(); had != peers {
				t.Errorf("%d in the queue: after %d peers %d had it", n, peers, had)
			}
		}
		c.left(10 * mostPasses)
		if had, _ := c.round(); had != mostPasses {
			t.Errorf("%d in the queue: after very many peers %d had it", n, had)
		}
	}
}

func TestPausesThatNobodyUsesComeEverMoreSeldom(t *testing.T) {
	for _, n := range []int{1, 2, 8} {
		c := newCircle(n)
		c.round()
		c.left(1)
		c.round()
		met, pauses, last := c.now, 0, time.Duration(0)
		for c.now-met < leastPassed {
			c.left(0)
			_, took := c.round()
			if pauses++; pauses > 1 && took < last {
				t.Errorf("%d in the queue: it went round for %v, and then for %v", n, last, took)
			}
			last = took
		}
		if pauses > 10 { // from 2 ms, doubling
			t.Errorf("%d in the queue: %d pauses in half a second", n, pauses)
		}
		c.left(0)
		if _, took := c.round(); took < leastPassed-c.pause-c.pass {
			t.Errorf("%d in the queue: still a pause after %v", n, took)
		}
	}
}

func TestWhatPassesOnGoesWithTheLock(t *testing.T) {
	sent := &store.Passed{Owner: "ctxlock/x/+1", Keys: 3, Epoch: 2, Token: 7, Passes: 5, Remaining: 130 * time.Microsecond, Alone: longAlone}
	event, ok := parsePassed("2 3 7 5 130 5000000 14 valkeylock:0:xctxlock/x/+1")
	if !ok || event.Key != "valkeylock:0:x" || *event.Passed != *sent {
		t.Errorf("%v, %+v", ok, event.Passed)
	}
	for _, text := range []string{"2 3 7 17 130 0 14 valkeylock:0:xy", "2 3 7 5 5000001 0 14 valkeylock:0:xy", "2 3 7 5 0 5000001 14 valkeylock:0:xy"} {
		if _, ok := parsePassed(text); ok {
			t.Errorf("%q was taken", text)
		}
	}
}
