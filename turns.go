package ctxlock

import (
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// Peers that do without the queue (valkeylock, rueidislock, lockers with NoQueue) get a lock only when it is free, and hear of that later than
// those who have just given it back. So a lock that goes round among the waiters of one process, or through the queue, is left free at times:
// for a pause in which the queue takes nothing, long enough for a peer to ask for three keys one after another. It ends when one has it.
//
// While no peer is met, that is seldom. While peers are met, the kinds take turns: the queue has the lock as often as it has seen peers have it,
// and then leaves it free again. After a pause that nobody has used, the next one comes when the peers have been away for as long again.
const (
	mostPasses  = 16
	leastPassed = time.Second / 2
	leastYield  = 2 * time.Millisecond
	mostYield   = 100 * time.Millisecond
	yieldTrips  = 5
	yieldPart   = 50
	longAlone   = yieldPart * mostYield
)

// turns is when peers are to have a chance of a lock: once it was passed on so often, and not before a time. Both go with the lock from one
// holder to the next. Under k.mu.
type turns struct {
	left   int32
	due    time.Duration
	seen   time.Duration // when the lock was in this process last
	paused time.Duration // until when this process leaves it to others
	met    time.Duration // when a peer was seen to have it last; zero if none was
	peers  int32         // how often one was, since the queue had it
}

// took is for a lock that was free when it was taken. If it was in this process just before, nobody else has had a chance.
func (t *turns) took(now, interval time.Duration) {
	switch {
	case t.peers > 0:
		t.left, t.due, t.peers = min(t.peers, mostPasses)-1, now, 0
	case now-t.seen > contendedFor:
		t.left, t.due = mostPasses, now+interval
	default:
		t.left--
	}
	t.seen = now
}

// passed is for a lock that was passed on then.
func (t *turns) passed(p *store.Passed, then time.Duration) {
	t.left, t.due, t.peers = p.Passes, then+p.Remaining, 0
	if met := then - p.Alone; p.Alone < longAlone && met > t.met {
		t.met = met
	}
}

// passing is what goes with a lock that is passed on now.
func (t *turns) passing(now time.Duration) (left int32, remaining, alone time.Duration) {
	return max(t.left-1, 0), min(max(t.due-now, 0), longAlone), t.alone(now)
}

// alone is for how long no peer was met.
func (t *turns) alone(now time.Duration) time.Duration {
	if t.met == 0 {
		return longAlone
	}
	return min(now-t.met, longAlone)
}

// others is for a lock that others have, or have a chance of, now.
func (t *turns) others(now, interval time.Duration) {
	t.left, t.due = mostPasses, now+interval
	if alone := t.alone(now); alone < min(interval, longAlone) {
		t.left, t.due = 1, now+alone
	}
}

// meet is for a peer that has the lock.
func (t *turns) meet(now time.Duration) {
	t.met = now
	t.peers++
}

// over tells whether it is the peers' turn.
func (t *turns) over(now time.Duration) bool { return t.left <= 0 && now >= t.due }

// pauses is for how long a lock is left to others, and how often that is while no peers are met.
func (k *locker) pauses() (pause, interval time.Duration) {
	pause = min(max(leastYield, yieldTrips*time.Duration(k.patience.usual.Load())), mostYield)
	return pause, max(leastPassed, yieldPart*pause)
}

// took notes that the lock was taken free. Under k.mu.
func (k *locker) took(note *contention) {
	_, interval := k.pauses()
	note.turns.took(k.now(), interval)
}

// othersTurn notes that others have the lock, or a chance of it. Under k.mu.
func (k *locker) othersTurn(note *contention) {
	_, interval := k.pauses()
	note.turns.others(k.now(), interval)
}

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
	if !t.over(now) {
		return 0
	}
	pause, interval := k.pauses()
	t.others(now, interval)
	t.paused = now + pause
	return pause
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
