package ctxlock

import "time"

// Peers that do not know of the queue, and whoever does without, get a lock only when it is free, and hear of that later than those who have
// just given it back. So a lock that goes round among the waiters of one process, or through the queue, is left free at times, and for a
// while nobody of those takes it: for so long that a peer can ask for three keys one after another. That while is a fiftieth of the
// time, so little is lost where there is nobody else.
const (
	mostPasses  = 16
	leastPassed = time.Second / 2
	leastYield  = 10 * time.Millisecond
	mostYield   = 100 * time.Millisecond
	yieldTrips  = 5
	yieldPart   = 50
)

// turns is how often a lock has changed hands since others had a chance of it. Under k.mu.
type turns struct {
	passes int32
	since  time.Duration // when that was
	seen   time.Duration // when it was in this process last
	paused time.Duration // until when this process leaves it to others
}

// took is for a lock that was free when it was taken. If it was in this process just before, nobody else has had a chance.
func (t *turns) took(now time.Duration) {
	if now-t.seen > contendedFor {
		t.passes, t.since = 0, now
	} else {
		t.passes++
	}
	t.seen = now
}

// passed is for a lock that has changed hands so often since then.
func (t *turns) passed(passes int32, since time.Duration) { t.passes, t.since = passes, since }

// yields decides whether a lock that is given back is to be left free now, and tells for how long; zero if not. Under k.mu.
func (k *locker) yields(l *holding) time.Duration {
	note := l.queueing.note
	if note == nil && k.lines[l.name] != nil {
		note = k.noteContention(l.name)
	}
	if note == nil {
		return 0
	}
	now, t := k.now(), &note.turns
	t.seen = now
	yield := min(max(leastYield, k.patience.trips(yieldTrips)), mostYield)
	if t.passes < mostPasses || now-t.since < max(leastPassed, yieldPart*yield) {
		return 0
	}
	t.passes, t.since, t.paused = 0, now, now+yield
	return yield
}

// paused tells whether this process leaves a name to others for now. Under k.mu.
func (k *locker) paused(name string) bool {
	note := k.contention[name]
	return note != nil && k.now() < note.turns.paused
}

// resume calls the first in line when a pause is over.
func (k *locker) resume(name string, pause time.Duration) {
	k.spawn(func() {
		sleepFor(k.life, pause)
		k.wakeLine(name)
	})
}
