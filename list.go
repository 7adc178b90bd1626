package ctxlock

import (
	"context"
	"math"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// Waiters are counted for those who look (Locker.Look): each locker notes on the server, on a list beside the lock, how many of its calls
// stand in line for a name. Only for people to see: nothing rests on it. So it is noted late, when a line has stood for a while, and
// seldom, and of a process that crashed the note stays until it runs out.
const (
	// noteAfter is how long a line has to stand to be noted, and how often upkeep looks for what has changed.
	noteAfter = 250 * time.Millisecond
	// noteLife is how long a note lives, and noteAgain how often it is renewed.
	noteLife  = 45 * time.Second
	noteAgain = noteLife / 3
)

// note is what stands on a list, or may. There is one from when a line is noted until it is certain that nothing of it is left.
type note struct {
	count int           // none: it is being taken back
	at    time.Duration // when that was written last
	late  bool          // an earlier request was not answered, so it may still come
	until time.Duration // nothing is left of it then in any case
}

// lineChanged has upkeep look at the lines, in a while, or at once if one is gone that was noted. Under k.mu.
func (k *locker) lineChanged(name string) {
	due := k.now() + noteAfter
	if k.notes[name] != nil && k.lines[name] == nil {
		due -= noteAfter
	}
	k.lookAtLines(due)
}

// lookAtLines has upkeep look at the lines no later than that. Under k.mu.
func (k *locker) lookAtLines(due time.Duration) {
	if due < k.notesDue {
		k.notesDue = due
		if due < k.wakeAt {
			k.kickLocked()
		}
	}
}

// dueNotes has what has changed about the lines noted, and gives the time to look again. Under k.mu.
func (k *locker) dueNotes(now time.Duration) time.Duration {
	if now < k.notesDue {
		return k.notesDue
	}
	k.notesDue = never
	if k.noting { // it looks again when it is done
		return never
	}
	var names []string
	var ops []store.Op
	write := func(name string, n *note, count int) {
		n.count, n.at = count, now
		if count > 0 {
			n.until = now + noteLife + lateFor
		}
		names, ops = append(names, name), append(ops, k.noteOp(name, n))
	}
	for name, queue := range k.lines {
		n := k.notes[name]
		switch {
		case n == nil && now < queue.since+noteAfter:
			k.notesDue = min(k.notesDue, queue.since+noteAfter)
		case n == nil:
			n = &note{}
			k.notes[name] = n
			fallthrough
		case n.count != queue.count || now >= n.at+noteAgain:
			write(name, n, queue.count)
			k.notesDue = min(k.notesDue, now+noteAgain)
		default:
			k.notesDue = min(k.notesDue, n.at+noteAgain)
		}
	}
	for name, n := range k.notes {
		switch {
		case k.lines[name] != nil:
		case now >= n.until:
			delete(k.notes, name)
		case n.count > 0 || now >= n.at+n.pause():
			write(name, n, 0)
		default:
			k.notesDue = min(k.notesDue, n.at+n.pause())
		}
	}
	if len(ops) > 0 {
		k.noting = k.spawnLocked(func() { k.writeNotes(names, ops) })
	}
	return k.notesDue
}

// pause is how long after a note was taken back to see whether that has to be done again.
func (n *note) pause() time.Duration {
	if n.late {
		return 4 * noteAfter
	}
	return noteAfter
}

// noteOp is the request to write a note. Under k.mu.
func (k *locker) noteOp(name string, n *note) store.Op {
	return store.Op{Key: listKeyOf(k.prefix, name), Owner: k.id, Waiters: int32(min(n.count, math.MaxInt32)), Validity: noteLife}
}

// writeNotes writes notes, and sees what came of it. One batch goes out at a time, so that an older note does not come after a newer one.
func (k *locker) writeNotes(names []string, ops []store.Op) {
	ctx, cancel := context.WithTimeout(k.life, k.patience.now())
	defer cancel()
	k.enlist(ctx, ops)
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range ops {
		op := &ops[i]
		n := k.notes[names[i]]
		switch {
		case n == nil:
		case op.Unknown:
			n.late = true
		case op.Waiters == 0 && n.count == 0 && (op.Err == nil && !n.late || store.IsPermanent(op.Err)):
			delete(k.notes, names[i])
		}
	}
	k.noting = false
	k.lookAtLines(k.now() + noteAfter)
}

// enlist writes notes. What fails waits for its next turn.
func (k *locker) enlist(ctx context.Context, ops []store.Op) {
	k.onLanes(ops, func(ops []store.Op) { k.store.Enlist(ctx, ops) })
}

// takeBackNotes is what Close does about them.
func (k *locker) takeBackNotes(ctx context.Context) {
	k.mu.Lock()
	var ops []store.Op
	for name, n := range k.notes {
		n.count = 0
		ops = append(ops, k.noteOp(name, n))
	}
	k.mu.Unlock()
	k.enlist(ctx, ops)
}
