package ctxlock

import (
	"math/rand/v2"
	"time"
)

// pacing is where one call stands with its RetryPolicy: each pause goes to a point in time. Until then the wait goes on as without a
// policy, so word that the lock may be free makes for more attempts, of which the policy is not told. Without a policy there is no such point.
type pacing struct {
	policy       RetryPolicy
	k            *locker
	began        time.Duration
	attempts     int
	at           time.Duration // when the pause ends; never, without a policy
	sleepThrough bool
	placed       bool // the caller has a place in k.work, which it gives up while somebody else's code runs
}

// outside runs somebody else's code, which may take its time, or close the locker. It reports whether the locker is still open.
func (p *pacing) outside(f func()) bool {
	if !p.placed {
		f()
		return true
	}
	p.placed = false
	p.k.work.Done()
	f()
	p.placed = p.k.enter()
	return p.placed
}

// leastPause keeps a policy that does not pause from asking a server without end.
const leastPause = time.Millisecond

// next asks the policy about an attempt that failed, and reports whether there is to be another.
func (p *pacing) next(err error) bool {
	if p.policy == nil {
		p.at = never
		return true
	}
	p.attempts++
	now := p.k.now()
	var r Retry
	if !p.outside(func() {
		r = p.policy.Retry(Attempt{Number: p.attempts, Elapsed: now - p.began, Err: err, Random: rand.Float64()})
	}) {
		return false
	}
	p.sleepThrough = r.SleepThrough
	p.at = now + min(max(r.After, leastPause), never-now)
	return r.Again
}

// goOn is next if the pause is over; else it goes on.
func (p *pacing) goOn(err error) bool {
	if p.k.now() < p.at {
		return true
	}
	return p.next(err)
}

// left is what is left of the pause, but at most so long.
func (p *pacing) left(most time.Duration) time.Duration {
	if p.at == never {
		return most
	}
	return min(most, max(p.at-p.k.now(), 0))
}
