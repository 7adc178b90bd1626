package ctxlock

import (
	"context"
	"time"
)

// Waiters of one name in one process stand in line, first come first served. The first of them is called when nobody in this process has
// the lock, and alone speaks to the server. When it leaves, with the lock or without, the next one takes its place.
//
// A lock that is released while others stand in line is handed to the first of them without a word to the server: its keys stay what they
// are, and what is known of them, and trusted, goes from one holding to the next. That is bounded in number and by the trust window
// that the lock was taken with, so that other processes get their turn.

// line is who waits for one name in this process.
type line struct {
	first, last *waiter       // in order, linked by waiter.next; the first is the speaker, if it was called
	count       int           // how many wait
	since       time.Duration // when the first of them came
	streak      streak        // of those who have spoken to the server
}

// add stands a waiter at the end. Under k.mu.
func (l *line) add(w *waiter) {
	w.prev = l.last
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	l.count++
}

// remove takes out a waiter, wherever it stands. Thousands may leave at once, so it must not search. Under k.mu.
func (l *line) remove(w *waiter) {
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
	l.count--
}

// waiter is one call of WithContext that has to wait.
type waiter struct {
	called chan struct{} // of one: it is the speaker now, or was handed the lock
	// heir is the holding that the lock may be handed to, or that stands in the queue: ready, since somebody else's context must not be
	// called while a lock changes hands. Nil at first, and on terms on which locks are not handed on. Written under k.mu, by its own call.
	heir *holding
	// takes tells that it may take the lock from its holder (AcquireOption.From), so it speaks in any case.
	takes bool

	// Under k.mu:
	next, prev *waiter // in line

	inLine  bool          // it has not left the line yet
	speaks  bool          // it was called to speak
	won     bool          // it was handed the lock
	woken   chan struct{} // of one: the lock was released, or may have been. Made when it is called
	touched chan struct{} // of one: a key of the lock was touched. Made when it is called
}

// signal passes a hint on to the speaker. Under k.mu.
func (l *line) signal(wake bool) {
	if first := l.first; first.speaks && wake {
		first.hint(first.woken)
	} else if first.speaks {
		first.hint(first.touched)
	}
}

func (w *waiter) hint(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// call has the waiter speak.
func (w *waiter) call() {
	if !w.speaks && !w.won {
		w.speaks = true
		w.woken, w.touched = make(chan struct{}, 1), make(chan struct{}, 1)
		w.hint(w.called)
	}
}

// join stands a new waiter at the end of the line. It fails once the locker is closed; otherwise the caller has a
// place in k.work.
func (k *locker) join(name string, t *terms) (*waiter, error) {
	w := &waiter{called: make(chan struct{}, 1), takes: t.From != ""}
	k.crowd.Lock()
	defer k.crowd.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return nil, ErrLockerClosed
	}
	k.work.Add(1)
	queue := k.lines[name]
	if queue == nil {
		queue = &line{since: k.now()}
		k.lines[name] = queue
	}
	queue.add(w)
	w.inLine = true
	k.callNext(name)
	k.lineChanged(name)
	return w, nil
}

// makeHeir readies a waiter that stands in line to be handed the lock.
func (k *locker) makeHeir(ctx context.Context, name string, w *waiter, t *terms) {
	if !t.plain() {
		return
	}
	heir := k.newHolding(ctx, name, t, "", queued)
	k.crowd.Lock()
	defer k.crowd.Unlock()
	k.mu.Lock()
	w.heir = heir
	k.mu.Unlock()
}

// callNext has the first in line speak, unless the lock is in this process, where it waits for that, or others have their turn. Under k.mu.
func (k *locker) callNext(name string) {
	queue := k.lines[name]
	if queue == nil || k.paused(name) { // resume calls again
		return
	}
	if first := queue.first; first.takes || !k.heldHere(name) {
		first.call()
	}
}

// heldHere tells whether a holder of this process has the lock. Under k.mu.
func (k *locker) heldHere(name string) bool {
	for l := k.locks[name]; l != nil; l = l.next {
		if l.state == held {
			return true
		}
	}
	return false
}

// leaveLine takes a waiter out of the line, wherever it stands, and calls the next. l is what the waiter leaves with, or nil; a lock that it was
// handed, and has not seen, it gives back. It reports whether nobody is left.
func (k *locker) leaveLine(name string, w *waiter, l *holding) (empty bool) {
	k.crowd.Lock()
	k.mu.Lock()
	if queue := k.lines[name]; queue != nil && l != nil {
		queue.streak = streak{}
	}
	k.removeFromLine(name, w)
	k.callNext(name)
	empty = k.lines[name] == nil
	unseen := w.won && l == nil
	k.crowd.Unlock() // first: then it is one who waits for mu that runs next
	k.mu.Unlock()
	if unseen {
		w.heir.cancel()
	} else if w.heir != nil && w.heir != l {
		w.heir.end(errNotHanded)
	}
	return empty
}

// removeFromLine takes a waiter out, if it is still in it. Under k.mu.
func (k *locker) removeFromLine(name string, w *waiter) {
	if !w.inLine {
		return
	}
	w.inLine = false
	queue := k.lines[name]
	if queue.remove(w); queue.count == 0 {
		delete(k.lines, name)
	}
	k.lineChanged(name)
}

// wonBy is what a waiter was handed, or nil if it was called to speak.
func (k *locker) wonBy(w *waiter) *holding {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !w.won {
		return nil
	}
	return w.heir
}

// wakeLine tells the speaker of a release in this process, of which the store sends no event, or calls one.
func (k *locker) wakeLine(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wakeLocked(name)
}

// wakeLocked is wakeLine under k.mu.
func (k *locker) wakeLocked(name string) {
	if queue := k.lines[name]; queue != nil {
		queue.signal(true)
		k.callNext(name)
	}
}

// plain tells whether a lock on these terms can be handed on as it is: nothing on the servers is its holder's own, and somebody extends it.
func (t *terms) plain() bool {
	return !t.Fencing && !t.NoExtend && t.Metadata == "" && t.Value == "" && t.ValueFunc == nil && t.From == "" && t.Replicas == 0
}

// handOn gives a lock that is being released to the first in line, if that may be, and reports whether it did. Under k.mu.
func (k *locker) handOn(l *holding) bool {
	queue := k.lines[l.name]
	if queue == nil || l.state != held || k.ended || !l.mayBeHandedOn() {
		return false
	}
	w := queue.first
	if w.heir == nil || w.speaks || w.heir.Context.Err() != nil || w.heir.validity != l.validity {
		return false
	}
	k.removeFromLine(l.name, w)
	w.heir.inherit(l)
	w.won = true
	w.hint(w.called)
	return true
}

// mayBeHandedOn tells whether the lock is sound, and whether it is not yet the turn of other processes. No request for it may be under way: its
// answer would be taken for what a holder has left that is over, and an extension might undo one that its successor has sent. Under k.mu.
func (l *holding) mayBeHandedOn() bool {
	now := l.k.now()
	if note := l.k.contention[l.name]; note != nil && note.turns.met > 0 && note.turns.over(now) {
		return false
	}
	return int(l.handed) < l.k.localHandoffs && now < l.handEnds &&
		l.terms.plain() && l.bundle.Load() == nil && !l.again &&
		!l.open && l.unanswered == 0 && !l.restored && !l.anyLate() && l.count(mine) == len(l.keys) && l.until()-now > l.validity/4
}

// anyLate tells whether a claim may still come. Under k.mu.
func (l *holding) anyLate() bool {
	for i := range l.keys {
		if l.keys[i].late {
			return true
		}
	}
	return false
}

// inherit makes a holding that was ready the successor of one that ends: it has the same keys, and the same owner value. Under k.mu.
func (l *holding) inherit(from *holding) {
	k := l.k
	l.owner = from.owner
	copy(l.keys, from.keys)
	l.unanswered = 0
	l.mayLive, l.wakes = from.mayLive, from.wakes
	l.turn, l.extended, l.restless = from.turn, from.extended, from.restless
	l.queueing = from.queueing
	if l.queueing.note == nil {
		l.queueing.note = k.noteContention(l.name)
	}
	k.took(l.queueing.note)
	l.handed, l.handEnds = from.handed+1, from.handEnds
	l.granted = from.granted
	l.due = from.due
	from.stopTimer()
	k.unlink(from)
	k.link(l)
	l.state = held
	l.believe()
	k.schedule(l)
}
